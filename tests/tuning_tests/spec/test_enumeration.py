"""A grid holds every configuration once, and its size is their number."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.spec import Spec
from tests.tuning_tests.spec.study_files import any_value, shipped_study, unimodal_space
from tuning.spec.space import Choice, Dimension, Domain, IntRange, Space, Value

DOMAINS: list[tuple[str, Domain]] = [
    ("network.cell", Choice(("gru", "lstm"))),
    ("network.num_layers", IntRange(1, 4)),
    ("network.skip", Choice((True, False))),
    ("fit.batch_size", Choice((2, 4, 8))),
    ("fit.loss", Choice(("mse", "l1", "ccc"))),
]


@st.composite
def finite_spaces(draw: st.DrawFn) -> Space:
    """Draw spaces with conditions at any depth."""
    space = Space("unimodal", Spec(), (), ())

    for path, domain in draw(st.permutations(DOMAINS))[: draw(st.integers(1, 5))]:
        when = draw(conditions(space.dimensions))
        with contextlib.suppress(InputError):  # conditions that never hold together
            space = space.with_dimension(Dimension(path, domain, when))

    return space


@st.composite
def conditions(draw: st.DrawFn, earlier: tuple[Dimension, ...]) -> dict[str, tuple[Value, ...]]:
    """Draw conditions that refer to earlier dimensions."""
    if not earlier:
        return {}

    when = {}
    for dimension in draw(st.lists(st.sampled_from(earlier), max_size=2)):
        values = st.lists(any_value(dimension), min_size=1, max_size=3, unique=True)
        when[dimension.path] = tuple(draw(values))
    return when


@given(space=finite_spaces())
def test_a_grid_holds_each_distinct_configuration_once_and_size_is_their_number(
    space: Space,
) -> None:
    grid = list(space.grid())

    # The independent count: all combinations of all dimensions, distinguished by their settings.
    paths = [dimension.path for dimension in space.dimensions]
    distinct = set()
    for values in itertools.product(*(d.domain.values or () for d in space.dimensions)):
        everything = dict(zip(paths, values, strict=True))
        distinct.add(space.settings(everything).model_dump_json())

    assert {space.settings(configuration).model_dump_json() for configuration in grid} == distinct
    assert len({space.canonical_json(configuration) for configuration in grid}) == len(grid)
    assert len(grid) == len(distinct) == space.size


def test_the_grids_of_the_paper_have_its_sizes() -> None:
    study = shipped_study("paper")
    cells, rates, dropouts = 4, 3, 3

    assert study.space("auto_encoder").size == cells * rates * dropouts * 2
    assert study.space("unimodal").size == cells * rates * dropouts * 3 * 2
    assert study.num_trials("unimodal") == 216
    assert len(list(study.space("unimodal").grid())) == 216
    subsets = 4  # three pairs, and all three modalities
    assert study.space("fusion").size == 2 * rates * dropouts * 3 * 2 * subsets


def test_size_counts_only_where_a_condition_holds_even_in_a_long_range(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path,
        '"fit.batch_size" = { int = [1, 9007199254740992] }',
        '"fit.loss" = { choice = ["mse", "l1", "ccc"], when = { "fit.batch_size" = [1, 7] } }',
    )

    assert space.size == 2 * 3 + (2**53 - 2)


def test_a_continuous_space_has_no_size_and_no_grid(tmp_path: Path) -> None:
    space = unimodal_space(tmp_path, '"network.dropout" = { uniform = [0.0, 0.5] }')

    assert space.size is None
    with pytest.raises(InputError, match=r"network\.dropout"):
        space.grid()
