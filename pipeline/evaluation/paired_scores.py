"""Several predictions of the same sessions, scored and compared in pairs. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.bootstrap import Score, bootstrap, common_moments, subject_moments

Series = Sequence[NDArray[np.float64]]
"""One prediction of every session, each of shape (frames,)."""
Names = Sequence[str]
Predictions = Mapping[str, Mapping[str, Series]]
"""Target -> name of a prediction -> its series; each target has the same names."""


@dataclass(frozen=True)
class PairedScores:
    """How good several predictions are, and how much better one is than another.

    Attributes:
        scores: name of a prediction -> its pooled CCC.
        differences: first -> second -> the first's CCC minus the second's, over the frames that
            both have, as a paired bootstrap of subjects.
    """

    scores: Mapping[str, Score]
    differences: Mapping[str, Mapping[str, Score]]

    def to_json(self) -> dict[str, Any]:
        """Return both as JSON; what is undefined is None."""
        return {
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "differences": {
                first: {second: score.to_json() for second, score in others.items()}
                for first, others in self.differences.items()
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PairedScores:
        """Return the scores that `to_json` wrote."""
        return cls(
            {name: Score.from_json(score) for name, score in record["scores"].items()},
            {
                first: {second: Score.from_json(score) for second, score in others.items()}
                for first, others in record["differences"].items()
            },
        )


def paired_scores(
    sessions: Sequence[Session], predictions: Mapping[str, Series], target: str, firsts: Names
) -> PairedScores:
    """Score the predictions of one target.

    Args:
        sessions: that were predicted.
        predictions: name -> one series per session, NaN where missing.
        target: the label to compare with.
        firsts: names of the predictions that are compared with all others.
    """
    return mean_paired_scores(sessions, {target: predictions}, firsts)


def mean_paired_scores(
    sessions: Sequence[Session], predictions: Predictions, firsts: Names
) -> PairedScores:
    """Score predictions by the mean over targets of their CCCs, on the same draws of subjects.

    Args:
        sessions: that were predicted.
        predictions: of every target.
        firsts: names of the predictions that are compared with all others.
    """
    names = list(next(iter(predictions.values())))
    scores = {
        name: bootstrap(
            np.stack(
                [
                    subject_moments(sessions, target, series[name])
                    for target, series in predictions.items()
                ]
            )
        )
        for name in names
    }
    differences = {
        first: {
            second: _difference(sessions, predictions, first, second)
            for second in names
            if second != first
        }
        for first in firsts
    }
    return PairedScores(scores, differences)


def _difference(
    sessions: Sequence[Session], predictions: Predictions, first: str, second: str
) -> Score:
    pairs = [
        common_moments(sessions, target, series[first], series[second])
        for target, series in predictions.items()
    ]
    return bootstrap(np.stack([one for one, _ in pairs]), np.stack([other for _, other in pairs]))
