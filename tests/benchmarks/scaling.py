"""How a study scales: training fits on two cores, and sleeping fits on many simulated nodes.

The share of the workers' time within fits is taken while there is work for all of them: a machine
with two cores cannot start sixteen workers at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from pipeline.corpus import Corpus
from tests.benchmarks.rows import Row, more_is_better
from tests.benchmarks.sleeping_fits import EPOCH_S
from tests.benchmarks.timed_study import (
    TimedStudy,
    prepare_process,
    study_of,
    synthetic_corpus,
    timed_study,
)
from tuning.journal.history import Trial
from tuning.ray_backend.cluster import cluster

TRAINING_BAR, SLEEPING_BAR = 0.9, 0.95
NUM_NODES = (4, 16)
TRAINING_FITS, TRAINING_EPOCHS = 16, 200
FITS_PER_NODE, SLEEPING_EPOCHS, SLEEP_S = 8, 3, 2.0
SETUP_HOOK = "tests.benchmarks.sleeping_fits.sleep_before_epochs"
STUDY = """
name = "scaling"
folds = 2
inference = "fold_mean"
[auto_encoder]
network = {{ num_layers = {layers} }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[unimodal]
network = {{ num_layers = 1, hidden_size = 4 }}
fit = {{ max_epochs = 1, patience = 1 }}
[fusion]
network = {{ num_layers = 1, hidden_size = 4 }}
fit = {{ max_epochs = 1, patience = 1 }}
[search.auto_encoder]
sampler = "random"
trials = {trials}
grace_epochs = {epochs}
finalists = 1
seeds = 1
[search.auto_encoder.space]
"fit.learning_rate" = {{ loguniform = [0.0003, 0.01] }}
"""
"""Its search of auto-encoders is what is measured: equal fits, none of which is stopped early."""


def scaling_rows() -> list[Row]:
    """Return efficiencies, 1 being linear, beside their bars."""
    prepare_process()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = synthetic_corpus(folder / "corpus", subjects=8, minutes=2, modalities=("voice",))
        rows = [
            more_is_better("scaling_2_workers", _training(corpus, folder), TRAINING_BAR, "share")
        ]
        for nodes in NUM_NODES:
            share = _sleeping(corpus, folder / f"nodes-{nodes}", nodes)
            rows.append(more_is_better(f"scaling_{nodes}_nodes", share, SLEEPING_BAR, "share"))
    return rows


def _training(corpus: Corpus, folder: Path) -> float:
    """Return the fits per second of two workers, over twice those of one."""
    study = study_of(STUDY.format(layers=2, epochs=TRAINING_EPOCHS, trials=TRAINING_FITS), corpus)
    rates = []
    for workers in (1, 2):
        with cluster(None, workers):
            timed = timed_study(study, corpus, folder / f"workers-{workers}")
        busy, seconds = _busy(timed, workers)
        mean_s = sum(end.wall_s for end in timed.ended[:TRAINING_FITS]) / TRAINING_FITS
        rates.append(busy * workers / mean_s)
        print(f"{workers} workers: busy {busy:.1%} of {seconds:.0f} s, {mean_s:.2f} s a fit")
    return rates[1] / (2 * rates[0])


def _sleeping(corpus: Corpus, folder: Path, num_nodes: int) -> float:
    """Return the share of the time of so many nodes within fits that sleep."""
    trials = num_nodes * FITS_PER_NODE
    study = study_of(STUDY.format(layers=1, epochs=SLEEPING_EPOCHS, trials=trials), corpus)
    with _simulated_nodes(num_nodes):
        timed = timed_study(study, corpus, folder)
    busy, seconds = _busy(timed, num_nodes)
    print(f"{num_nodes} nodes: busy {busy:.1%} of {seconds:.0f} s")
    return busy


def _busy(timed: TimedStudy, workers: int) -> tuple[float, float]:
    """Return the share of the workers' time within fits of the search, and of how many seconds.

    From when all workers had begun until the last fit of the search was handed out.
    """
    searched = [
        trial
        for trial in timed.history.trials.values()
        if trial.task.stage == "auto_encoder" and trial.proposed.purpose == "search"
    ]
    spans = sorted(_span(trial) for trial in searched)
    begin, end = spans[workers - 1][0], spans[-1][0]
    within = sum(max(0.0, min(last, end) - max(first, begin)) for first, last in spans)
    return within / (workers * (end - begin)), end - begin


def _span(trial: Trial) -> tuple[float, float]:
    assert trial.ended is not None
    return trial.ended.at - trial.ended.wall_s, trial.ended.at


@contextmanager
def _simulated_nodes(count: int) -> Iterator[None]:
    """Have a Ray cluster of nodes with one core each, whose fits sleep."""
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(count):
            nodes.add_node(num_cpus=1, object_store_memory=100 * 1024**2)
        environment = {
            "env_vars": {EPOCH_S: str(SLEEP_S)},
            "worker_process_setup_hook": SETUP_HOOK,
        }
        ray.init(address=nodes.address, runtime_env=environment, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()  # type: ignore[no-untyped-call]
