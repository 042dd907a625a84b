"""Early stopping by asynchronous successive halving among the trials of one task.

This is the variant of ASHA (Li et al., 2020) that stops trials: every trial starts, and it
continues after a rung only if it is among the best there. The decisions depend on nothing but the
journal, so nothing is lost when a study is resumed.

Two trials are compared by their deciding scores, on devel and held-out people together, where both
are known; else by devel's. A fit itself is stopped by devel alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

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
    searched: Iterable[Trial],
    scores: Mapping[int, float],
    table: SearchTable,
    deciding: float | None = None,
) -> list[RungDecision]:
    """Decide at every rung that a trial has reached, and where nothing was decided yet.

    Args:
        trial: of the search.
        searched: all trials of the task's search.
        scores: epoch -> devel score, of all epochs that the trial has passed.
        table: grace_epochs and reduction_factor.
        deciding: the deciding score of the best epoch until the last that it has passed; None where
            it is unknown.
    """
    others = [other for other in searched if other is not trial]
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
                    continues=may_continue(others, rung, at_rung, table.reduction_factor),
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


def may_continue(
    others: Iterable[Trial], rung: int, score: RungScore, reduction_factor: int
) -> bool:
    """Return whether a trial continues after a rung.

    It does if it is among the best `ceil(n / reduction_factor)` of the n trials that have reached
    the rung so far, itself included.

    Args:
        others: the task's other trials.
        rung: in epochs.
        score: the trial's best up to the rung.
        reduction_factor: of so many trials one continues; of fewer, the best.
    """
    scores = [score_at(trial, rung) for trial in others]
    reached = [other_score for other_score in scores if other_score is not None]

    num_better = sum(score.is_below(other_score) for other_score in reached)
    num_promoted = ceil((len(reached) + 1) / reduction_factor)
    return num_better < num_promoted


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
