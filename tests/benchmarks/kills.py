"""What a study endures: `python -m tests.benchmarks.kills driver|workers`, ten SIGKILLs at random times each.

Each prints what was killed when, and ends with an error where the study is not as it would have been. They take
minutes; the tests kill less often.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.data.synthetic import synthesize
from tests.tuning_tests.command import Command, training
from tests.tuning_tests.studies import told
from tuning.journal.history import read_history

KILLS = 10
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


def driver(folder: Path, seed: int) -> None:
    """Kill the driver, resume, and compare every trial, rung and choice with those of an undisturbed study.

    With one worker, so that what happens within a task does not depend on who was quicker.
    """
    whole, broken = _command(folder / "whole", workers=1), _command(folder / "broken", workers=1)
    begin = time.monotonic()
    _check(*whole.run())
    print(f"undisturbed: {time.monotonic() - begin:.0f} s, {whole.ended()} fits", flush=True)
    times = random.Random(seed)
    for number in range(KILLS):
        process = broken.start("--resume")
        while not training(process.pid) and process.poll() is None:
            time.sleep(0.05)
        wait_s = times.uniform(0, 6)
        time.sleep(wait_s)
        process.kill()
        said, _ = process.communicate()
        if process.returncode != -9:
            raise RuntimeError(f"It ended by itself with status {process.returncode}: {said}")
        print(
            f"kill {number + 1} {wait_s:.1f} s after training went on: {broken.ended()} fits ended",
            flush=True,
        )
    _check(*broken.run("--resume"))
    same = told(broken.folder / "out") == told(whole.folder / "out")
    print(f"driver: {KILLS} kills; trials, epochs, rungs and choices as undisturbed: {same}")
    if not same:
        sys.exit(1)


def workers(folder: Path, seed: int) -> None:
    """Kill workers in the middle of trials; the study completes, and no trial fails."""
    command = _command(folder, workers=2)
    process = command.start()
    times, killed = random.Random(seed), 0
    end = 0.0
    while process.poll() is None:
        found = training(process.pid)
        if killed < KILLS and found and time.monotonic() > end:
            times.choice(found).kill()
            killed += 1
            print(f"kill {killed}: {command.ended()} fits ended", flush=True)
            end = time.monotonic() + times.uniform(2, 7)
        time.sleep(0.05)
    said, _ = process.communicate()
    _check(process.returncode, said)
    trials = read_history(command.folder / "out").trials.values()
    failed = sum(trial.ended is None or trial.ended.reason == "error" for trial in trials)
    print(f"workers: {killed} kills, {len(trials)} trials, {failed} failed")
    if failed or killed < KILLS:
        sys.exit(1)


def _command(folder: Path, workers: int) -> Command:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    synthesize(folder / "corpus", subjects=6, minutes=2, seed=0, preset="small")
    return Command(folder, folder / "study.toml", folder / "corpus", workers)


def _check(status: int, said: str) -> None:
    if status:
        raise subprocess.CalledProcessError(status, "affectune study run", said)


KINDS: dict[str, Callable[[Path, int], None]] = {"driver": driver, "workers": workers}


if __name__ == "__main__":
    for name in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory() as temporary:
            KINDS[name](Path(temporary), time.time_ns() % 1000)
