"""What the driver spends per fit when a study is large: fits are simulated, all else is real.

The planner proposes, writes its journal, decides at rungs, races and judges, as with real workers.
Scores follow from the configurations, and outputs are noise around the labels. One more study is
recorded in MLflow, in a database file, while it is planned.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Epoch
from tests.benchmarks.rows import Row, less_is_better
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import opened
from tuning.fitting.held_out_predictions import HeldOutPredictions, held_out_name
from tuning.fitting.job import Job
from tuning.fitting.scoring import FitScores
from tuning.fitting.trial_fit import FitReport
from tuning.journal.file import JOURNAL, Journal, read_journal
from tuning.journal.history import history_of
from tuning.mlflow_backend.tracking.study_runs import raise_if_not_recordable
from tuning.mlflow_backend.tracking.tracker import Tracker
from tuning.planning.planner import StudyPlanner
from tuning.spec.study_spec import StudySpec, for_corpus

SMALL, LARGE, NUM_WORKERS, NUM_EPOCHS = 500, 10_000, 500, 30
FIT_BAR_S, GROWTH_BAR, OPEN_BAR_S = 0.005, 1.5, 2.0
RECORDED_BAR, RECORDED_FIT_BAR_S = 1.2, 0.1
"""How much longer the driver's own thread may work per fit while a study is recorded; and after
how many seconds per fit MLflow has all of it."""
RECORDING_TIMEOUT_S = 3600.0
SAMPLERS = ("random", "tpe")
REPORTS = (10, 20, NUM_EPOCHS)
"""Epochs after which a worker reports."""
Content = TypeVar("Content")


def planner_rows() -> list[Row]:
    """Return the driver's time per fit with each sampler, and what a large journal costs."""
    rows = []
    for sampler in SAMPLERS:
        small = simulate(sampler, int(os.environ.get("AFFECTUNE_BENCH_SMALL", SMALL)))
        large = simulate(sampler, int(os.environ.get("AFFECTUNE_BENCH_LARGE", LARGE)))
        growth = large.fit_s / small.fit_s
        print(f"{sampler}: {large.num_fits} fits, {growth:.2f} times the time per fit")
        fit_ms, bar_ms = large.fit_s * 1000, FIT_BAR_S * 1000
        rows += [
            less_is_better(f"driver_per_fit_{sampler}", fit_ms, bar_ms, "ms"),
            less_is_better(f"driver_growth_{sampler}", growth, GROWTH_BAR, "x"),
            less_is_better(f"journal_opens_{sampler}", large.open_s, OPEN_BAR_S, "s"),
        ]
    return [*rows, *_recorded_rows(int(os.environ.get("AFFECTUNE_BENCH_SMALL", SMALL)))]


def _recorded_rows(num_trials: int) -> list[Row]:
    """Return what recording a study in MLflow costs the driver, and MLflow."""
    alone = simulate("random", num_trials)
    recorded = simulate("random", num_trials, is_recorded=True)
    slower = recorded.fit_s / alone.fit_s
    return [
        less_is_better("driver_recorded", slower, RECORDED_BAR, "x"),
        less_is_better("mlflow_per_fit", recorded.sent_s * 1000, RECORDED_FIT_BAR_S * 1000, "ms"),
    ]


