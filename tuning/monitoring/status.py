"""Where a study stands: each task's trials by how they ended, its phase and best score; the time that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuning.journal.events import COMPLETE, Purpose, StudyOpened
from tuning.journal.history import History, Trial
from tuning.spec.space import STAGES, Stage
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task, feeding, tasks

Phase = Literal["waiting", "search", "refit", "settled"]


@dataclass(frozen=True)
class TaskStatus:
    """How far a task is.

    Attributes:
        planned: fits that it takes in all, as far as is known now.
        done: those that left a trained stage.
        stopped: those that early stopping ended; `cut` those that the time budget ended.
        best: the best score of its search; once it is settled, its best finalist's mean over seeds.
        epochs: those trained here: what came from the store counts none.
        epochs_saved: those that stopped trials would have had left, at most.
        left: fits that are still to come by purpose; one that runs counts half.
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
    best: float | None
    epochs: int
    epochs_saved: int
    left: Mapping[Purpose, float]


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is: its tasks, and the time. `left_s` is None while there is nothing to tell it from."""

    name: str
    finished: bool
    tasks: tuple[TaskStatus, ...]
    used_s: float
    left_s: float | None

    def total(self, count: str) -> int:
        """The sum of a count over the tasks, such as "done"."""
        return sum(int(getattr(state, count)) for state in self.tasks)

    @property
    def saved_share(self) -> float:
        """Epochs that early stopping saved, of these and those trained."""
        saved = self.total("epochs_saved")
        return saved / max(saved + self.total("epochs"), 1)


class Surveyor:
    """Looks at a study again and again; what never changes is worked out once."""

    def __init__(self, opened: StudyOpened) -> None:
        self.study = StudySpec.model_validate(opened.study)
        self.folds = max(len(opened.folds), 1)
        self.modalities = self.study.modalities or ()
        self.tasks = tasks(self.modalities, self.study.targets or ())
        self.trials: dict[Stage, int] = {stage: self.study.num_trials(stage) for stage in STAGES}
        self.max_epochs: dict[Stage, int] = {
            s: int(getattr(self.study.base, s).fit.max_epochs) for s in STAGES
        }

    def look(self, history: History) -> StudyStatus:
        """Count."""
        by_task: dict[str, list[Trial]] = {str(task): [] for task in self.tasks}
        for trial in history.trials.values():
            by_task.setdefault(trial.proposed.task, []).append(trial)
        states = tuple(self._task(history, task, by_task[str(task)]) for task in self.tasks)
        finished = history.finished is not None
        left = 0.0 if finished else _seconds_left(history, states)
        return StudyStatus(self.study.name, finished, states, history.active_s, left)

    def _task(self, history: History, task: Task, trials: list[Trial]) -> TaskStatus:
        ended = [trial.ended for trial in trials if trial.ended is not None]
        reasons = [end.reason for end in ended]
        running = len(trials) - len(ended)
        left = self._left(history, task, trials)
        finalists = history.settled.get(task)
        found = [
            trial.best
            for trial in trials
            if trial.proposed.purpose == "search" and trial.best is not None
        ]
        return TaskStatus(
            task=task,
            phase=_phase(history, task, bool(trials), self.modalities),
            planned=len(trials) + sum(left.values()),
            done=sum(reason in COMPLETE for reason in reasons),
            running=running,
            stopped=reasons.count("asha"),
            cut=reasons.count("budget"),
            failed=reasons.count("error"),
            from_store=reasons.count("store"),
            best=finalists[0].score if finalists else max(found, default=None),
            epochs=sum(_epochs_trained(trial) for trial in trials),
            epochs_saved=sum(self._saved(task.stage, trial) for trial in trials),
            left={**left, "search": left["search"] + running / 2},
        )

    def _left(self, history: History, task: Task, trials: list[Trial]) -> dict[Purpose, int]:
        """Fits that were not asked for yet."""
        table = self.study.table(task.stage)
        finalists = history.settled.get(task)
        chosen = history.chosen.get(task)
        seeds = chosen.seeds if chosen else table.seeds
        search = 0 if chosen or finalists else self.trials[task.stage] - _count(trials, "search")
        if finalists:
            refits = 0
        elif chosen:
            refits = sum(
                len(self._missing(trials, dict(values), seeds)) for values in chosen.finalists
            )
        else:  # of each finalist, one fit comes from the search
            refits = min(table.finalists, self.trials[task.stage]) * (seeds * self.folds - 1)
        compared = (
            seeds * self.folds - _count(trials, "comparison")
            if self._compares(history, task)
            else 0
        )
        return {"search": max(search, 0), "refit": max(refits, 0), "comparison": max(compared, 0)}

    def _missing(
        self, trials: list[Trial], values: dict[str, Any], seeds: int
    ) -> list[tuple[int, int]]:
        mine = [
            trial
            for trial in trials
            if trial.proposed.values == values and trial.proposed.purpose != "comparison"
        ]
        if any(trial.ended and trial.ended.reason == "error" for trial in mine):
            return []
        there = {
            (trial.proposed.fold, trial.proposed.seed)
            for trial in mine
            if trial.complete or trial.proposed.purpose == "refit"
        }
        wanted = [
            (fold, self.study.seed + seed) for fold in range(self.folds) for seed in range(seeds)
        ]
        return [fit for fit in wanted if fit not in there]

    def _compares(self, history: History, task: Task) -> bool:
        """Whether the winner of a fusion task is trained without difficulty, too; as long as it is unknown, maybe."""
        if task.stage != "fusion":
            return False
        base = self.study.fusion.difficulty
        if task in history.settled:
            return bool(history.settled[task][0].values.get("difficulty", base))
        return base

    def _saved(self, stage: Stage, trial: Trial) -> int:
        if trial.ended is None or trial.ended.reason != "asha":
            return 0
        return max(
            0,
            int(trial.proposed.values.get("fit.max_epochs", self.max_epochs[stage]))
            - trial.ended.epochs,
        )


def survey(history: History) -> StudyStatus:
    """Where a study stands."""
    assert history.opened is not None
    return Surveyor(history.opened).look(history)


def duration(seconds: float) -> str:
    """Such as "42 s", "7 min", "3 h 05 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def shown(task: Task, score: float | None) -> str:
    """A score as people read it: the CCC, or the reconstruction error, which is not negative."""
    if score is None:
        return "-"
    return f"{score:.3f}" if task.target else f"RE {-score:.3f}"


