"""Whether study, train and serve end within 15 s of a SIGTERM to their whole process group.

`python -m tests.benchmarks.group_signals study|train|serve|cgroup ...`: each is ended ten times, at
ten moments, and prints a line for each: the seconds, the exit status, what it said last, and what
was left running. A study so ended goes on with --resume, and at last to its end. `cgroup` sends
the signal to every process at once, Ray's included, as a service manager may.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

from pipeline.data.synthetic.corpus import synthesize
from tests.benchmarks.kills import STUDY
from tests.process_group import ProcessGroup
from tests.serving_tests.endpoint_process import free_port, get_status
from tuning.journal.file import JOURNAL

BAR_S = 15.0
PATIENCE_S = 600.0
AFFECTUNE = [sys.executable, "-m", "affectune"]
RAY_LINE = re.compile(r"\(raylet\)|core_worker|gcs_|Traceback|\bGCS\b|WARNING.*ray|ERROR")
SELECTION = ["--modalities", "voice,face", "--targets", "arousal"]
Moment = Callable[[ProcessGroup], bool]
"""Whether it has come."""


def after(seconds: float) -> Moment:
    """Return the moment so many seconds after the start of the command."""
    begin = time.monotonic()
    return lambda group: time.monotonic() - begin > seconds


def end_study(folder: Path, *, to_all: bool = False) -> bool:
    """End one study ten times, during Ray's start, the search and its end; then let it end."""
    command = _study_command(folder)
    fits = _journal_counts(folder / "out", b"trial_proposed")
    moments: list[tuple[str, Callable[[], Moment]]] = [
        ("1 s after the start", lambda: after(1)),
        *[(f"{seconds} s after the start", lambda s=seconds: after(s)) for seconds in (6, 9, 12)],
        *[(f"{extra} fits on", lambda n=extra: _more_than(fits, n)) for extra in (0, 1, 2, 5, 9)],
        ("when the winner is written", lambda: _exists(folder / "out" / "model" / "manifest.json")),
    ]

    are_good = []
    for name, moment in moments:
        group = ProcessGroup([*command, "--resume"], folder)
        are_good.append(_end(group, f"study, {name}", moment(), statuses=(1,), to_all=to_all))

    end = ProcessGroup([*command, "--resume"], folder).wait(PATIENCE_S)
    print(f"study, then left alone: status {end.status}", flush=True)
    return all(are_good) and end.status == 0


def end_study_of_a_control_group(folder: Path) -> bool:
    """Do the same with a signal to every process."""
    return end_study(folder, to_all=True)


def end_train(folder: Path) -> bool:
    """End `train --workers 2` ten times, while it starts and while it trains."""
    command = [*_train_command(folder), "--workers", "2"]
    are_good = []
    for number in range(1, 11):
        group = ProcessGroup(command, folder)
        name = f"train, {2 * number} s after the start"
        are_good.append(_end(group, name, after(2 * number), statuses=(1,)))
    return all(are_good)


def end_serve(folder: Path) -> bool:
    """End an endpoint ten times: while it starts, while it waits, and under requests."""
    trained = ProcessGroup(_train_command(folder, max_epochs=2), folder).wait(PATIENCE_S)
    if trained.status:
        raise RuntimeError(trained.output)

    # The status is 1 where it is ended before it has read what it is to serve.
    are_good = []
    for number in range(10):
        port = free_port()
        command = [
            sys.executable,
            "-u",
            *AFFECTUNE[1:],
            "serve",
            "--model",
            "model",
            "--port",
            str(port),
            "--replicas",
            "1",
        ]
        group = ProcessGroup(command, folder)
        if number < 4:
            name, moment = f"{4 * number + 2} s after the start", after(4 * number + 2)
        else:
            is_loaded = number >= 7
            name = "under requests" if is_loaded else "while it waits"
            moment = _serves(port, with_requests=is_loaded)
        are_good.append(_end(group, f"serve, {name}", moment, statuses=(0, 1)))
    return all(are_good)


