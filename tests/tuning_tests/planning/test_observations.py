"""TPE sees all trials of a small search, and of a large one the best and a sample of the others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from random import Random
from typing import NamedTuple

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from tests.tuning_tests.planning.simulated_search import SimulatedSearch
from tests.tuning_tests.planning.spaces import endless_space
from tuning.planning.sampling import observations
from tuning.planning.sampling.observations import NUM_BEST, NUM_OTHERS, NUM_RUNNING, Observations

DISTRIBUTIONS = {"x": FloatDistribution(0.0, 1.0)}
NUM_SEEN = NUM_BEST + NUM_OTHERS


class End(NamedTuple):
    """How the trial of a number ended; without scores it failed."""

    number: int
    scores: list[tuple[int, float]]
    is_complete: bool


def seen(num_begun: int, ends: Iterable[End]) -> list[FrozenTrial]:
    """Return what a sampler sees after so many trials began and some ended, in this order."""
    collected = Observations()
    for number in range(num_begun):
        collected.begin(str(number), {"x": number / num_begun}, dict(DISTRIBUTIONS))
    for end in ends:
        collected.end(str(end.number), end.scores, complete=end.is_complete)

    study = collected.study(optuna.samplers.RandomSampler(seed=0))
    own = study.ask()
    assert own.number not in {trial.number for trial in study.trials}
    return study.trials


def ends(num: int, seed: int = 0) -> list[End]:
    """Return ends of trials: two in three were trained to the end, one in ten failed."""
    random = Random(seed)
    made = []
    for number in range(num):
        scores = [(1, random.random()), (random.randint(2, 9), random.random())]
        is_failed = random.random() < 0.1
        made.append(End(number, [] if is_failed else scores, random.random() < 0.67))
    return made


def test_a_small_search_is_seen_whole() -> None:
    some = ends(300)

    trials = seen(310, some)

    ended = [end for end in some if end.scores]
    assert len(trials) == len(ended) + 10
    by_number = {trial.number - 1: trial for trial in trials}
    for end in ended:
        trial = by_number[end.number]
        assert trial.params == {"x": end.number / 310}
        assert trial.intermediate_values == dict(end.scores)
        assert trial.state == (TrialState.COMPLETE if end.is_complete else TrialState.PRUNED)
        assert not end.is_complete or trial.value == end.scores[-1][1]
    assert all(by_number[number].state == TrialState.RUNNING for number in range(300, 310))
    assert [trial.number for trial in trials] == sorted(by_number[key].number for key in by_number)


def test_a_large_search_is_bounded_and_its_best_are_seen() -> None:
    num_ended = 2 * NUM_SEEN
    some = ends(num_ended)

    trials = seen(num_ended + 2 * NUM_RUNNING, some)

    states = [trial.state for trial in trials]
    assert states.count(TrialState.RUNNING) == NUM_RUNNING
    assert len(trials) == NUM_SEEN + NUM_RUNNING
    newest = {trial.number for trial in trials if trial.state == TrialState.RUNNING}
    assert newest == set(range(num_ended + NUM_RUNNING + 1, num_ended + 2 * NUM_RUNNING + 1))

    complete = [end for end in some if end.scores and end.is_complete]
    complete.sort(key=lambda end: -end.scores[-1][1])
    numbers = {trial.number - 1 for trial in trials}
    assert {end.number for end in complete[:NUM_BEST]} <= numbers


def test_the_others_are_spread_over_the_whole_search() -> None:
    num_ended = 5 * NUM_SEEN

    trials = seen(num_ended, [End(n, [(1, 0.0), (2, 0.5)], True) for n in range(num_ended)])

    numbers = [0, *(trial.number for trial in trials), num_ended]
    gaps = [later - earlier for earlier, later in pairwise(numbers)]
    assert max(gaps) <= 3 * num_ended / NUM_SEEN


@pytest.mark.parametrize("seed", range(2))
def test_the_order_in_which_trials_ended_does_not_matter(seed: int) -> None:
    some = ends(3 * NUM_SEEN, seed)
    other = list(some)
    Random(seed).shuffle(other)

    first, second = seen(3 * NUM_SEEN, some), seen(3 * NUM_SEEN, other)

    assert [trial.number for trial in first] == [trial.number for trial in second]
    assert [trial.params for trial in first] == [trial.params for trial in second]


def test_the_best_are_those_that_tpe_takes_for_good() -> None:
    # Fewer complete trials than are good: the others are those that were stopped last.
    complete = [End(number, [(9, -1.0)], True) for number in range(NUM_BEST - 2)]
    stopped = [
        End(number, [(1 + number % 7, number / 1e4)], False)
        for number in range(NUM_BEST - 2, 3 * NUM_SEEN)
    ]

    trials = seen(3 * NUM_SEEN, [*stopped, *complete])

    numbers = {trial.number - 1 for trial in trials}
    longest = sorted(stopped, key=lambda end: (-end.scores[-1][0], -end.scores[-1][1]))
    assert numbers >= {end.number for end in (*complete, *longest[:2])}


def test_a_nan_is_a_failure() -> None:
    assert seen(1, [End(0, [(1, float("nan"))], True)]) == []


@pytest.mark.parametrize("num_proposals", [60, 75])
def test_a_large_search_that_is_restored_goes_on_as_the_one_that_lived(
    monkeypatch: pytest.MonkeyPatch, num_proposals: int
) -> None:
    monkeypatch.setattr(observations, "NUM_OTHERS", 12)
    lived = SimulatedSearch(endless_space(), "tpe", 3)
    lived.run(num_proposals)

    assert lived.restored().run(6) == lived.run(6)
