"""What a study endures: ten SIGKILLs at random times of its driver, or of its workers.

`python -m tests.benchmarks.kills driver|workers`: each prints what was killed when, and fails where
the study is not as it would have been. They take minutes; the tests kill less often.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from pipeline.data.synthetic.corpus import synthesize
from tests.tuning_tests.command import Command, fitting_workers
from tests.tuning_tests.studies import events_by_task
from tuning.journal.history import read_history

NUM_KILLS = 10
STUDY = """
name = "killed"
folds = 2
[auto_encoder]
network = { num_layers = 1, hidden_size = 32 }
fit = { max_epochs = 30, patience = 30 }
[unimodal]
network = { num_layers = 2, hidden_size = 48 }
fit = { max_epochs = 60, patience = 60 }
[fusion]
network = { num_layers = 1, hidden_size = 32 }
fit = { max_epochs = 40, patience = 40 }
[search.auto_encoder]
sampler = "grid"
grace_epochs = 5
finalists = 1
seeds = 1
[search.auto_encoder.space]
"network.bottleneck_size" = { choice = [1, 2, 4] }
[search.unimodal]
trials = 8
sampler = "tpe"
grace_epochs = 5
reduction_factor = 2
finalists = 2
seeds = 2
[search.unimodal.space]
"fit.learning_rate" = { loguniform = [0.0005, 0.02] }
[search.fusion]
trials = 6
sampler = "random"
grace_epochs = 5
finalists = 2
seeds = 2
[search.fusion.space]
"fit.learning_rate" = { loguniform = [0.0005, 0.02] }
"""


def kill_driver(folder: Path, seed: int) -> None:
    """Kill the driver ten times, and compare all trials and choices with an undisturbed study's.

    With one worker, so that what happens within a task does not depend on who was quicker.
    """
    undisturbed = _command(folder / "undisturbed", workers=1)
    disturbed = _command(folder / "disturbed", workers=1)

    begin = time.monotonic()
    _raise_if_failed(*undisturbed.run())
    duration_s = time.monotonic() - begin
    print(f"undisturbed: {duration_s:.0f} s, {undisturbed.num_ended()} fits", flush=True)

    random = Random(seed)
    for number in range(1, NUM_KILLS + 1):
        wait_s = random.uniform(0, 6)
        _resume_and_kill(disturbed, wait_s)
        print(
            f"kill {number} {wait_s:.1f} s after training went on: "
            f"{disturbed.num_ended()} fits ended",
            flush=True,
        )
    _raise_if_failed(*disturbed.run("--resume"))

    is_same = events_by_task(disturbed.folder / "out") == events_by_task(undisturbed.folder / "out")
    print(f"driver: {NUM_KILLS} kills; trials, epochs, rungs and choices as undisturbed: {is_same}")
    if not is_same:
        sys.exit(1)


def _resume_and_kill(command: Command, wait_s: float) -> None:
    """Resume a study, and kill its driver some time after training goes on."""
    process = command.start("--resume")
    while not fitting_workers(process.pid) and process.poll() is None:
        time.sleep(0.05)

    time.sleep(wait_s)
    process.kill()
    output, _ = process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"It ended by itself with status {process.returncode}: {output}")


def kill_workers(folder: Path, seed: int) -> None:
    """Kill ten workers in the middle of trials; the study completes, and no trial fails."""
    command = _command(folder, workers=2)
    random = Random(seed)
    num_kills, next_kill = 0, 0.0

    process = command.start()
    while process.poll() is None:
        busy = fitting_workers(process.pid)
        if num_kills < NUM_KILLS and busy and time.monotonic() > next_kill:
            random.choice(busy).kill()
            num_kills += 1
            print(f"kill {num_kills}: {command.num_ended()} fits ended", flush=True)
            next_kill = time.monotonic() + random.uniform(2, 7)
        time.sleep(0.05)

    output, _ = process.communicate()
    _raise_if_failed(process.returncode, output)

    trials = read_history(command.folder / "out").trials.values()
    num_failed = sum(trial.ended is None or trial.ended.reason == "error" for trial in trials)
    print(f"workers: {num_kills} kills, {len(trials)} trials, {num_failed} failed")
    if num_failed or num_kills < NUM_KILLS:
        sys.exit(1)


def _command(folder: Path, workers: int) -> Command:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    synthesize(folder / "corpus", subjects=6, minutes=2, seed=0, preset="small")
    return Command(folder, folder / "study.toml", folder / "corpus", workers)


def _raise_if_failed(status: int, output: str) -> None:
    if status:
        raise RuntimeError(f"affectune study run ended with status {status}: {output}")


KINDS: dict[str, Callable[[Path, int], None]] = {"driver": kill_driver, "workers": kill_workers}


def main(names: list[str]) -> None:
    """Run the named kinds, or both, each in a folder of its own and at other times."""
    unknown = sorted(set(names) - set(KINDS))
    if unknown:
        sys.exit(f"There is no {', '.join(unknown)}; there are: {', '.join(KINDS)}.")

    for name in names or KINDS:
        with tempfile.TemporaryDirectory() as temporary:
            KINDS[name](Path(temporary), time.time_ns() % 1000)


if __name__ == "__main__":
    main(sys.argv[1:])
