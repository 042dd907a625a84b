"""Whether a challenger may replace the champion: both on the same sessions, a paired bootstrap of their subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import check_fits
from pipeline.metrics.bootstrap import BOOTSTRAPS, Score, bootstrap, subject_moments
from pipeline.metrics.ccc import ccc_from_moments
from pipeline.model.fused_model import FusedModel


@dataclass(frozen=True)
class Comparison:
    """The challenger's CCC minus the champion's, pooled over the devel sessions, with 95% intervals over subjects.

    Attributes:
        targets: target -> difference.
        mean: over the targets.
        subjects: how many people that rests on.
        lost: targets that the champion predicts and the challenger does not.
    """

    targets: Mapping[str, Score]
    mean: Score
    subjects: int
    lost: tuple[str, ...]

    @property
    def reasons(self) -> list[str]:
        """Why the challenger is refused; empty where it is not.

        Its mean must not be lower, because a registry that takes what is worse, within the noise, drifts downwards. Nor
        may a gain on one target hide a loss on another that is certain.
        """
        found = [f"it does not predict {target}" for target in self.lost]
        if not self.mean.ccc >= 0:
            found.append(f"the mean CCC changes by {signed(self.mean)}")
        found += [
            f"{name} gets worse: {signed(score)}"
            for name, score in self.targets.items()
            if score.high < 0
        ]
        return found

    @property
    def acceptable(self) -> bool:
        """It may become the champion."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """For programs; what is undefined is None."""
        return {
            "mean": self.mean.to_json(),
            "targets": {name: score.to_json() for name, score in self.targets.items()},
            "subjects": self.subjects,
        }


def signed(score: Score) -> str:
    """A difference with its sign and interval."""
    return (
        f"{score.ccc:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"
        if np.isfinite(score.ccc)
        else "undefined"
    )


def compare(
    challenger: FusedModel, champion: FusedModel, corpus: Corpus, *, device: str = "cpu"
) -> Comparison:
    """Compare two models on the devel sessions that have labels.

    Raises:
        InputError: the corpus does not fit one of them, they have no target in common, or devel has no labels.
    """
    for model in (challenger, champion):
        check_fits(model, corpus)
    common = [target for target in champion.targets if target in challenger.targets]
    if not common:
        raise InputError(
            "The two versions have no target in common, so they cannot be compared. Pass --force."
        )
    sessions = [
        session
        for session in corpus.partition("devel")
        if any(np.isfinite(session.labels[target]).any() for target in common)
    ]
    if not sessions:
        raise InputError(
            f"Corpus {corpus.name!r} has no devel labels to compare with. Give another --corpus."
        )
    said = [model.predict_sessions(sessions, device=device) for model in (challenger, champion)]
    sums = {
        target: _paired(
            sessions, target, *([prediction.values[target] for prediction in each] for each in said)
        )
        for target in common
    }
    return Comparison(
        targets={target: bootstrap(ours, theirs) for target, (ours, theirs) in sums.items()},
        mean=_mean_difference(list(sums.values())),
        subjects=len({session.subject for session in sessions}),
        lost=tuple(target for target in champion.targets if target not in challenger.targets),
    )


Sums = NDArray[np.float64]


def _paired(
    sessions: Sequence[Session], target: str, ours: Sequence[Sums], theirs: Sequence[Sums]
) -> tuple[Sums, Sums]:
    """Each subject's sums of both predictions, over the frames that both have."""
    both = [np.isfinite(a) & np.isfinite(b) for a, b in zip(ours, theirs, strict=True)]
    first, second = (
        subject_moments(
            sessions,
            target,
            [np.where(use, a, np.nan) for use, a in zip(both, series, strict=True)],
        )
        for series in (ours, theirs)
    )
    return first, second


def _mean_difference(sums: Sequence[tuple[Sums, Sums]], seed: int = 0) -> Score:
    """The mean of the targets' differences: one draw of subjects holds for all targets and both models."""
    seen = np.any([ours[:, 0] > 0 for ours, _ in sums], axis=0)
    num_subjects = int(seen.sum())
    draws = np.random.default_rng(seed).multinomial(
        num_subjects, np.full(num_subjects, 1 / num_subjects), size=BOOTSTRAPS
    )

    def mean(weights: NDArray[Any]) -> NDArray[np.float64]:
        gaps = [
            ccc_from_moments(weights @ a[seen]) - ccc_from_moments(weights @ b[seen])
            for a, b in sums
        ]
        return np.asarray(np.mean(gaps, axis=0), np.float64)

    value, drawn = float(mean(np.ones(num_subjects))), mean(draws)
    drawn = drawn[np.isfinite(drawn)]
    if num_subjects < 2 or not drawn.size:
        return Score(value, np.nan, np.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(value, float(low), float(high))
