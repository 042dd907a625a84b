"""How far a study is: each task's trials and scores, and the time that is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.spec import StageName
from pipeline.stages.task import Task
from tuning.journal.events import COMPLETE, Purpose, StudyOpened
from tuning.journal.history import History, Trial
from tuning.planning.outstanding_fits import FitPlan
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import measure

Phase = Literal["waiting", "search", "refit", "completed"]
LEAST_PARALLEL = 0.1
"""Fits at a time, where less is measured: a study that just began."""


@dataclass(frozen=True)
class TaskStatus:
    """How far a task is.

    Attributes:
        planned: fits that it takes in all, as far as is known now.
        done: those that left a trained stage.
        stopped: those that early stopping ended; `cut` those that the time budget ended.
        devel: the best devel score of a trial of its search.
        best: the highest deciding score that a trial of its search has had, at a rung or at its
            end; it never falls.
        winner: its winner's deciding score, as the mean over seeds; None while it has none.
        epochs: those trained here: what came from the store counts none.
        epochs_saved: those that stopped trials would have had left, at most.
        left: fits that are still to come, by purpose; one that runs counts half.
    """

    task: Task
    phase: Phase
    planned: int
    done: int
    running: int
    stopped: int
    cut: int
    failed: int
    from_store: int
    devel: float | None
    best: float | None
    winner: float | None
    epochs: int
    epochs_saved: int
    left: Mapping[Purpose, float]

    @property
    def deciding(self) -> float | None:
        """Return the winner's deciding score; while there is none, the best one of a trial."""
        return self.best if self.winner is None else self.winner

    def to_json(self) -> dict[str, Any]:
        """Return the task's part of `study status --json`."""
        return {
            "task": str(self.task),
            "phase": self.phase,
            "measure": measure(self.task),
            "devel": self.devel,
            "deciding": self.deciding,
            "best": self.best,
            "winner": self.winner,
            "planned": self.planned,
            "done": self.done,
            "running": self.running,
            "stopped": self.stopped,
            "cut": self.cut,
            "failed": self.failed,
            "from_store": self.from_store,
            "epochs_trained": self.epochs,
            "epochs_saved": self.epochs_saved,
        }


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is: its tasks, and the time.

    Attributes:
        used_s: seconds in which a process was running the study.
        left_s: as expected; None while there is nothing to tell it from.
    """

    name: str
    is_finished: bool
    tasks: tuple[TaskStatus, ...]
    used_s: float
    left_s: float | None

    def total(self, count: str) -> int:
        """Return the sum of a count over the tasks, such as "done"."""
        return sum(int(getattr(status, count)) for status in self.tasks)

    @property
    def num_ended(self) -> int:
        """Return how many fits have ended, however."""
        return sum(self.total(count) for count in ("done", "stopped", "cut", "failed"))

    @property
    def saved_share(self) -> float:
        """Return the share of epochs that early stopping saved, of these and those trained."""
        saved = self.total("epochs_saved")
        return saved / max(saved + self.total("epochs"), 1)


class StatusReader:
    """Reads the status of one study, as often as wanted; what never changes is worked out once."""

    def __init__(self, opened: StudyOpened) -> None:
        self._study = StudySpec.model_validate(opened.study)
        self._plan = FitPlan(self._study, max(len(opened.folds), 1))
        self._max_epochs: dict[StageName, int] = {
            stage: int(getattr(self._study.base, stage).fit.max_epochs) for stage in STAGES
        }

    def read(self, history: History) -> StudyStatus:
        """Count the trials, and estimate the time."""
        tasks = tuple(self._task_status(history, task) for task in self._plan.tasks)
        is_finished = history.finished is not None
        left_s = 0.0 if is_finished else _seconds_left(history, tasks)
        return StudyStatus(self._study.name, is_finished, tasks, history.active_s, left_s)

    def _task_status(self, history: History, task: Task) -> TaskStatus:
        trials = history.trials_of(task)
        reasons = Counter(trial.ended.reason for trial in trials if trial.ended is not None)
        num_running = len(trials) - reasons.total()

        outstanding = self._plan.outstanding(history, task)
        left: dict[Purpose, float] = {
            "search": outstanding.search + num_running / 2,
            "race": outstanding.race,
            "refit": outstanding.refit,
            "comparison": outstanding.comparison,
            "default": outstanding.default,
        }

        searched = history.trials_of(task, "search")
        devel = [trial.best_devel for trial in searched if trial.best_devel is not None]
        finalists = history.completed.get(task)
        return TaskStatus(
            task=task,
            phase=self._phase(history, task),
            planned=len(trials) + outstanding.total,
            done=sum(reasons[reason] for reason in COMPLETE),
            running=num_running,
            stopped=reasons["asha"],
            cut=reasons["budget"],
            failed=reasons["error"],
            from_store=reasons["store"],
            devel=max(devel, default=None),
            best=_best(searched),
            winner=finalists[0].mean_deciding if finalists else None,
            epochs=sum(_epochs_trained(trial) for trial in trials),
            epochs_saved=sum(self._epochs_saved(trial) for trial in trials),
            left=left,
        )

    def _phase(self, history: History, task: Task) -> Phase:
        if task in history.completed:
            return "completed"
        if task in history.chosen:
            return "refit"
        upstream = task.upstream_tasks(self._study.modalities or ())
        is_ready = all(other in history.completed for other in upstream)
        return "search" if is_ready or history.trials_of(task) else "waiting"

    def _epochs_saved(self, trial: Trial) -> int:
        """Return how many epochs a trial that early stopping ended would have had left, at most."""
        if trial.ended is None or trial.ended.reason != "asha":
            return 0
        default = self._max_epochs[trial.task.stage]
        max_epochs = trial.proposed.configuration.get("fit.max_epochs", default)
        return max(0, int(max_epochs) - trial.ended.epochs)


def study_status(history: History) -> StudyStatus:
    """Return how far a study is.

    Args:
        history: of a study that was opened.
    """
    assert history.opened is not None
    return StatusReader(history.opened).read(history)


def status_json(history: History) -> dict[str, Any]:
    """Return how far a study is, for a program: `study status --json`.

    Args:
        history: of a study that was opened.
    """
    status = study_status(history)
    registered = history.registered
    version = {"model": registered.model, "version": registered.version} if registered else None
    counts = ("planned", "done", "running", "stopped", "cut", "failed", "from_store")
    return {
        "name": status.name,
        "finished": status.is_finished,
        **{count: status.total(count) for count in counts},
        "epochs_trained": status.total("epochs"),
        "epochs_saved": status.total("epochs_saved"),
        "used_s": round(status.used_s, 3),
        "left_s": None if status.left_s is None else round(status.left_s, 3),
        "registered": version,
        "tasks": [task.to_json() for task in status.tasks],
    }


def format_duration(seconds: float) -> str:
    """Return such as "42 s", "7 min", "3 h 05 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_score(task: Task, score: float | None) -> str:
    """Return a score as people read it: the CCC, or the (positive) reconstruction error."""
    if score is None:
        return "-"
    return f"{score:.3f}" if task.target else f"RE {-score:.3f}"


