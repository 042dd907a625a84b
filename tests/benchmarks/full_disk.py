"""What a study makes of a disk that is full at a random moment: it goes on to the same winner.

Each moment has a file system of its own, which holds the study's folder, its store and its database
of MLflow. At half of the moments there is room again while the study waits; at the others the study
ends, in a sentence, and is resumed. AFFECTUNE_BENCH_MOMENTS sets how many moments there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from pipeline.data.synthetic.corpus import synthesize
from tests.benchmarks.rows import Row
from tests.tuning_tests.command import TIMEOUT_S, Command
from tests.tuning_tests.studies import events_by_task
from tuning.journal.file import JOURNAL
from tuning.journal.history import read_history

NUM_MOMENTS = int(os.environ.get("AFFECTUNE_BENCH_MOMENTS", "50"))
SIZE = "64m"
BALLAST = "ballast"
STUDY = """
name = "full"
folds = 2
[auto_encoder]
network = { num_layers = 1, hidden_size = 4 }
fit = { max_epochs = 3 }
[unimodal]
network = { num_layers = 1, hidden_size = 4 }
fit = { max_epochs = 3 }
[fusion]
network = { num_layers = 1, hidden_size = 4 }
fit = { max_epochs = 3 }
[search.auto_encoder]
sampler = "grid"
grace_epochs = 1
finalists = 1
seeds = 1
[search.auto_encoder.space]
"network.bottleneck_size" = { choice = [1, 2] }
[search.unimodal]
trials = 3
sampler = "tpe"
grace_epochs = 1
finalists = 1
seeds = 1
[search.unimodal.space]
"fit.learning_rate" = { loguniform = [0.001, 0.1] }
[search.fusion]
trials = 2
sampler = "random"
grace_epochs = 1
finalists = 1
seeds = 1
[search.fusion.space]
"fit.learning_rate" = { loguniform = [0.001, 0.1] }
"""


def full_disk_rows() -> list[Row]:
    """Fill the disk at random moments of a small study; count what ended as it should."""
    if os.geteuid():
        print("NOT MEASURED: full_disk mounts file systems, and only root may.", flush=True)
        return []

    random = Random(0)
    counts = dict.fromkeys(("same winner", "explained", "without a failed trial"), 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "study.toml").write_text(STUDY, encoding="utf-8")
        synthesize(folder / "corpus", subjects=6, minutes=1, seed=0, preset="small")
        undisturbed = _command(folder, folder / "undisturbed")
        num_events = _num_events_undisturbed(undisturbed)
        print(f"undisturbed: {num_events} events", flush=True)

        for number in range(1, NUM_MOMENTS + 1):
            with _file_system(folder / "disk") as disk:
                event = random.randrange(1, num_events + 1)
                moment = _Moment(_command(folder, disk), event, random.uniform(0, 0.5))
                said = moment.wait_it_out(5.0) if number % 2 else moment.resume()
                is_same = _outcome(disk / "out") == _outcome(undisturbed.folder / "out")
                has_failed = '"reason":"error"' in (disk / "out" / JOURNAL).read_text()
                counts["same winner"] += is_same
                counts["explained"] += moment.is_explained
                counts["without a failed trial"] += not has_failed
            print(
                f"moment {number}, after event {event}: {said}; same winner: {is_same}, "
                f"no failed trial: {not has_failed}, a sentence: {moment.is_explained}",
                flush=True,
            )
    return [
        Row(f"full_disk {name}", count, NUM_MOMENTS, "moments", count / NUM_MOMENTS)
        for name, count in counts.items()
    ]


class _Moment:
    """A disk that is full from some time after an event of a study.

    Args:
        command: the study's.
        event: the number of the event, which does not depend on how busy the machine is.
        wait_s: that time.

    Attributes:
        is_explained: whatever the study said was sentences, and its last one names the mend.
    """

    def __init__(self, command: Command, event: int, wait_s: float) -> None:
        self.is_explained = True
        self._command, self._disk = command, command.folder
        self._process = command.start()
        while _num_events(self._disk / "out") < event and self._process.poll() is None:
            time.sleep(0.02)
        time.sleep(wait_s)
        _fill(self._disk / BALLAST)

    def wait_it_out(self, seconds: float) -> str:
        """Make room while the study waits; what it cannot wait for is resumed."""
        time.sleep(seconds)
        (self._disk / BALLAST).unlink()
        return self._finish()

    def resume(self) -> str:
        """Wait for the study's end, then make room, and resume it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(TIMEOUT_S)
        (self._disk / BALLAST).unlink()
        return self._finish()

    def _finish(self) -> str:
        output, _ = self._process.communicate(timeout=TIMEOUT_S)
        status, said = self._process.returncode, "it waited, or was done"
        self.is_explained = "Traceback" not in output
        if status:
            last = output.strip().splitlines()[-1]
            said = "it ended, and was resumed"
            self.is_explained &= last.startswith("Error: ") and (
                "Make room" in last or "--resume" in last
            )
            if not self.is_explained:
                print(output[-3000:], flush=True)
            status, output = self._command.run("--resume")
        if status:
            self.is_explained = False
            print(output[-3000:], flush=True)
        return said


def _num_events_undisturbed(command: Command) -> int:
    command.folder.mkdir()
    status, output = command.run()
    if status:
        sys.exit(f"The undisturbed study ended with status {status}: {output}")
    return _num_events(command.folder / "out")


def _outcome(out: Path) -> object:
    """Return all trials and choices, and the winner's scores; None where there is no winner."""
    try:
        summary = json.loads((out / "summary.json").read_text())
    except FileNotFoundError:
        return None
    return events_by_task(out), summary["targets"], read_history(out).registered is not None


def _num_events(out: Path) -> int:
    journal = out / JOURNAL
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def _fill(path: Path) -> None:
    """Write a file until there is no room."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def _file_system(folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs"]
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _command(folder: Path, place: Path) -> Command:
    return Command(place, folder / "study.toml", folder / "corpus", 1)
