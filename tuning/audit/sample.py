"""Which trials of a study were stopped early, which were kept, and a random sample of the stopped.

Knows no training: what the sampled trials would have reached is for `retrain` to find out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest

import numpy as np

from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Epoch
from tuning.journal.events import RungDecision
from tuning.journal.history import History, Trial


@dataclass(frozen=True)
class FinishedTrial:
    """A trial of the search with every epoch until its end.

    Attributes:
        trial: as the study's journal has it; it may have been stopped there.
        epochs: all of them.
        final_score: the best devel score of all epochs; minus infinity where the fit failed.
    """

    trial: Trial
    epochs: tuple[Epoch, ...]
    final_score: float

    def score_at(self, rung: int) -> float:
        """Return the best devel score until a rung, which early stopping decides by.

        Args:
            rung: a number of epochs.

        Returns:
            The final score where there is no epoch until the rung.
        """
        scores = [epoch.score for epoch in self.epochs if epoch.epoch <= rung]
        return max(scores, default=self.final_score)


@dataclass(frozen=True)
class TaskTrials:
    """The search trials of one task, by what early stopping did with them.

    Trials that failed or ran out of time are neither kept nor stopped.

    Attributes:
        task: the task; early stopping stopped at least one of its trials.
        kept: trials that the study trained to the end, in the search or later as finalists.
        stopped: the other trials that early stopping ended.
        num_epochs: epochs that the study trained in this search.
        retrained: those of the stopped trials that the audit trained to the end.
    """

    task: Task
    kept: tuple[FinishedTrial, ...]
    stopped: tuple[Trial, ...]
    num_epochs: int
    retrained: tuple[FinishedTrial, ...] = ()

    @property
    def rungs(self) -> list[int]:
        """Return the rungs at which early stopping decided, in order."""
        trials = [*self.stopped, *(finished.trial for finished in self.kept)]
        decisions = chain.from_iterable(trial.rung_decisions for trial in trials)
        return sorted({decision.rung for decision in decisions})

    @cached_property
    def best_kept_score(self) -> float | None:
        """Return the best final score of the kept trials; None where there is none yet."""
        return max((finished.final_score for finished in self.kept), default=None)

    @property
    def weight(self) -> float:
        """Return how many stopped trials each retrained one stands for."""
        return len(self.stopped) / len(self.retrained)

    @property
    def not_retrained(self) -> list[Trial]:
        """Return the stopped trials whose final score is unknown."""
        retrained_names = {finished.trial.name for finished in self.retrained}
        return [trial for trial in self.stopped if trial.name not in retrained_names]


def split_search_trials(history: History) -> list[TaskTrials]:
    """Split the search trials of each task into kept and stopped ones.

    Returns:
        The tasks in which early stopping stopped a trial, in the order of their first trials.
    """
    tasks = dict.fromkeys(trial.task for trial in history.trials.values())
    trials_by_task = [_split_task(history, task) for task in tasks]
    return [trials for trials in trials_by_task if trials.stopped]


def draw_sample(stopped: Mapping[Task, Sequence[Trial]], size: int, seed: int) -> list[Trial]:
    """Draw random trials, one from each task in turn.

    The order depends on nothing but the tasks' names, the trials' keys and the seed, so a larger
    sample contains every smaller one of the same seed.

    Args:
        stopped: each task's stopped trials.
        size: how many trials to draw; all of them where there are fewer.
        seed: another seed draws another sample.
    """
    tasks = sorted(stopped, key=lambda task: _random_rank(str(task), seed))
    shuffled = [
        sorted(stopped[task], key=lambda trial: _random_rank(trial.proposed.key, seed))
        for task in tasks
    ]

    turns = chain.from_iterable(zip_longest(*shuffled))
    trials = [trial for trial in turns if trial is not None]
    return trials[:size]


def is_stopped(trial: Trial) -> bool:
    """Return whether early stopping ended a trial."""
    return trial.ended is not None and trial.ended.reason == "asha"


def stop_decision(trial: Trial) -> RungDecision:
    """Return the decision that ended a stopped trial: its last one."""
    return trial.rung_decisions[-1]


def num_trained_epochs(trial: Trial) -> int:
    """Return how many epochs the study trained of a trial; 0 where it was in the store already."""
    is_from_store = trial.ended is not None and trial.ended.reason == "store"
    if is_from_store or not trial.epochs:
        return 0
    return trial.epochs[-1].epoch


def _split_task(history: History, task: Task) -> TaskTrials:
    searched = history.trials_of(task, "search")
    complete_fits = {
        trial.proposed.key: trial for trial in history.trials_of(task) if trial.is_complete
    }

    kept, stopped = [], []
    fits = {trial.name: trial for trial in searched}
    for trial in searched:
        # A stopped trial may have become a finalist: then a complete fit has the same key.
        complete_fit = complete_fits.get(trial.proposed.key)
        if complete_fit is not None:
            kept.append(_finished_in_study(trial, complete_fit))
            fits[complete_fit.name] = complete_fit
        elif is_stopped(trial):
            stopped.append(trial)

    num_epochs = sum(num_trained_epochs(fit) for fit in fits.values())
    return TaskTrials(task, tuple(kept), tuple(stopped), num_epochs)


def _finished_in_study(trial: Trial, complete_fit: Trial) -> FinishedTrial:
    best_devel = complete_fit.best_devel
    final_score = -np.inf if best_devel is None else best_devel
    return FinishedTrial(trial, tuple(complete_fit.epochs), final_score)


def _random_rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
