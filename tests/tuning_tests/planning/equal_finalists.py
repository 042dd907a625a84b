"""Studies whose finalists are about equally good, and whose ensembles are as a test wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Score
from tests.tuning_tests.studies import tiny_study
from tuning.planning import ensembles
from tuning.spec.study_spec import StudySpec


def study_of_equals(ensemble: int = 4) -> StudySpec:
    """Return a study whose finalists are about equally good."""
    common = {"trials": 4, "grace_epochs": 4, "seeds": 2, "ensemble": ensemble}
    blind_or_not = {"choice": [True, False]}
    return tiny_study(
        unimodal={
            **common,
            "finalists": 3,
            "space": {
                "fit.learning_rate": {"choice": [0.02, 0.03, 0.05, 0.08]},
                "difficulty": blind_or_not,
                "auto_encoder": {"top": 2},
            },
        },
        fusion={
            **common,
            "finalists": 4,
            "space": {
                "fit.learning_rate": {"choice": [0.01, 0.02, 0.03, 0.05]},
                "difficulty": blind_or_not,
            },
        },
    )


@contextmanager
def ensembles_of_two_and_one() -> Iterator[None]:
    """Have every ensemble consist of the best finalist twice and the second once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ensembles, "choose_greedily", _two_and_one)
        monkeypatch.setattr(ensembles, "gain_on_others", _small_gain)
        yield


def _two_and_one(products: NDArray[np.float64], max_members: int) -> tuple[int, ...]:
    num_predictions = products.shape[-1] - 2
    assert max_members == 4
    return (2, 1, *[0] * (num_predictions - 2))


def _small_gain(products: NDArray[np.float64], max_members: int) -> Score:
    return Score(0.01, -0.01, 0.03)
