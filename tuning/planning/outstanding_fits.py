"""Which fits a study still needs: what planner, time budget and status go by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

from pipeline.spec import StageName
from pipeline.stages.task import StageKeys, Task
from tuning.journal.events import Purpose
from tuning.journal.history import History, Trial
from tuning.spec.space import STAGES, Configuration
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import study_tasks


@dataclass(frozen=True)
class Fit:
    """A configuration on one fold with one seed."""

    configuration: Configuration
    fold: int
    seed: int

    def __hash__(self) -> int:
        return hash((frozenset(self.configuration.items()), self.fold, self.seed))


@dataclass(frozen=True)
class OutstandingFits:
    """How many fits a task has not asked for yet, by purpose, as far as is known."""

    search: int
    race: int
    refit: int
    comparison: int
    default: int

    @property
    def total(self) -> int:
        """Return their sum."""
        return self.search + self.race + self.refit + self.comparison + self.default


class FitPlan:
    """The fits that a study consists of; what never changes is worked out once.

    Args:
        study: its modalities and targets known.
        num_folds: trainings of a configuration.
    """

    def __init__(self, study: StudySpec, num_folds: int) -> None:
        self.study, self.num_folds = study, num_folds
        self.tasks = study_tasks(study.modalities or (), study.targets or ())
        self.num_trials: dict[StageName, int] = {stage: study.num_trials(stage) for stage in STAGES}

    def ready_tasks(self, history: History) -> list[Task]:
        """Return the tasks that can go on: all that they read is completed."""
        completed = history.completed
        return [
            task
            for task in self.tasks
            if task not in completed
            and all(upstream in completed for upstream in self._upstream_tasks(task))
        ]

    def _upstream_tasks(self, task: Task) -> Sequence[Task]:
        """Return what a task waits for: a fusion that may read all, the regressors of all."""
        if task.stage == "fusion" and self.study.may_read_all:
            return [other for other in self.tasks if other.stage == "unimodal"]
        return task.upstream_tasks(self.study.modalities or ())

    def is_complete(self, history: History) -> bool:
        """Return whether every task has its winner, and no comparison and no default is missing."""
        if len(history.completed) < len(self.tasks):
            return False
        return not any(
            self.missing_comparisons(history, task) or self._outstanding_defaults(history, task)
            for task in self.tasks
        )

    def finalist_fits(self, configuration: Configuration, seeds: int) -> list[Fit]:
        """Return all trainings of a finalist, one seed after the other."""
        return [
            Fit(configuration, fold, self.study.seed + seed)
            for seed, fold in product(range(seeds), range(self.num_folds))
        ]

    def race_folds(self, stage: StageName) -> int:
        """Return on how many folds contenders are tried before finalists are chosen; 1: no race."""
        if stage == "auto_encoder" or self.study.protocol == "in_sample":
            return 1
        return min(self.study.table(stage).race_folds, self.study.folds)

    def race_places(self, stage: StageName, num_finalists: int, folds: int) -> int:
        """Return how many contenders continue after so many folds: evenly fewer, to the finalists.

        Twice the number of finalists is tried on the second fold.
        """
        last = self.race_folds(stage)
        return ceil(num_finalists * (1 + (last - folds) / max(last - 1, 1)))

    def keeps_base(self, stage: StageName, num_finalists: int) -> bool:
        """Return whether the study's own settings, the first of a search, are a finalist anyway."""
        return num_finalists > 1 and self.study.table(stage).sampler != "grid"

    def missing_races(self, history: History, task: Task) -> list[Fit]:
        """Return the fits of the race's current round that were not asked for yet."""
        decisions = history.races.get(task, [])
        if task in history.chosen or not decisions:
            return []
        last = decisions[-1]
        if last.folds >= self.race_folds(task.stage):
            return []
        fits = [Fit(each, last.folds, self.study.seed) for each in last.continuing]
        return self.missing(history, task, fits, "race")

    def refits(self, history: History, task: Task) -> list[Fit]:
        """Return all trainings of a task's finalists, once these are chosen."""
        chosen = history.chosen[task]
        fits: list[Fit] = []
        for configuration in chosen.configurations:
            fits += self.finalist_fits(configuration, chosen.seeds)
        return fits

    def comparison_fits(self, history: History, task: Task) -> list[Fit]:
        """Return the trainings of the winning fusion without difficulty.

        There are none before the task is completed, or where the winner reads no difficulty. Of an
        ensemble, the members that do are trained.
        """
        finalists = history.completed.get(task)
        if task.stage != "fusion" or finalists is None:
            return []
        fits: dict[Fit, None] = {}
        for part in finalists[0].parts:
            if self.reads_difficulty(part.configuration):
                blind = self.without_difficulty(part.configuration)
                fits |= dict.fromkeys(self.finalist_fits(blind, history.chosen[task].seeds))
        return list(fits)

    def reads_difficulty(self, configuration: Configuration) -> bool:
        """Return whether a fusion reads difficulty."""
        return bool(configuration.get("difficulty", self.study.fusion.difficulty))

    def without_difficulty(self, configuration: Configuration) -> Configuration:
        """Return what a comparison is called: a fusion's configuration, but for difficulty."""
        return {**configuration, "difficulty": False}

    def missing_comparisons(self, history: History, task: Task) -> list[Fit]:
        """Return the comparison fits that were not asked for yet."""
        return self.missing(history, task, self.comparison_fits(history, task), "comparison")

    def default_fits(self) -> list[Fit]:
        """Return a task's trainings with the study's own settings, as `train` does them."""
        return [Fit({}, fold, self.study.seed) for fold in range(self.num_folds)]

    def missing_defaults(self, history: History, task: Task) -> list[Fit]:
        """Return the default's fits that were not asked for yet, and can be.

        They wait for the task's own winner, whose search has trained some of them, and for the
        default of the stages that they read.
        """
        upstream = task.upstream_tasks(self.study.modalities or ())
        if task not in history.completed or not all(
            default_keys(history, other, self.num_folds) for other in upstream
        ):
            return []
        return self.missing(history, task, self.default_fits(), "default")

    def missing(
        self, history: History, task: Task, fits: Sequence[Fit], purpose: Purpose
    ) -> list[Fit]:
        """Return the fits that were not asked for yet, but none of a failed configuration."""
        trials = trials_by_fit(history, task, purpose)
        failed = failed_configurations(trials.values())
        return [fit for fit in fits if fit not in trials and fit.configuration not in failed]

    def outstanding(self, history: History, task: Task) -> OutstandingFits:
        """Count the fits that a task has not asked for yet."""
        return OutstandingFits(
            search=self._outstanding_search(history, task),
            race=self._outstanding_race(history, task),
            refit=self._outstanding_refits(history, task),
            comparison=self._outstanding_comparisons(history, task),
            default=self._outstanding_defaults(history, task),
        )

    def _outstanding_search(self, history: History, task: Task) -> int:
        if task in history.chosen:
            return 0
        return max(self.num_trials[task.stage] - len(history.trials_of(task, "search")), 0)

    def _outstanding_race(self, history: History, task: Task) -> int:
        if task in history.chosen or task in history.completed:
            return 0
        num_trials = self.num_trials[task.stage]
        num_finalists, last = self._num_finalists(task), self.race_folds(task.stage)
        decisions = history.races.get(task, [])
        if not decisions and num_trials <= num_finalists:
            return 0

        most = len(decisions[-1].continuing) if decisions else num_trials
        further = [
            min(self.race_places(task.stage, num_finalists, folds), most)
            for folds in range(len(decisions) + 1, last)
        ]
        return len(self.missing_races(history, task)) + sum(further)

    def _num_finalists(self, task: Task) -> int:
        return min(self.study.table(task.stage).finalists, self.num_trials[task.stage])

    def _outstanding_refits(self, history: History, task: Task) -> int:
        if task in history.completed:
            return 0
        if task in history.chosen:
            return len(self.missing(history, task, self.refits(history, task), "refit"))

        # Of each finalist, one fit comes from the search, and some from the race.
        table, num_finalists = self.study.table(task.stage), self._num_finalists(task)
        has_race = num_finalists < self.num_trials[task.stage]
        num_trained = self.race_folds(task.stage) if has_race else 1
        return num_finalists * (table.seeds * self.num_folds - num_trained)

    def _outstanding_comparisons(self, history: History, task: Task) -> int:
        if task in history.completed:
            return len(self.missing_comparisons(history, task))

        if task.stage != "fusion" or not self.study.fusion.difficulty:
            return 0
        chosen = history.chosen.get(task)
        seeds = chosen.seeds if chosen else self.study.table(task.stage).seeds
        return seeds * self.num_folds

    def _outstanding_defaults(self, history: History, task: Task) -> int:
        if self._has_lost_default(history, task):
            return 0
        return len(self.missing(history, task, self.default_fits(), "default"))

    def _has_lost_default(self, history: History, task: Task) -> bool:
        """Return whether a default fit failed that the task's own would read."""
        return any(
            any(trial.has_failed for trial in history.trials_of(upstream, "default"))
            or self._has_lost_default(history, upstream)
            for upstream in task.upstream_tasks(self.study.modalities or ())
        )


