"""The trials of a study's searches, with every setting that they had: what comparisons and charts are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tuning.journal.history import History, Trial
from tuning.spec.space import MODALITIES, STAGES, Dimension, Stage, Value
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task, tasks


@dataclass(frozen=True)
class Entry:
    """A trial of a search that has ended, and did not fail.

    Attributes:
        trial: from the journal.
        settings: path -> value for every setting of its stage, searched or not.
        score: its best; the CCC, or minus the reconstruction error.
        early: its best up to the first rung, which stopped trials have reached, too; None if it has not.
    """

    trial: Trial
    settings: Mapping[str, Value]
    score: float
    early: float | None

    @property
    def complete(self) -> bool:
        """It was trained to its end; others were stopped."""
        return self.trial.complete


class Searches:
    """What the searches of a study tried."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._entries: dict[Task, tuple[Entry, ...]] = {}
        self._dimensions: dict[Stage, tuple[Dimension, ...]] = {}
        self._defaults: dict[Stage, dict[str, Value]] = {}
        for stage in STAGES:
            space = self.study.space(stage)
            self._dimensions[stage], self._defaults[stage] = space.dimensions, space.defaults

    @cached_property
    def study(self) -> StudySpec:
        return self.history.study

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.study.modalities or ()

    @property
    def targets(self) -> tuple[str, ...]:
        return self.study.targets or ()

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        return tasks(self.modalities, self.targets)

    def dimensions(self, stage: Stage) -> tuple[Dimension, ...]:
        """What was varied in a stage."""
        return self._dimensions[stage]

    def varied(self, stage: Stage, *paths: str) -> bool:
        """Whether one of these was searched."""
        return any(dimension.path in paths for dimension in self._dimensions[stage])

    def rung(self, stage: Stage) -> int:
        """The first one: no trial is stopped by early stopping before it."""
        return self.study.table(stage).grace_epochs

    def setting(self, stage: Stage, path: str, values: Mapping[str, Value]) -> Value | None:
        """What a configuration has at a path: its own value, or that which holds for all."""
        if path == MODALITIES and path not in values:
            return ",".join(self.modalities)
        return values.get(path, self._defaults[stage].get(path))

    def of(self, task: Task) -> tuple[Entry, ...]:
        """Trials that say something; failed ones and those that still run do not."""
        if task not in self._entries:
            found = [
                self._entry(trial)
                for trial in self.history.of(task)
                if trial.proposed.purpose == "search"
            ]
            self._entries[task] = tuple(entry for entry in found if entry is not None)
        return self._entries[task]

    def _entry(self, trial: Trial) -> Entry | None:
        if trial.ended is None or trial.ended.reason == "error" or trial.best is None:
            return None
        stage, values = trial.task.stage, trial.proposed.values
        settings = {**self._defaults[stage], **values}
        if stage == "fusion" and MODALITIES not in settings:
            settings[MODALITIES] = ",".join(self.modalities)
        return Entry(trial, settings, trial.best, self._early(trial))

    def _early(self, trial: Trial) -> float | None:
        rung = self.rung(trial.task.stage)
        reached = trial.complete or (trial.epochs and trial.epochs[-1].epoch >= rung)
        return (
            max((epoch.score for epoch in trial.epochs if epoch.epoch <= rung), default=None)
            if reached
            else None
        )
