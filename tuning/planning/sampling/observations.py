"""The trials that TPE learns from: all of a small search, and a bounded number of a large one.

TPE reads every trial that it is given for each proposal. So the time of a proposal would grow with
their number, and with thousands of trials a cluster would wait for its driver.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Container, Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

NUM_BEST = 25
"""So many trials, at most, TPE takes for good ones (`optuna.samplers._tpe.sampler.default_gamma`);
of 250 trials and more it is always this number."""
NUM_OTHERS = 975
"""So many of the other trials that ended stand for all of them."""
NUM_RUNNING = 500
"""So many of the running trials, the last ones that began, keep parallel proposals apart."""
GOLDEN = (math.sqrt(5) - 1) / 2


class Observations:
    """Collects the trials of one search.

    What it shows depends on the order in which trials began and on how they ended, not on the order
    in which they ended. So it is the same after a resumption.
    """

    def __init__(self) -> None:
        self._num_begun = 0
        self._running: dict[str, FrozenTrial] = {}
        # Sorted: (rank, trial's number, trial), and (place in the sample, trial).
        self._best: list[tuple[tuple[float, ...], int, FrozenTrial]] = []
        self._others: list[tuple[float, int, FrozenTrial]] = []

    def begin(
        self, key: str, params: dict[str, Any], distributions: dict[str, BaseDistribution]
    ) -> None:
        """Take note of a trial that runs from now on, under a key of its own."""
        trial = create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        self._num_begun += 1
        trial.number = self._num_begun
        self._running[key] = trial

    def end(self, key: str, scores: Sequence[tuple[int, float]], *, complete: bool) -> None:
        """Take note of how a running trial ended.

        Args:
            key: of the trial.
            scores: (epoch, best score so far); empty if the trial failed.
            complete: whether it was trained to the end, not stopped before.
        """
        begun = self._running.pop(key)
        if not scores or not math.isfinite(scores[-1][1]):
            return

        _, final_score = scores[-1]
        trial = create_trial(
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            value=final_score if complete else None,
            params=begun.params,
            distributions=begun.distributions,
            intermediate_values=dict(scores),
        )
        trial.number = begun.number
        bisect.insort(self._best, (_rank(trial), trial.number, trial))

        if len(self._best) > NUM_BEST:
            _, number, other = self._best.pop()
            bisect.insort(self._others, (_place(number), number, other))
            del self._others[NUM_OTHERS:]

    def study(self, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
        """Return a study for one proposal, in which a sampler sees these trials."""
        newest = list(islice(reversed(self._running.values()), NUM_RUNNING))
        seen = [trial for _, _, trial in (*self._best, *self._others)] + newest
        seen.sort(key=lambda trial: trial.number)
        return optuna.create_study(direction="maximize", sampler=sampler, storage=_Storage(seen))


class _Storage(optuna.storages.InMemoryStorage):
    """Shows trials that it was given, and none that are made in it.

    The one trial that is made in it has the number 0, which none of those has that it was given.
    """

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._shown = trials

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials in some states, or all."""
        return [trial for trial in self._shown if states is None or trial.state in states]


def _rank(trial: FrozenTrial) -> tuple[float, ...]:
    """Return the place of a trial in TPE's order, in which the best come first.

    Complete trials go before those that were stopped; among these, those that were stopped later.
    """
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return (0.0, 0.0, -trial.value)
    epoch, score = max(trial.intermediate_values.items())
    return (1.0, -epoch, -score)


def _place(number: int) -> float:
    """Return where a trial comes in the sample: any first ones are spread over the whole search."""
    return number * GOLDEN % 1
