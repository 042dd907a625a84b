"""What a study spends outside its fits: 300 short trials recorded in MLflow, and tasks of which some cost much more."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.corpus import Corpus, Session
from pipeline.fitting.trainer import Trainer
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.unimodal import unimodal_task
from tests.benchmarks.timed_study import (
    TimedStudy,
    get_ready,
    started_ray,
    study_of,
    synthetic_corpus,
    timed_study,
)
from tuning.spec.study_spec import StudySpec

OVERHEAD_BAR, BUSY_BAR, SPREAD_BAR = 0.15, 0.85, 5.0
TRIAL_S = 3.0
"""A trial of the short ones, in the mean; ASHA stops most of them early."""
WHOLE_S = 1.6 * TRIAL_S
"""A fit that is not stopped: the mean of 300 is then about TRIAL_S."""
Row = dict[str, str | float]

SHORT = """
name = "short trials"
folds = 2
[auto_encoder]
network = {{ num_layers = 2 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[unimodal]
network = {{ num_layers = 2 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[fusion]
network = {{ num_layers = 2 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[search.unimodal]
sampler = "tpe"
trials = {trials}
grace_epochs = {grace}
finalists = 3
seeds = 4
[search.unimodal.space]
"network.dropout" = {{ uniform = [0.0, 0.5] }}
"fit.learning_rate" = {{ loguniform = [0.0003, 0.01] }}
"fit.weight_decay" = {{ loguniform = [1e-6, 1e-2] }}
"""
REFITS = 3 * 4 * 2 - 3 + 2 + 4
"""Finalists on folds and seeds, but for what the search has trained; one auto-encoder, one fusion with and without."""

UNEVEN = """
name = "uneven tasks"
folds = 3
[auto_encoder]
network = {{ num_layers = 2 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[unimodal]
network = {{ num_layers = 2 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[fusion]
network = {{ num_layers = 2 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[search.auto_encoder]
sampler = "random"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.auto_encoder.space]
"network.bottleneck_size" = {{ choice = [2, 4, 8] }}
"fit.learning_rate" = {{ loguniform = [0.0003, 0.01] }}
[search.unimodal]
sampler = "tpe"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 1
[search.unimodal.space]
"network.dropout" = {{ uniform = [0.0, 0.5] }}
"fit.learning_rate" = {{ loguniform = [0.0003, 0.01] }}
[search.fusion]
sampler = "tpe"
trials = {trials}
grace_epochs = {grace}
finalists = 2
seeds = 2
[search.fusion.space]
"fit.learning_rate" = {{ loguniform = [0.0001, 0.005] }}
"""


def overhead_rows(num_trials: int = 300, uneven_trials: int = 9) -> list[Row]:
    """Overhead with short trials, busy share with uneven tasks; ratio above 1 is within the bar.

    Args:
        num_trials: short ones, refits included; about so many; more than 40.
        uneven_trials: per task of the second study, refits not included.
    """
    get_ready()
    with tempfile.TemporaryDirectory() as folder:
        short = _short(Path(folder) / "short", num_trials)
        uneven = _uneven(Path(folder) / "uneven", uneven_trials)
    overhead, busy = 1 - short.busy_share, uneven.busy_share
    costs = uneven.mean_cost_s().values()
    spread = max(costs) / min(costs)
    return [
        _row("trial_overhead", overhead, OVERHEAD_BAR, "share", OVERHEAD_BAR / overhead),
        _row("busy_share_uneven", busy, BUSY_BAR, "share", busy / BUSY_BAR),
        _row("uneven_cost_spread", spread, SPREAD_BAR, "max/min", spread / SPREAD_BAR),
    ]


def _row(name: str, found: float, bar: float, unit: str, ratio: float) -> Row:
    return {
        "name": name,
        "ours": round(found, 4),
        "other": bar,
        "unit": unit,
        "ratio": round(ratio, 2),
    }


def _short(folder: Path, num_trials: int) -> TimedStudy:
    """One modality, and a search of many trials of about TRIAL_S; every one is recorded in sqlite."""
    corpus = synthetic_corpus(folder / "corpus", subjects=10, minutes=5, modalities=("voice",))
    sizes = {"trials": num_trials - REFITS}
    draft = study_of(SHORT.format(epochs=4, grace=1, **sizes), corpus)
    epochs = max(4, round(WHOLE_S / _epoch_s(draft, corpus)))
    study = study_of(SHORT.format(epochs=epochs, grace=max(1, epochs // 3), **sizes), corpus)
    return _timed("short trials", study, corpus, folder, f"sqlite:///{folder / 'mlflow.db'}")


def _uneven(folder: Path, trials: int) -> TimedStudy:
    """Three modalities, of which one has many columns; regressors wait for auto-encoders, and fusion for regressors."""
    corpus = synthetic_corpus(
        folder / "corpus", subjects=10, minutes=5, modalities=("face", "physio", "voice")
    )
    corpus = _widened(corpus, "voice", 1200)
    study = study_of(UNEVEN.format(epochs=16, grace=4, trials=trials), corpus)
    return _timed("uneven tasks", study, corpus, folder, f"sqlite:///{folder / 'mlflow.db'}")


def _timed(name: str, study: StudySpec, corpus: Corpus, folder: Path, uri: str) -> TimedStudy:
    with started_ray() as start_s:
        found = timed_study(study, corpus, folder, tracking_uri=uri)
    seconds = sum(ended.wall_s for ended in found.ended)
    print(
        f"{name}: {len(found.ended)} fits of {seconds / len(found.ended):.2f} s in {found.span_s:.1f} s, "
        f"{found.busy_share:.1%} of the workers' time within fits ({found.trained_share:.1%} of it training, by the "
        f"processor's clock); Ray started in {start_s:.1f} s, MLflow knew all {found.late_s:.1f} s after the end",
        file=sys.stderr,
    )
    for task, cost_s in found.mean_cost_s().items():
        print(f"  {task}: {cost_s:.2f} s a fit to the end", file=sys.stderr)
    return found


def _epoch_s(study: StudySpec, corpus: Corpus) -> float:
    """Seconds of an epoch of the regressor on this machine, alone."""
    fold = CrossFitPlan.of(corpus, study.base).folds[0]
    task = unimodal_task(
        corpus, study.base, fold, corpus.modalities[0], corpus.targets[0], None, ()
    )
    training = Trainer(task, corpus)
    training.step()
    begin = time.perf_counter()
    for _ in range(3):
        training.step()
    return (time.perf_counter() - begin) / 3


def _widened(corpus: Corpus, modality: str, num_columns: int) -> Corpus:
    """The same corpus, with the columns of one modality repeated."""
    places = np.arange(num_columns) % len(corpus.columns[modality])

    def widened(session: Session) -> Session:
        features = {**session.features, modality: session.features[modality][:, places]}
        return dataclasses.replace(session, features=features)

    columns = {**corpus.columns, modality: tuple(map(str, range(num_columns)))}
    return dataclasses.replace(
        corpus, columns=columns, sessions=tuple(map(widened, corpus.sessions))
    )
