"""Early stopping by successive halving, asynchronous (ASHA; Li et al., 2020), among the trials of one task.

Its memory is the journal: what every trial had reached at every rung. So nothing is forgotten when a study is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from tuning.journal.history import Trial


def rungs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> tuple[int, ...]:
    """The epochs at which a trial is judged: grace_epochs, then so many times more each; all before its last one."""
    found, rung = [], grace_epochs
    while rung < max_epochs:
        found.append(rung)
        rung *= reduction_factor
    return tuple(found)


def goes_on(others: Iterable[Trial], rung: int, score: float, reduction_factor: int) -> bool:
    """Whether a trial is among the best 1 / reduction_factor of all that have reached a rung so far, itself included.

    Args:
        others: the task's other trials.
        rung: epochs.
        score: the trial's best until then.
        reduction_factor: of so many, one goes on; of fewer, the best.
    """
    reached = [found for trial in others if (found := score_at(trial, rung)) is not None]
    better = sum(found > score for found in reached)
    return better < ceil((len(reached) + 1) / reduction_factor)


def score_at(trial: Trial, rung: int) -> float | None:
    """A trial's best score up to a rung; None if it has not come so far.

    One that lost patience before the rung is there, too: with more epochs it would have kept its best.
    """
    for judged in trial.judged:
        if judged.rung == rung:
            return judged.score
    if trial.complete and trial.ended is not None:
        return max(
            (epoch.score for epoch in trial.epochs if epoch.epoch <= rung),
            default=trial.ended.score,
        )
    return None