def _phase(history: History, task: Task, begun: bool, modalities: tuple[str, ...]) -> Phase:
    if task in history.settled:
        return "settled"
    if task in history.chosen:
        return "refit"
    ready = all(above in history.settled for above in feeding(task, modalities))
    return "search" if begun or ready else "waiting"


def _count(trials: list[Trial], purpose: Purpose) -> int:
    return sum(trial.proposed.purpose == purpose for trial in trials)


def _epochs_trained(trial: Trial) -> int:
    if trial.ended is None:
        return len(trial.epochs)
    return 0 if trial.ended.reason == "store" else trial.ended.epochs


def _seconds_left(history: History, states: tuple[TaskStatus, ...]) -> float | None:
    """Fits to come, at the mean seconds that such fits took, at as many fits at a time as until now."""
    taken: dict[tuple[Stage, bool], list[float]] = {}
    for stage, searched, seconds in _taken(history):
        taken.setdefault((stage, searched), []).append(seconds)
    everything = [seconds for each in taken.values() for seconds in each]
    if not everything or not history.active_s:
        return None
    at_a_time = max(sum(everything) / history.active_s, 0.1)

    def cost(stage: Stage, searched: bool) -> float:
        found = taken.get((stage, searched)) or taken.get((stage, not searched)) or everything
        return sum(found) / len(found)

    needed = sum(
        fits * cost(state.task.stage, purpose == "search")
        for state in states
        for purpose, fits in state.left.items()
    )
    return needed / at_a_time


def _taken(history: History) -> Iterator[tuple[Stage, bool, float]]:
    for trial in history.trials.values():
        if trial.ended is not None and trial.ended.reason != "store":
            yield trial.task.stage, trial.proposed.purpose == "search", trial.ended.wall_s