def _best(searched: Sequence[Trial]) -> float | None:
    """Return the highest deciding score of the trials of a search, those that run included."""
    scores = [decision.deciding for trial in searched for decision in trial.rung_decisions]
    scores += [trial.ended.deciding for trial in searched if trial.ended is not None]
    return max((score for score in scores if score is not None), default=None)


def _epochs_trained(trial: Trial) -> int:
    if trial.ended is None:
        return len(trial.epochs)
    return 0 if trial.ended.reason == "store" else trial.ended.epochs


def _seconds_left(history: History, tasks: Sequence[TaskStatus]) -> float | None:
    """Estimate from the mean seconds of such fits, and from how many ran at a time until now."""
    seconds: dict[tuple[StageName, bool], list[float]] = {}
    for stage, is_search, fit_s in _fit_seconds(history):
        seconds.setdefault((stage, is_search), []).append(fit_s)
    everything = [fit_s for group in seconds.values() for fit_s in group]
    if not everything or not history.active_s:
        return None

    def mean_s(stage: StageName, is_search: bool) -> float:
        same = seconds.get((stage, is_search))
        alike = same or seconds.get((stage, not is_search)) or everything
        return sum(alike) / len(alike)

    needed_s = 0.0
    for status in tasks:
        for purpose, fits in status.left.items():
            needed_s += fits * mean_s(status.task.stage, purpose == "search")

    fits_at_a_time = max(sum(everything) / history.active_s, LEAST_PARALLEL)
    return needed_s / fits_at_a_time


def _fit_seconds(history: History) -> Iterator[tuple[StageName, bool, float]]:
    """Yield (stage, whether it was of the search, seconds) of every fit that was trained."""
    for trial in history.trials.values():
        if trial.ended is not None and trial.ended.reason != "store":
            is_search = trial.proposed.purpose == "search"
            yield trial.task.stage, is_search, trial.ended.wall_s
