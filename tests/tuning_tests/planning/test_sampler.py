"""Samplers: proposals stay the same from version to version, and TPE is better than chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from pipeline.errors import InputError
from tests.tuning_tests.planning.stored_proposals import (
    SEARCHES,
    StoredSearch,
    read_proposals,
    run_search,
)
from tests.tuning_tests.spec.study_files import shipped_study
from tuning.planning.sampling.sampler import Sampler, derive_seed
from tuning.spec.search_table import SamplerKind
from tuning.spec.space import Value


def score(configuration: Mapping[str, Value]) -> float:
    """Score a configuration: best at a learning rate of 0.003."""
    learning_rate = configuration["fit.learning_rate"]
    assert isinstance(learning_rate, float)
    return -abs(float(np.log(learning_rate / 0.003)))


@pytest.mark.parametrize("stored", SEARCHES, ids=str)
def test_proposals_are_those_that_were_stored(stored: StoredSearch) -> None:
    expected = [approximately(proposal) for proposal in read_proposals(stored)]

    assert run_search(stored) == expected


def approximately(configuration: Mapping[str, Value]) -> dict[str, object]:
    """Compare floats with a tolerance: processors differ in the last bits of a logarithm."""
    return {
        path: pytest.approx(value, rel=1e-9, abs=0) if isinstance(value, float) else value
        for path, value in configuration.items()
    }


def test_another_seed_gives_another_proposal() -> None:
    space = shipped_study("wide").space("unimodal")

    assert Sampler(space, "random", 0).propose() != Sampler(space, "random", 1).propose()


def test_tpe_learns_where_scores_are_high() -> None:
    assert mean_late_score("tpe") > mean_late_score("random") + 0.3


def mean_late_score(kind: SamplerKind) -> float:
    """Return the mean score of the second half of 60 trials."""
    sampler = Sampler(shipped_study("wide").space("auto_encoder"), kind, 1)
    scores = []

    for _ in range(60):
        configuration = sampler.propose()
        assert configuration is not None
        scores.append(score(configuration))
        sampler.tell(configuration, [(1, scores[-1])], complete=True)

    return float(np.mean(scores[30:]))


def test_tpe_goes_on_after_failed_and_stopped_trials() -> None:
    sampler = Sampler(shipped_study("wide").space("fusion"), "tpe", 0)

    for number in range(25):
        configuration = sampler.propose()
        assert configuration is not None
        scores = [] if number % 3 == 0 else [(1, 0.1), (3, 0.2)]
        sampler.tell(configuration, scores, complete=number % 3 == 1)


def test_an_endless_space_has_no_grid() -> None:
    with pytest.raises(InputError, match="a grid has no end"):
        Sampler(shipped_study("wide").space("unimodal"), "grid", 0)


def test_a_derived_seed_depends_on_every_part_and_not_on_the_process() -> None:
    # The first 32 bits of the SHA-256 of "(1, 'unimodal/voice/arousal')".
    assert derive_seed(1, "unimodal/voice/arousal") == 0x389721AE
    assert derive_seed(1, "unimodal/voice/valence") != 0x389721AE
    assert derive_seed(2, "unimodal/voice/arousal") != 0x389721AE