def large_study(sampler: str, num_trials: int) -> StudySpec:
    """Return a study of two modalities and two targets whose searches have so many trials."""
    space = {
        "fit.learning_rate": {"loguniform": [0.0001, 0.1]},
        "fit.weight_decay": {"loguniform": [1e-6, 1e-2]},
        "network.dropout": {"uniform": [0.0, 0.5]},
    }
    search = {
        stage: {
            "sampler": sampler,
            "trials": max(num_trials // 8, 6),  # tasks: 2 auto-encoders, 4 regressors, 2 fusions
            "grace_epochs": 10,
            "reduction_factor": 3,
            "finalists": 3,
            "seeds": 2,
            "space": space,
        }
        for stage in ("auto_encoder", "unimodal", "fusion")
    }
    fit = {"max_epochs": NUM_EPOCHS, "patience": NUM_EPOCHS}
    stages = {stage: {"fit": fit} for stage in search}
    spec = StudySpec.model_validate({"name": "large", "folds": 3, **stages, "search": search})
    return for_corpus(spec, ("voice", "face"), ("arousal", "valence"))


@dataclass(frozen=True)
class Simulated:
    """A study without training.

    Attributes:
        num_fits: of the study.
        fit_s: processor seconds of the driver's own thread per fit.
        open_s: processor seconds to open its journal.
        sent_s: seconds per fit after which MLflow had all of it; 0 where it was not recorded.
    """

    num_fits: int
    fit_s: float
    open_s: float
    sent_s: float


def simulate(sampler: str, num_trials: int, *, is_recorded: bool = False) -> Simulated:
    """Run a study without training, and record it in MLflow if that is wanted."""
    corpus = tiny_corpus()
    study = large_study(sampler, num_trials)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with Journal(folder / JOURNAL) as journal:
            event = opened(study)
            journal.append(event)
            store: Any = MemoryStore()
            planner = StudyPlanner(study, corpus, store, journal, history_of([event]))
            with _recording(folder, study.name, is_recorded=is_recorded) as end:
                begin, begin_s = time.perf_counter(), time.thread_time()
                simulated_s = run(planner, store)
                driver_s = time.thread_time() - begin_s - simulated_s
                end()
                sent_s = time.perf_counter() - begin

        begin_s = time.thread_time()
        history = history_of(event for event, _ in read_journal(folder / JOURNAL))
        open_s = time.thread_time() - begin_s
        num_fits = len(history.trials)
        return Simulated(
            num_fits, driver_s / num_fits, open_s, sent_s / num_fits if is_recorded else 0.0
        )


@contextmanager
def _recording(folder: Path, study: str, *, is_recorded: bool) -> Iterator[Callable[[], None]]:
    """Record a study in a database beside it; give what waits until MLflow has all of it."""
    if not is_recorded:
        yield lambda: None
        return
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    raise_if_not_recordable(uri, study)
    tracker = Tracker(folder, uri).start()

    def end() -> None:
        assert tracker.close(RECORDING_TIMEOUT_S) == 0

    yield end


def run(planner: StudyPlanner, store: MemoryStore) -> float:
    """Give a planner's jobs to simulated workers until it is done; return what simulating took."""
    simulated_s = 0.0
    waiting: deque[tuple[Job, int]] = deque()
    while not planner.is_done:
        assert planner.failure is None, planner.failure
        while len(waiting) < NUM_WORKERS and (job := planner.next_job()):
            waiting.append((job, 0))
        if not waiting:
            continue

        job, number = waiting.popleft()
        begin_s = time.thread_time()
        report = _report(planner, store, job, number)
        simulated_s += time.thread_time() - begin_s
        if planner.receive(job.trial, report):
            waiting.append((job, number + 1))
    return simulated_s


class MemoryStore:
    """A store in memory that has the outputs of simulated stages, and not the stages."""

    def __init__(self) -> None:
        self.predictions: dict[str, HeldOutPredictions] = {}

    def get(self, key: str) -> None:
        """Return None: nothing was trained."""

    def read(self, name: str, parse: Callable[[Mapping[str, bytes]], Content]) -> Any:
        """Return the predictions under a name."""
        return self.predictions.get(name)

    def remove(self, name: str) -> None:
        """Do nothing: there are no checkpoints."""

    def remove_leftovers(self, keys: Iterable[str]) -> None:
        """Do nothing: nobody was killed."""

    @contextmanager
    def claim(self, key: str, *, timeout_s: float) -> Any:
        """Do nothing: there is one process."""
        yield


def _report(planner: StudyPlanner, store: MemoryStore, job: Job, number: int) -> FitReport:
    first = REPORTS[number - 1] if number else 0
    quality = _quality(job)
    epochs = tuple(
        Epoch(epoch, 1.0 / epoch, quality * epoch / NUM_EPOCHS)
        for epoch in range(first + 1, REPORTS[number] + 1)
    )
    scores = FitScores(held_out=epochs[-1].score, deciding=epochs[-1].score)
    if REPORTS[number] < NUM_EPOCHS:
        return FitReport(epochs, cpu_s=1.0, wall_s=1.0, scores=scores)

    predictions = HeldOutPredictions(
        history=epochs,
        best_epoch=NUM_EPOCHS,
        devel=quality,
        outputs=_outputs(planner, job.task, job, quality),
        key=job.key,
    )
    store.predictions[held_out_name(job.key)] = predictions
    return FitReport(
        epochs,
        cpu_s=3.0,
        wall_s=3.0,
        end_reason="max_epochs",
        devel=quality,
        best_epoch=NUM_EPOCHS,
        scores=scores,
    )


def _quality(job: Job) -> float:
    """Return a score from 0.3 to 0.7 that follows from a job's configuration."""
    digest = hashlib.sha256(job.key.encode()).digest()
    return 0.3 + 0.4 * int.from_bytes(digest[:4], "big") / 2**32


def _outputs(planner: StudyPlanner, task: Task, job: Job, quality: float) -> dict[str, Any]:
    """Return the labels with noise, of the sessions that the fit's fold held out and of devel."""
    random = np.random.default_rng(int(job.key[:8], 16))
    fold = planner.cross_fit_plan.folds[job.fold]
    outputs = {}
    for session in planner.corpus.sessions:
        if session.session_id in fold.held_out_ids or session.partition == "devel":
            noise = random.normal(size=(session.num_frames, 1))
            label = session.labels[task.target][:, None] if task.target else 1.0
            outputs[session.session_id] = (label + noise * (1 - quality)).astype(np.float32)
    return outputs
