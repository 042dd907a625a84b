"""What Prometheus reads of a study: fits, scores, workers, the queue to MLflow, the store, time.

Everything but the times of the store is read off the study's history, which is its journal: a
study that goes on in another process goes on counting where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tuning.journal.clock import now
from tuning.journal.events import Reason
from tuning.journal.history import History
from tuning.monitoring.status import Phase, StatusReader, StudyStatus
from tuning.spec.space import STAGES

REFRESH_S = 1.0
"""The history is read at most so often."""
MAX_SHARE = 0.01
"""Of the driver's time that reading it may take: it is read less often where that takes long."""
STORE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

Backlog = tuple[int, float]
"""Events that MLflow does not have yet, and the seconds since the oldest of them."""


@dataclass(frozen=True)
class _Snapshot:
    """A study at one moment: the driver makes it, the threads that answer Prometheus read it."""

    status: StudyStatus
    ended: Counter[tuple[str, str]]
    """(stage, reason) -> fits."""
    busy_s: float
    num_events: int
    last_at: float
    num_workers: int
    budget_s: float


class StudyMetrics(Collector):
    """The metrics of the study that a process runs; of several in turn, of the current one.

    Attributes:
        store_seconds: of the driver's requests to the store.
        backlog: returns of how many events so many are not in MLflow; None: nothing is tracked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = -inf
        self._reader: StatusReader | None = None
        self._name = ""
        self._snapshot: _Snapshot | None = None
        self.backlog: Callable[[int], Backlog] | None = None

        self._registry = CollectorRegistry()
        self.store_seconds = Histogram(
            "affectune_study_store_seconds",
            "Seconds that the driver waited for the store of trained stages.",
            ["operation", "result"],
            buckets=STORE_BUCKETS_S,
            registry=self._registry,
        )
        for operation in ("read", "write"):
            self.store_seconds.labels(operation, "ok")
        self._registry.register(self)

    def begin(self, name: str) -> None:
        """Forget the study before, and call the next one by a name."""
        self._name, self._reader, self._snapshot, self._next_at = name, None, None, -inf

    def update(
        self, history: History, num_workers: int, budget_s: float, *, is_last: bool = False
    ) -> None:
        """Read the history, if it is time to; most calls do nothing.

        Args:
            history: of a study.
            num_workers: fits at a time; 0 where it is not known yet.
            budget_s: of the study; may be infinite.
            is_last: whether it is read in any case, because no more calls follow soon.
        """
        begin = self._clock()
        if history.opened is None or (begin < self._next_at and not is_last):
            return

        self._reader = self._reader or StatusReader(history.opened)
        trials = history.trials.values()
        self._snapshot = _Snapshot(
            self._reader.read(history),
            Counter(
                (trial.task.stage, trial.ended.reason)
                for trial in trials
                if trial.ended is not None
            ),
            sum(trial.wall_s for trial in trials),
            history.num_events,
            history.last_at,
            num_workers,
            budget_s,
        )
        end = self._clock()
        self._next_at = end + max(REFRESH_S, (end - begin) / MAX_SHARE)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Iterate over what is read off the history; nothing before the study is open."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        yield from _fit_metrics(self._name, snapshot)
        yield from _progress_metrics(self._name, snapshot)
        yield from _time_metrics(self._name, snapshot)
        if self.backlog is not None:
            yield from _mlflow_metrics(self._name, *self.backlog(snapshot.num_events))


def _fit_metrics(name: str, snapshot: _Snapshot) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "affectune_study_fits_ended",
        "Fits that ended. reason: patience and max_epochs trained to the end, store was there "
        "already, asha stopped early, budget cut by the time budget, error failed.",
        labels=["study", "stage", "reason"],
    )
    for stage in STAGES:
        for reason in get_args(Reason):
            ended.add_metric([name, stage, reason], snapshot.ended[stage, reason])
    yield ended

    status = snapshot.status
    gauge, counter = partial(_gauge, name), partial(_counter, name)
    yield gauge(
        "fits_running", "Fits that were asked for and have not ended.", status.total("running")
    )
    yield gauge("fits_planned", "Fits of the whole study, as known now.", status.total("planned"))
    yield counter(
        "epochs", "Epochs trained; those from the store count none.", status.total("epochs")
    )
    yield counter(
        "epochs_saved",
        "Epochs that stopped fits would have had left, at most.",
        status.total("epochs_saved"),
    )
    yield counter("busy_seconds", "Seconds within fits, as workers report them.", snapshot.busy_s)
    yield gauge("workers", "Fits that can run at a time.", snapshot.num_workers)


def _progress_metrics(name: str, snapshot: _Snapshot) -> Iterator[Metric]:
    score = GaugeMetricFamily(
        "affectune_study_best_score",
        "Best score of a task: the CCC, or minus the reconstruction error of an auto-encoder. "
        "kind: devel, or deciding (by which finalists are ranked).",
        labels=["study", "task", "kind"],
    )
    for task in snapshot.status.tasks:
        for kind, value in (("devel", task.devel), ("deciding", task.deciding)):
            if value is not None:
                score.add_metric([name, str(task.task), kind], value)
    yield score

    tasks = GaugeMetricFamily(
        "affectune_study_tasks", "Tasks of the study in a phase.", labels=["study", "phase"]
    )
    phases = Counter(task.phase for task in snapshot.status.tasks)
    for phase in get_args(Phase):
        tasks.add_metric([name, phase], phases[phase])
    yield tasks

    is_finished = float(snapshot.status.is_finished)
    yield _gauge(name, "finished", "1 once the winner is written, else 0.", is_finished)


def _time_metrics(name: str, snapshot: _Snapshot) -> Iterator[Metric]:
    gauge = partial(_gauge, name)
    yield gauge(
        "last_event_timestamp_seconds", "When the journal was written to last.", snapshot.last_at
    )
    used_s, left_s = snapshot.status.used_s, snapshot.status.left_s
    yield _counter(name, "active_seconds", "Seconds in which a process ran the study.", used_s)
    if left_s is not None:
        yield gauge("left_seconds", "Seconds that it will still take, as expected.", left_s)
    if snapshot.budget_s < inf:
        since_s = 0.0 if snapshot.status.is_finished else max(0.0, now() - snapshot.last_at)
        left = snapshot.budget_s - used_s - since_s
        yield gauge(
            "budget_left_seconds", "Seconds left of --time-budget; below 0 where it is over.", left
        )


def _mlflow_metrics(name: str, num_events: int, age_s: float) -> Iterator[Metric]:
    yield _gauge(name, "mlflow_queue_events", "Events that MLflow does not have yet.", num_events)
    yield _gauge(
        name, "mlflow_queue_age_seconds", "Seconds since the oldest of them; 0 if none.", age_s
    )


def _gauge(study: str, metric: str, documentation: str, value: float) -> Metric:
    family = GaugeMetricFamily(f"affectune_study_{metric}", documentation, labels=["study"])
    family.add_metric([study], value)
    return family


def _counter(study: str, metric: str, documentation: str, value: float) -> Metric:
    family = CounterMetricFamily(f"affectune_study_{metric}", documentation, labels=["study"])
    family.add_metric([study], value)
    return family
