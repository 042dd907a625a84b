"""A study against a plain Ray Tune script: the same configurations, epochs and winner rule, two workers each."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.plain_tune import plain_search
from tests.benchmarks.timed_study import (
    get_ready,
    started_ray,
    study_of,
    synthetic_corpus,
    timed_study,
)
from tuning.journal.events import Finalist
from tuning.spec.tasks import Task

Row = dict[str, str | float]

STUDY = """
name = "against plain Tune"
folds = 2
[auto_encoder]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = 15, hop_frames = 100 }}
[unimodal]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = 15, hop_frames = 100 }}
[fusion]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = 15, hop_frames = 100 }}
[search.auto_encoder]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.auto_encoder.space]
"network.bottleneck_size" = {{ choice = [2, 4, 8] }}
"fit.learning_rate" = {{ choice = [0.001, 0.005, 0.0005] }}
[search.unimodal]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.unimodal.space]
"network.dropout" = {{ choice = [0.1, 0.2, 0.5] }}
"fit.learning_rate" = {{ choice = [0.001, 0.005, 0.0005] }}
"fit.loss" = {{ choice = ["ccc", "mse", "l1"] }}
"auto_encoder" = {{ top = 2 }}
[search.fusion]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.fusion.space]
"network.dropout" = {{ choice = [0.1, 0.2, 0.5] }}
"fit.learning_rate" = {{ choice = [0.001, 0.005, 0.0005] }}
"unimodal" = {{ top = 2 }}
"""


def study_rows(*, epochs: int = 30, trials: int = 8, layers: int = 4) -> list[Row]:
    """Wall time of both, Ray running already, and the winner's CCC.

    Both have the same patience; only ours compares trials on the way. Ours also trains the winner without difficulty,
    puts the model together, evaluates and writes it, and its wall time holds all of that; the plain one ends with the
    finalists of fusion. Neither is recorded in MLflow, and neither has Tune's own loggers.

    Args:
        epochs: at most, of every fit.
        trials: configurations per task.
        layers: of 64 units in both directions.
    """
    get_ready()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = synthetic_corpus(
            folder / "corpus", subjects=10, minutes=5, modalities=("face", "voice")
        )
        sizes = {"epochs": epochs, "grace": max(1, epochs // 6), "trials": trials, "layers": layers}
        study = study_of(STUDY.format(**sizes), corpus)
        with started_ray() as start_s:
            ours = timed_study(study, corpus, folder / "ours")
            print(
                f"ours: {len(ours.ended)} fits, {ours.wall_s:.1f} s; Ray started in {start_s:.1f} s",
                file=sys.stderr,
            )
        with started_ray() as start_s:
            begin = time.perf_counter()
            settled = plain_search(study, corpus, folder / "plain")
            plain_s = time.perf_counter() - begin
            print(f"plain: {plain_s:.1f} s; Ray started in {start_s:.1f} s", file=sys.stderr)
    winner = Task("fusion", "", "arousal")
    return [
        _row("study_wall", ours.wall_s, plain_s, "s", plain_s / ours.wall_s),
        *_ccc_rows(ours.history.settled[winner][0], settled[winner][0]),
    ]


def _ccc_rows(ours: Finalist, plain: Finalist) -> list[Row]:
    """The winners' CCC: the one that decided (training subjects out of fold, and devel), and devel's alone."""
    found = {
        "study_winner_ccc": (ours.score, plain.score),
        "study_winner_devel_ccc": (ours.devel[0], plain.devel[0]),
    }
    return [_row(name, own, other, "CCC", own / other) for name, (own, other) in found.items()]


def _row(name: str, ours: float, other: float, unit: str, ratio: float) -> Row:
    return {
        "name": name,
        "ours": round(ours, 4),
        "other": round(other, 4),
        "unit": unit,
        "ratio": round(ratio, 3),
    }
