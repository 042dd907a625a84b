"""What a study spends outside its fits.

One study has 300 short trials that are recorded in MLflow, the other has tasks of which some cost
much more than others.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.corpus import Corpus
from pipeline.fitting.trainer import Trainer
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.unimodal import UnimodalTask
from tests.benchmarks.rows import Row, less_is_better, more_is_better
from tests.benchmarks.timed_study import (
    TimedStudy,
    prepare_process,
    started_ray,
    study_of,
    synthetic_corpus,
    timed_study,
)
from tuning.spec.study_spec import StudySpec

OVERHEAD_BAR, BUSY_BAR, SPREAD_BAR = 0.15, 0.85, 5.0
TRIAL_S = 3.0
"""Mean length of a short trial; early stopping ends most of them before their last epoch."""
COMPLETE_TRIAL_S = 1.6 * TRIAL_S
"""Length of a trial that is not stopped: the mean of 300 is then about TRIAL_S."""

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
NUM_REFITS = 3 * 4 * 2 - 3 + 2 + 4
"""Fits of SHORT beside the trials of its search.

Three finalists with four seeds on two folds, without the three that the search has trained; an
auto-encoder on two folds; a fusion with and without difficulty on two folds.
"""

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
    """Return the overhead of short trials and the busy share of uneven tasks, beside their bars.

    Args:
        num_trials: fits of the first study, refits included; about so many; more than 40.
        uneven_trials: per task of the second study, refits not included.
    """
    prepare_process()
    with tempfile.TemporaryDirectory() as temporary:
        short = _run_short_trials(Path(temporary) / "short", num_trials)
        uneven = _run_uneven_tasks(Path(temporary) / "uneven", uneven_trials)

    costs_s = uneven.mean_cost_s().values()
    spread = max(costs_s) / min(costs_s)
    return [
        less_is_better("trial_overhead", 1 - short.busy_share, OVERHEAD_BAR, "share"),
        more_is_better("busy_share_uneven", uneven.busy_share, BUSY_BAR, "share"),
        more_is_better("uneven_cost_spread", spread, SPREAD_BAR, "max/min"),
    ]


def _run_short_trials(folder: Path, num_trials: int) -> TimedStudy:
    """Run a study of one modality, and a search of many trials of about TRIAL_S."""
    corpus = synthetic_corpus(folder / "corpus", subjects=10, minutes=5, modalities=("voice",))
    num_searched = num_trials - NUM_REFITS

    draft = study_of(SHORT.format(epochs=4, grace=1, trials=num_searched), corpus)
    epochs = max(4, round(COMPLETE_TRIAL_S / epoch_s(draft, corpus)))
    grace = max(1, epochs // 3)
    study = study_of(SHORT.format(epochs=epochs, grace=grace, trials=num_searched), corpus)

    return _run_recorded("short trials", study, corpus, folder)


def _run_uneven_tasks(folder: Path, trials: int) -> TimedStudy:
    """Run a study of three modalities, of which one has many columns."""
    corpus = synthetic_corpus(
        folder / "corpus", subjects=10, minutes=5, modalities=("face", "physio", "voice")
    )
    corpus = _widened(corpus, "voice", 1200)
    study = study_of(UNEVEN.format(epochs=16, grace=4, trials=trials), corpus)
    return _run_recorded("uneven tasks", study, corpus, folder)


def _run_recorded(title: str, study: StudySpec, corpus: Corpus, folder: Path) -> TimedStudy:
    """Run a study that is recorded in MLflow, in a database file; print where its time went."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with started_ray() as start_s:
        timed = timed_study(study, corpus, folder, tracking_uri=uri)

    num_fits = len(timed.ended)
    mean_s = sum(ended.wall_s for ended in timed.ended) / num_fits
    print(
        f"{title}: {num_fits} fits of {mean_s:.2f} s in {timed.span_s:.1f} s, "
        f"{timed.busy_share:.1%} of the workers' time within fits "
        f"({timed.training_share:.1%} of it training, by the processor's clock); "
        f"Ray started in {start_s:.1f} s, "
        f"MLflow had all events {timed.tracking_delay_s:.1f} s after the end",
        file=sys.stderr,
    )
    for task, cost_s in timed.mean_cost_s().items():
        print(f"  {task}: {cost_s:.2f} s a fit to the end", file=sys.stderr)

    return timed


def epoch_s(study: StudySpec, corpus: Corpus) -> float:
    """Measure an epoch of the regressor on this machine, alone."""
    fold = CrossFitPlan.from_spec(corpus, study.base).folds[0]
    task = UnimodalTask(corpus.modalities[0], corpus.targets[0])
    problem = task.problem(corpus, study.base, fold, key="")
    trainer = Trainer(problem, corpus)

    trainer.train_epoch()  # the first epoch compiles and reserves memory
    begin = time.perf_counter()
    for _ in range(3):
        trainer.train_epoch()
    return (time.perf_counter() - begin) / 3


def _widened(corpus: Corpus, modality: str, num_columns: int) -> Corpus:
    """Return the same corpus with the columns of one modality repeated."""
    indices = np.arange(num_columns) % len(corpus.columns[modality])
    columns = {**corpus.columns, modality: tuple(map(str, range(num_columns)))}

    sessions = []
    for session in corpus.sessions:
        features = {**session.features, modality: session.features[modality][:, indices]}
        sessions.append(dataclasses.replace(session, features=features))

    return dataclasses.replace(corpus, columns=columns, sessions=tuple(sessions))
