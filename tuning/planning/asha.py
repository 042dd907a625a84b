"""Early stopping by asynchronous successive halving among the trials of one task.

This is the variant of ASHA (Li et al., 2020) that stops trials: every trial starts, and it
continues after a rung only if it is among the best there. The decisions depend on nothing but the
journal, so nothing is lost when a study is resumed.

Two trials are compared by their deciding scores, on devel and held-out people together, where both
are known; else by devel's. A fit itself is stopped by devel alone.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, isnan

from tuning.journal.clock import now
from tuning.journal.events import RungDecision
from tuning.journal.history import Trial
from tuning.spec.search_table import SearchTable


def rungs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> tuple[int, ...]:
    """Return the rungs of a trial, in epochs, in ascending order.

    The first is `grace_epochs`, and each is `reduction_factor` times the one before. A rung at the
    last epoch or later would stop nothing and is left out.
    """
    epochs = []
    rung = grace_epochs

    while rung < max_epochs:
        epochs.append(rung)
        rung *= reduction_factor

    return tuple(epochs)


def rung_decisions(
    trial: Trial,
    search: SearchRungs,
    scores: Mapping[int, float],
    table: SearchTable,
    deciding: float | None = None,
) -> list[RungDecision]:
    """Decide at every rung that a trial has reached, and where nothing was decided yet.

    Args:
        trial: of the search.
        search: what the other trials of the task's search have at each rung.
        scores: epoch -> devel score, of all epochs that the trial has passed.
        table: grace_epochs and reduction_factor.
        deciding: the deciding score of the best epoch until the last that it has passed; None where
            it is unknown.
    """
    decided = {decision.rung for decision in trial.rung_decisions}
    last_epoch = max(scores, default=0)

    decisions = []
    for rung in rungs(table.grace_epochs, table.reduction_factor, last_epoch + 1):
        if rung not in decided:
            at_rung = RungScore(
                devel=max(score for epoch, score in scores.items() if epoch <= rung),
                deciding=deciding if rung == last_epoch else None,
            )
            decisions.append(
                RungDecision(
                    at=now(),
                    trial=trial.name,
                    rung=rung,
                    score=at_rung.devel,
                    deciding=at_rung.deciding,
                    continues=search.at(rung).may_continue(at_rung, table.reduction_factor),
                )
            )
    return decisions


@dataclass(frozen=True)
class RungScore:
    """A trial's best score up to a rung.

    Attributes:
        devel: on devel.
        deciding: on devel and held-out people together; None where it is unknown.
    """

    devel: float
    deciding: float | None = None

    def is_below(self, other: RungScore) -> bool:
        """Return whether another trial is better."""
        if self.deciding is not None and other.deciding is not None:
            return self.deciding < other.deciding
        return self.devel < other.devel


class SearchRungs:
    """The scores that the trials of one search have at each rung, kept in order.

    A decision then takes no longer where there are thousands of trials.

    Args:
        trials: of the search so far.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials = {trial.name: trial for trial in trials}
        self._rungs: dict[int, Rung] = {}

    def at(self, rung: int) -> Rung:
        """Return the scores at a rung, in epochs."""
        if rung not in self._rungs:
            self._rungs[rung] = Rung(rung, self._trials.values())
        return self._rungs[rung]

    def update(self, trial: Trial) -> None:
        """Take into account that a trial was decided on, or has ended."""
        self._trials[trial.name] = trial
        for rung in self._rungs.values():
            rung.update(trial)


class Rung:
    """The scores of those that have reached a rung.

    Args:
        epochs: of the rung.
        trials: of a search; those that have not reached the rung count for nothing.
    """

    def __init__(self, epochs: int, trials: Iterable[Trial]) -> None:
        self._epochs = epochs
        self._names: set[str] = set()
        # Ascending: all devel scores, those of trials without a deciding score, deciding scores.
        self._devel: list[float] = []
        self._devel_alone: list[float] = []
        self._deciding: list[float] = []
        for trial in trials:
            self.update(trial)

    def update(self, trial: Trial) -> None:
        """Add a trial's score, if it has reached the rung and was not added before."""
        if trial.name in self._names or (score := score_at(trial, self._epochs)) is None:
            return

        self._names.add(trial.name)
        if score.deciding is None:
            _insert(self._devel_alone, score.devel)
        else:
            _insert(self._deciding, score.deciding)
        _insert(self._devel, score.devel)

    def may_continue(self, score: RungScore, reduction_factor: int) -> bool:
        """Return whether a further trial continues after the rung.

        It does if it is among the best `ceil(n / reduction_factor)` of the n trials that have
        reached the rung so far, itself included.

        Args:
            score: the trial's best up to the rung.
            reduction_factor: of so many trials one continues; of fewer, the best.
        """
        num_promoted = ceil((len(self._names) + 1) / reduction_factor)
        return self._num_better(score) < num_promoted

    def _num_better(self, score: RungScore) -> int:
        """Return how many are better, as `RungScore.is_below` compares them one by one."""
        if score.deciding is None:
            return _num_above(self._devel, score.devel)
        num_better = _num_above(self._deciding, score.deciding)
        return num_better + _num_above(self._devel_alone, score.devel)


def _insert(ascending: list[float], value: float) -> None:
    if not isnan(value):  # which is better than nothing
        insort(ascending, value)


def _num_above(ascending: list[float], value: float) -> int:
    return 0 if isnan(value) else len(ascending) - bisect_right(ascending, value)


def score_at(trial: Trial, rung: int) -> RungScore | None:
    """Return a trial's best score up to a rung, or None if it has not reached the rung.

    A trial that ended by itself before the rung counts as having reached it: with more epochs it
    would have kept its best.
    """
    for decision in trial.rung_decisions:
        if decision.rung == rung:
            return RungScore(decision.score, decision.deciding)

    if not trial.is_complete or trial.ended is None:
        return None

    scores = [epoch.score for epoch in trial.epochs if epoch.epoch <= rung]
    devel = max(scores, default=trial.ended.devel)
    if devel is None:
        return None
    has_kept_best = trial.ended.best_epoch <= rung
    return RungScore(devel, trial.ended.deciding if has_kept_best else None)
