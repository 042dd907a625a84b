"""Proposals: never the same twice, the same after a restart, better than chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from pipeline.errors import InputError
from tuning.planning.sampler import Kind, Sampler
from tuning.spec.space import Value
from tuning.spec.study_spec import StudySpec, for_corpus, read_study

STUDIES = "tuning/studies"


def _study(name: str) -> StudySpec:
    from pathlib import Path

    return for_corpus(
        read_study(Path(__file__).parents[3] / STUDIES / f"{name}.toml"),
        ("voice", "face", "text"),
        ("arousal",),
    )


def _score(values: Mapping[str, Value]) -> float:
    """Best at a learning rate of 0.003."""
    rate = values["fit.learning_rate"]
    assert isinstance(rate, float)
    return -abs(float(np.log(rate / 0.003)))


@pytest.mark.parametrize("kind", ["tpe", "random", "grid"])
def test_a_finite_space_is_gone_through_once(kind: Kind) -> None:
    space = _study("demo").space("auto_encoder")
    sampler = Sampler(space, kind, 0)
    found = []
    while (values := sampler.propose()) is not None:
        found.append(space.canonical(values))
        sampler.tell(values, [(1, 0.0)], complete=True)
    assert len(found) == len(set(found)) == space.size == 4


@pytest.mark.parametrize("kind", ["tpe", "random"])
@pytest.mark.parametrize("told", [0, 5, 20])
def test_a_sampler_made_from_the_same_history_proposes_the_same(kind: Kind, told: int) -> None:
    space = _study("wide").space("unimodal")
    one, other = Sampler(space, kind, 3), Sampler(space, kind, 3)
    tried = []
    for _ in range(told + 2):  # two are still running
        values = one.propose()
        assert values is not None
        tried.append(values)
        if len(tried) > 2:
            one.tell(tried[-3], [(1, -9.0), (5, _score(tried[-3]))], complete=len(tried) % 2 == 0)
    for values in tried:
        other.restore(values)
    for place, values in enumerate(tried[:-2]):
        other.tell(values, [(1, -9.0), (5, _score(values))], complete=place % 2 == 1)
    assert one.propose() == other.propose()


def test_another_seed_proposes_something_else() -> None:
    space = _study("wide").space("unimodal")
    assert Sampler(space, "random", 0).propose() != Sampler(space, "random", 1).propose()


def test_tpe_learns_where_scores_are_high() -> None:
    space = _study("wide").space("auto_encoder")
    late = {}
    for kind in ("tpe", "random"):
        scores = []
        sampler = Sampler(space, kind, 1)
        for _ in range(60):
            values = sampler.propose()
            assert values is not None
            sampler.tell(values, [(1, _score(values))], complete=True)
            scores.append(_score(values))
        late[kind] = float(np.mean(scores[30:]))
    assert late["tpe"] > late["random"] + 0.3


def test_failed_and_stopped_trials_do_not_confuse_it() -> None:
    space = _study("wide").space("fusion")
    sampler = Sampler(space, "tpe", 0)
    for place in range(25):
        values = sampler.propose()
        assert values is not None
        sampler.tell(
            values, [] if place % 3 == 0 else [(1, 0.1), (3, 0.2)], complete=place % 3 == 1
        )


def test_an_endless_space_is_no_grid() -> None:
    with pytest.raises(InputError, match="a grid has no end"):
        Sampler(_study("wide").space("unimodal"), "grid", 0).propose()
