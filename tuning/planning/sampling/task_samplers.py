"""The samplers of a study's tasks: each begins with the study's own settings."""

from __future__ import annotations

from pipeline.stages.task import Task
from tuning.journal.history import History, Trial
from tuning.planning.configurations import Configurations
from tuning.planning.sampling.sampler import Sampler, derive_seed
from tuning.spec.space import Configuration
from tuning.spec.study_spec import StudySpec


class TaskSamplers:
    """Proposes the next configuration of a task's search.

    Args:
        study: says which sampler a stage has.
        configurations: know the spaces.
        history: what was proposed before, kept up to date by its owner.
    """

    def __init__(self, study: StudySpec, configurations: Configurations, history: History) -> None:
        self._study, self._configurations, self._history = study, configurations, history
        self._samplers: dict[Task, Sampler] = {}
        self._exhausted: set[Task] = set()

    def propose(self, task: Task) -> Configuration | None:
        """Return a configuration that was not proposed before; None where there is none left."""
        if task in self._exhausted:
            return None

        sampler = self._sampler(task)
        configuration = self._first_configuration(task, sampler) or sampler.propose()
        if configuration is None:
            self._exhausted.add(task)
        return configuration

    def tell(self, trial: Trial) -> None:
        """Let a sampler learn from a trial of its search that ended."""
        # A sampler that is made later reads the trial from the history.
        if trial.proposed.purpose == "search" and trial.task in self._samplers:
            _tell(self._samplers[trial.task], trial)

    def _first_configuration(self, task: Task, sampler: Sampler) -> Configuration | None:
        """Return the study's own settings, with which a search begins.

        A grid has them anyway, or leaves them out.
        """
        is_grid = self._study.table(task.stage).sampler == "grid"
        if is_grid or self._history.trials_of(task, "search"):
            return None
        configuration = self._configurations.space(task).base_configuration()
        sampler.restore(configuration)
        return configuration

    def _sampler(self, task: Task) -> Sampler:
        """Return a task's sampler; after a resumption it first learns what happened before."""
        if task in self._samplers:
            return self._samplers[task]

        kind = self._study.table(task.stage).sampler
        seed = derive_seed(self._study.seed, str(task))
        sampler = self._samplers[task] = Sampler(self._configurations.space(task), kind, seed)

        for trial in self._history.trials_of(task, "search"):
            sampler.restore(trial.proposed.configuration)
        for trial in self._history.ended:
            if trial.task == task and trial.proposed.purpose == "search":
                _tell(sampler, trial)
        return sampler


def _tell(sampler: Sampler, trial: Trial) -> None:
    if trial.ended is None:
        return

    scores = [(epoch.epoch, epoch.score) for epoch in trial.epochs]
    if trial.search_score is not None:
        scores.append((trial.ended.epochs + 1, trial.search_score))  # the last score counts
    if trial.has_failed:
        scores = []
    sampler.tell(trial.proposed.configuration, scores, complete=trial.is_complete)
