"""Which trials of a study early stopping stopped, which it kept, and a random sample of the stopped ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np

from pipeline.stages.stage import Epoch
from tuning.journal.history import History, Trial
from tuning.spec.tasks import Task


@dataclass(frozen=True)
class Course:
    """A trial of the search, to its end.

    Attributes:
        trial: as the study had it.
        epochs: all of them.
        final: its best score; minus infinity where it failed on the way.
    """

    trial: Trial
    epochs: tuple[Epoch, ...]
    final: float

    def until(self, rung: int) -> float:
        """What early stopping saw of it at a rung, or would have seen."""
        return max(
            (epoch.score for epoch in self.epochs if epoch.epoch <= rung), default=self.final
        )


@dataclass(frozen=True)
class Search:
    """What early stopping did in a task.

    Attributes:
        task: in which it stopped at least one trial.
        kept: trials that the study itself trained to the end, as finalists at the latest.
        stopped: the others; those that failed, or ran out of time, are neither.
        again: those of the stopped ones that the audit trained to the end.
        epochs: that the study trained in this search.
    """

    task: Task
    kept: tuple[Course, ...]
    stopped: tuple[Trial, ...]
    epochs: int
    again: tuple[Course, ...] = ()

    @property
    def rungs(self) -> list[int]:
        """At which it judged."""
        return sorted(
            {
                j.rung
                for trial in [*self.stopped, *(c.trial for c in self.kept)]
                for j in trial.judged
            }
        )

    @cached_property
    def best_kept(self) -> float | None:
        """The best final score that the study knows of; None if nothing is trained to the end yet."""
        return max((course.final for course in self.kept), default=None)

    @property
    def weight(self) -> float:
        """Stopped trials for which each one that was trained again stands."""
        return len(self.stopped) / len(self.again)

    @property
    def not_again(self) -> list[Trial]:
        """Stopped trials whose final score is not known."""
        known = {course.trial.name for course in self.again}
        return [trial for trial in self.stopped if trial.name not in known]


def searches_of(found: History) -> list[Search]:
    """The searches in which early stopping stopped something."""
    searches = []
    for task in dict.fromkeys(trial.task for trial in found.trials.values()):
        complete = {trial.proposed.key: trial for trial in found.of(task) if trial.complete}
        searched = found.searched(task)
        kept, stopped = [], []
        for trial in searched:
            if own := complete.get(
                trial.proposed.key
            ):  # its own fit, or that of the finalist it became
                kept.append(
                    Course(trial, tuple(own.epochs), own.best if own.best is not None else -np.inf)
                )
            elif trial.ended is not None and trial.ended.reason == "asha":
                stopped.append(trial)
        trained = {t.name: t for t in [*searched, *(complete[c.trial.proposed.key] for c in kept)]}
        epochs = sum(passed(trial) for trial in trained.values())
        if stopped:
            searches.append(Search(task, tuple(kept), tuple(stopped), epochs))
    return searches


def draw_sample(stopped: Mapping[Task, Sequence[Trial]], size: int, seed: int) -> list[Trial]:
    """Random trials, of one task after the other, until there are enough; the order depends on names and seed alone."""

    def number(name: object) -> str:
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    of_tasks = [
        sorted(stopped[task], key=lambda trial: number(trial.proposed.key))
        for task in sorted(stopped, key=number)
    ]
    return [
        trial for one_each in zip_longest(*of_tasks) for trial in one_each if trial is not None
    ][:size]


def passed(trial: Trial) -> int:
    """Epochs that the study trained of it."""
    return (
        trial.epochs[-1].epoch
        if trial.epochs and not (trial.ended and trial.ended.reason == "store")
        else 0
    )