def _end(
    group: ProcessGroup,
    name: str,
    moment: Moment,
    *,
    statuses: Sequence[int],
    to_all: bool = False,
) -> bool:
    """End a command at a moment, print how it ended, and return whether it did as it should."""
    while not moment(group) and group.process.poll() is None:
        time.sleep(0.05)
    before = len(group.output())
    if group.process.poll() is None:
        group.send_to_all() if to_all else group.send(signal.SIGTERM)
    end = group.wait(PATIENCE_S)

    is_good = end.seconds <= BAR_S and end.status in statuses and not end.left
    is_good = is_good and not RAY_LINE.search(end.output[before:])
    verdict = "ok" if is_good else "NOT AS IT SHOULD"
    last = end.output.strip().splitlines()[-1:] or [""]
    print(f"{verdict}: {name}: {end.seconds:.1f} s, status {end.status}, {last[0]!r}", flush=True)
    if not is_good:
        print(json.dumps({"left": end.left, "output": end.output[-2000:]}), flush=True)
    return is_good


def _journal_counts(folder: Path, event: bytes) -> Callable[[], int]:
    journal = folder / JOURNAL
    return lambda: journal.read_bytes().count(event) if journal.exists() else 0


def _more_than(count: Callable[[], int], number: int) -> Moment:
    before = count()
    return lambda group: count() > before + number


def _exists(path: Path) -> Moment:
    return lambda group: path.exists()


def _serves(port: int, *, with_requests: bool) -> Moment:
    def serves(group: ProcessGroup) -> bool:
        if "(Ctrl-C ends it)" not in group.output() or get_status(port, "/readyz") != 200:
            return False
        if with_requests:
            for _ in range(4):
                Thread(target=_send_requests, args=(port,), daemon=True).start()
            time.sleep(1)
        return True

    return serves


def _send_requests(port: int) -> None:
    """Send the example again and again until the endpoint is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/v1/example")
        body = connection.getresponse().read()
        while True:
            connection.request(
                "POST", "/v1/predictions", body, {"Content-Type": "application/json"}
            )
            connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return


def _study_command(folder: Path) -> list[str]:
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    synthesize(folder / "corpus", subjects=6, minutes=1, seed=0, preset="small")
    paths = ["--corpus", "corpus", "--out", "out", "--store", "store", "--workers", "2"]
    return [*AFFECTUNE, "study", "run", "study.toml", *paths, *SELECTION]


def _train_command(folder: Path, max_epochs: int = 2000) -> list[str]:
    stages = ("auto_encoder", "unimodal", "fusion")
    network = "network = { num_layers = 1, hidden_size = 8 }"
    fit = f"fit = {{ max_epochs = {max_epochs}, patience = {max_epochs} }}"
    spec = "\n".join(f"[{stage}]\n{network}\n{fit}" for stage in stages)
    (folder / "spec.toml").write_text(f"folds = 2\n{spec}", encoding="utf-8")
    synthesize(folder / "corpus", subjects=6, minutes=1, seed=0, preset="small")
    paths = ["--corpus", "corpus", "--out", "model", "--store", "store", "--spec", "spec.toml"]
    return [*AFFECTUNE, "train", *paths, *SELECTION]


KINDS: dict[str, Callable[[Path], bool]] = {
    "study": end_study,
    "train": end_train,
    "serve": end_serve,
    "cgroup": end_study_of_a_control_group,
}


def main(names: list[str]) -> None:
    """Run the named kinds, or all, each in a folder of its own."""
    unknown = sorted(set(names) - set(KINDS))
    if unknown:
        sys.exit(f"There is no {', '.join(unknown)}; there are: {', '.join(KINDS)}.")

    are_good = []
    for name in names or KINDS:
        with tempfile.TemporaryDirectory() as temporary:
            are_good.append(KINDS[name](Path(temporary)))
    sys.exit(0 if all(are_good) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
