"""How much of the plan the time allows, and which task the end waits for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import floor, inf

from tuning.journal.history import History
from tuning.spec.space import Stage
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task


class TimeBudget:
    """Shrinks the plan evenly when time is short: every search, the finalists and their seeds.

    What fits took so far says what they will take. At least one finalist with one seed is always refitted, or there
    would be no model: a study ends that much after its budget.

    Args:
        study: its modalities and targets known.
        history: kept up to date by its owner.
        tasks: of the study.
        folds: trainings of a configuration.
        seconds: of running, over all resumptions; may be infinite.
    """

    def __init__(
        self, study: StudySpec, history: History, tasks: Sequence[Task], folds: int, seconds: float
    ) -> None:
        self._study, self._history, self._tasks, self._folds = study, history, tasks, folds
        self._seconds = seconds
        self.workers = 1
        """Fits at a time."""

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self._seconds - self._history.active_s - (time.time() - self._history.last_at)

    @property
    def share(self) -> float:
        """The share of the remaining plan that fits into the time left, from 0 to 1."""
        if self._seconds == inf:
            return 1.0
        needed = (
            sum(self._fits_left(task) * self._cost_s(task.stage) for task in self._tasks)
            / self.workers
        )
        return min(1.0, max(self.left_s, 0.0) / needed) if needed else 1.0

    def trials(self, task: Task) -> int:
        """How many trials a task's search has: those planned, or as many as the time allows."""
        planned = self._study.num_trials(task.stage)
        if self._seconds == inf:
            return planned
        done = len(self._history.searched(task))
        return max(
            min(planned, self._study.num_finalists(task.stage)),
            done + floor((planned - done) * self.share),
        )

    def work_behind(self, task: Task) -> float:
        """Seconds of fits that wait for a task, its own included: begin with the longest, or the end idles."""
        below = [
            other
            for other in self._tasks
            if (
                task.stage == "auto_encoder"
                and other.stage == "unimodal"
                and other.modality == task.modality
            )
            or (
                task.stage == "unimodal" and other.stage == "fusion" and other.target == task.target
            )
        ]
        own = self._fits_left(task) * self._cost_s(task.stage, task)
        return own + max((self.work_behind(other) for other in below), default=0.0)

    def _fits_left(self, task: Task) -> int:
        """Fits that a task still needs, as planned."""
        if task in self._history.settled:
            return 0
        table, chosen = self._study.table(task.stage), self._history.chosen.get(task)
        finalists, seeds = (
            (len(chosen.finalists), chosen.seeds) if chosen else (table.finalists, table.seeds)
        )
        done = self._history.refitted(task)
        search = (
            0 if chosen else self._study.num_trials(task.stage) - len(self._history.searched(task))
        )
        return max(search, 0) + max(finalists * seeds * self._folds - done, 0)

    def _cost_s(self, stage: Stage, task: Task | None = None) -> float:
        """Mean seconds of a task's fits so far, or else of its stage's, or of all; 1 where there are none."""
        for seconds, fits in (
            self._history.cost.get(task, (0.0, 0)) if task else (0.0, 0),
            self._total(stage),
            self._total(None),
        ):
            if fits:
                return seconds / fits
        return 1.0

    def _total(self, stage: Stage | None) -> tuple[float, int]:
        found = [cost for task, cost in self._history.cost.items() if stage in (None, task.stage)]
        return sum(seconds for seconds, _ in found), sum(fits for _, fits in found)
