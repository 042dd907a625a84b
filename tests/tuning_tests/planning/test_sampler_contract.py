"""What every kind of sampler keeps to, in spaces of each sort."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.tuning_tests.planning.simulated_search import SimulatedSearch
from tests.tuning_tests.planning.spaces import endless_space, finite_space
from tests.tuning_tests.spec.study_files import shipped_study
from tuning.planning.sampling.sampler import Sampler
from tuning.spec.search_table import SamplerKind
from tuning.spec.space import Space

SEED = 3


class Search(NamedTuple):
    """A kind of sampler, and the space that it searches."""

    kind: SamplerKind
    space: Space

    def begin(self) -> SimulatedSearch:
        return SimulatedSearch(self.space, self.kind, SEED)


@pytest.fixture(
    params=[
        ("tpe", "finite"),
        ("tpe", "endless"),
        ("tpe", "wide"),
        ("random", "finite"),
        ("random", "endless"),
        ("random", "wide"),
        ("grid", "finite"),
    ],
    ids=" ".join,
)
def search(request: pytest.FixtureRequest) -> Search:
    kind, name = request.param
    if name == "wide":
        return Search(kind, shipped_study("wide").space("unimodal"))
    return Search(kind, finite_space() if name == "finite" else endless_space())


@pytest.fixture(params=["tpe", "random", "grid"])
def finite_search(request: pytest.FixtureRequest) -> Search:
    return Search(request.param, finite_space())


def test_proposals_lie_in_the_space_and_have_plain_types(search: Search) -> None:
    for configuration in search.begin().run(20):
        validated = search.space.validate(configuration)

        assert configuration == validated
        types = {path: type(value) for path, value in configuration.items()}
        assert types == {path: type(value) for path, value in validated.items()}


def test_no_configuration_is_proposed_twice(search: Search) -> None:
    proposals = search.begin().run(30)

    distinct = {search.space.canonical_json(configuration) for configuration in proposals}

    assert len(distinct) == len(proposals)


def test_a_finite_space_is_used_up_and_stays_used_up(finite_search: Search) -> None:
    simulated = finite_search.begin()

    proposals = simulated.run(100)

    distinct = {finite_search.space.canonical_json(configuration) for configuration in proposals}
    assert len(proposals) == len(distinct) == finite_search.space.size == 20
    assert simulated.propose() is None
    assert simulated.propose() is None
    assert simulated.restored().propose() is None


@pytest.mark.parametrize("num_proposals", [0, 1, 7, 22])
def test_the_same_seed_and_history_give_the_same_proposals(
    search: Search, num_proposals: int
) -> None:
    one, other = search.begin(), search.begin()
    assert one.run(num_proposals) == other.run(num_proposals)

    assert one.run(3) == other.run(3)


@pytest.mark.parametrize("num_proposals", [0, 1, 2, 7, 22])
def test_a_sampler_restored_from_history_goes_on_as_the_one_that_lived(
    search: Search, num_proposals: int
) -> None:
    lived = search.begin()
    lived.run(num_proposals)
    restored = lived.restored()
    assert restored.proposals == lived.proposals

    assert restored.run(6) == lived.run(6)


def test_a_sampler_may_be_restored_before_every_proposal(search: Search) -> None:
    lived = search.begin()
    lived.run(15)

    restored = search.begin()
    for _ in range(15):
        restored = restored.restored()
        restored.propose()

    assert restored.proposals == lived.proposals


def test_a_configuration_that_was_restored_is_not_proposed(finite_search: Search) -> None:
    space = finite_search.space
    sampler = Sampler(space, finite_search.kind, SEED)
    first = space.base_configuration()
    sampler.restore(first)

    proposals = []
    while (configuration := sampler.propose()) is not None:
        proposals.append(configuration)

    assert len(proposals) == 19
    assert first not in proposals


def test_a_sampler_can_be_told_how_a_restored_trial_ended(search: Search) -> None:
    sampler = Sampler(search.space, search.kind, SEED)
    first = search.space.base_configuration()
    sampler.restore(first)

    sampler.tell(first, [(1, 0.1), (2, 0.3)], complete=True)

    second = sampler.propose()
    assert second is not None
    assert second != first