def default_keys(history: History, task: Task, num_folds: int) -> StageKeys | None:
    """Return the keys of a task's default, one per fold; None while they are not all trained."""
    trials = history.trials_of(task, "default")
    keys = {trial.proposed.fold: trial.proposed.key for trial in trials if trial.is_complete}
    if len(keys) < num_folds:
        return None
    return tuple((keys[fold],) for fold in range(num_folds))


def trials_by_fit(history: History, task: Task, purpose: Purpose) -> dict[Fit, Trial]:
    """Return a task's trials of one purpose, by what they fit.

    A trial of the search or the race that was trained to the end counts as a refit of the finalist
    that it became.
    """
    trials = list(history.trials_of(task, purpose))
    if purpose == "refit":
        trials = [*_trained_before(history, task), *trials]
    return {
        Fit(trial.proposed.configuration, trial.proposed.fold, trial.proposed.seed): trial
        for trial in trials
    }


def _trained_before(history: History, task: Task) -> Sequence[Trial]:
    """Return the complete trials of a task's search and race; once chosen, of its finalists."""
    if task in history.chosen:
        return history.trained_before[task]
    earlier = (*history.trials_of(task, "search"), *history.trials_of(task, "race"))
    return [trial for trial in earlier if trial.is_complete]


def failed_configurations(trials: Iterable[Trial]) -> list[Configuration]:
    """Return the configurations of which a fit failed."""
    return [trial.proposed.configuration for trial in trials if trial.has_failed]
