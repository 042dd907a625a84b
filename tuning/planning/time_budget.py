"""How much of the plan the time allows, and how long the critical path behind a task is."""

from __future__ import annotations

from math import floor, inf

from pipeline.spec import StageName
from pipeline.stages.task import Task
from tuning.journal.clock import now
from tuning.journal.history import History
from tuning.planning.outstanding_fits import FitPlan


class TimeBudget:
    """Shrinks the plan evenly when time is short: every search, the finalists and their seeds.

    What fits took so far says what they will take. At least one finalist with one seed is always
    refitted, or there would be no model: a study ends that much after its budget.

    Args:
        plan: the study's fits.
        history: kept up to date by its owner.
        seconds: of running, over all resumptions; may be infinite.

    Attributes:
        workers: fits at a time.
    """

    def __init__(self, plan: FitPlan, history: History, seconds: float) -> None:
        self._plan, self._history, self._seconds = plan, history, seconds
        self.workers = 1

    @property
    def left_s(self) -> float:
        """Return the seconds that are left."""
        since_last_event_s = max(0.0, now() - self._history.last_at)
        return self._seconds - self._history.active_s - since_last_event_s

    @property
    def share(self) -> float:
        """Return the share of the remaining plan that fits into the time left, from 0 to 1."""
        if self._seconds == inf:
            return 1.0
        # By the mean of a stage: a task's own first fit may have failed at once.
        needed_s = sum(
            self._num_outstanding(task) * self._mean_cost_s(task.stage) for task in self._plan.tasks
        )
        needed_s /= self.workers
        return min(1.0, max(self.left_s, 0.0) / needed_s) if needed_s else 1.0

    def num_trials(self, task: Task) -> int:
        """Return how many trials a search has: those planned, or as many as time allows."""
        planned = self._plan.num_trials[task.stage]
        if self._seconds == inf:
            return planned

        least = min(planned, self._plan.study.num_finalists(task.stage))
        done = len(self._history.trials_of(task, "search"))
        return max(least, done + floor((planned - done) * self.share))

    def critical_path_s(self, task: Task) -> float:
        """Return the seconds of fits that wait for a task, its own included.

        The planner begins with the longest path, or the end of the study idles.
        """
        modalities = self._plan.study.modalities or ()
        downstream = [
            other for other in self._plan.tasks if task in other.upstream_tasks(modalities)
        ]
        longest = max((self.critical_path_s(other) for other in downstream), default=0.0)
        return self._num_outstanding(task) * self._mean_cost_s(task.stage, task) + longest

    def _num_outstanding(self, task: Task) -> int:
        return self._plan.outstanding(self._history, task).total

    def _mean_cost_s(self, stage: StageName, task: Task | None = None) -> float:
        """Return the mean seconds of a task's fits so far, or else of its stage's, or of all."""
        for seconds, fits in (
            self._history.cost.get(task, (0.0, 0)) if task else (0.0, 0),
            self._total_cost(stage),
            self._total_cost(None),
        ):
            if fits:
                return seconds / fits
        return 1.0

    def _total_cost(self, stage: StageName | None) -> tuple[float, int]:
        costs = [cost for task, cost in self._history.cost.items() if stage in (None, task.stage)]
        return sum(seconds for seconds, _ in costs), sum(fits for _, fits in costs)
