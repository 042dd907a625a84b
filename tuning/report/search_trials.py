"""The trials of a study's searches, with every setting that they had.

Knows no table and no chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.spec import StageName
from pipeline.stages.task import Task
from tuning.journal.history import History, Trial
from tuning.spec.space import MODALITIES, STAGES, Dimension, Value
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import study_tasks


@dataclass(frozen=True)
class SearchTrial:
    """A trial of a search that has ended and did not fail.

    Attributes:
        trial: the trial as the journal has it.
        settings: path -> value of every setting of its stage, searched or not.
        devel: the devel score of its best epoch: a CCC, or minus the reconstruction error.
        devel_at_rung: the same up to the first rung, which stopped trials have reached too; None
            if the trial has not.
    """

    trial: Trial
    settings: Mapping[str, Value]
    devel: float
    devel_at_rung: float | None

    @property
    def is_complete(self) -> bool:
        """Whether it was trained to its end; the others were stopped."""
        return self.trial.is_complete


class Searches:
    """The searches of a study: what varied, and the trials of each task.

    Args:
        history: of a study that was opened.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._trials: dict[Task, tuple[SearchTrial, ...]] = {}
        self._dimensions: dict[StageName, tuple[Dimension, ...]] = {}
        self._defaults: dict[StageName, dict[str, Value]] = {}

        for stage in STAGES:
            space = self.study.space(stage)
            self._dimensions[stage] = space.dimensions
            self._defaults[stage] = space.defaults

    @cached_property
    def study(self) -> StudySpec:
        """The study as it was opened."""
        return self.history.study

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities of the study."""
        return self.study.modalities or ()

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets of the study."""
        return self.study.targets or ()

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks of the study, upstream ones first."""
        return study_tasks(self.modalities, self.targets)

    def dimensions(self, stage: StageName) -> tuple[Dimension, ...]:
        """Return what was varied in a stage."""
        return self._dimensions[stage]

    def is_varied(self, stage: StageName, *paths: str) -> bool:
        """Return whether a stage's search varied one of these paths."""
        return any(dimension.path in paths for dimension in self._dimensions[stage])

    def first_rung(self, stage: StageName) -> int:
        """Return the epoch of the first rung: early stopping ends no trial before it."""
        return self.study.table(stage).grace_epochs

    def setting(self, stage: StageName, path: str) -> Value | None:
        """Return what every trial has at a path that was not varied."""
        if path == MODALITIES:
            return ",".join(self.modalities)
        return self._defaults[stage].get(path)

    def trials(self, task: Task) -> tuple[SearchTrial, ...]:
        """Return the trials of a task's search; none that failed, and none that still runs."""
        if task not in self._trials:
            candidates = [
                self._search_trial(trial) for trial in self.history.trials_of(task, "search")
            ]
            self._trials[task] = tuple(trial for trial in candidates if trial is not None)
        return self._trials[task]

    def _search_trial(self, trial: Trial) -> SearchTrial | None:
        if trial.ended is None or trial.ended.reason == "error" or trial.best_devel is None:
            return None

        stage = trial.task.stage
        settings = {**self._defaults[stage], **trial.proposed.configuration}
        if stage == "fusion" and MODALITIES not in settings:
            settings[MODALITIES] = ",".join(self.modalities)

        return SearchTrial(trial, settings, trial.best_devel, self._devel_at_rung(trial))

    def _devel_at_rung(self, trial: Trial) -> float | None:
        rung = self.first_rung(trial.task.stage)
        has_reached_rung = bool(trial.epochs) and trial.epochs[-1].epoch >= rung
        if not trial.is_complete and not has_reached_rung:
            return None

        scores = [epoch.score for epoch in trial.epochs if epoch.epoch <= rung]
        return max(scores, default=None)
