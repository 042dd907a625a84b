"""Compares a challenger with the champion by a paired bootstrap of devel subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import as_model_reads
from pipeline.metrics.bootstrap import BOOTSTRAPS, Score, bootstrap, subject_moments
from pipeline.metrics.ccc import ccc_from_moments
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.stages.requirements import raise_if_wrong


@dataclass(frozen=True)
class Comparison:
    """The challenger's CCC minus the champion's, pooled over the devel sessions.

    Differences have 95% intervals over subjects.

    Attributes:
        targets: target -> difference.
        mean: mean of the differences over the targets.
        num_subjects: how many people the comparison rests on.
        missing_targets: those that the champion predicts and the challenger does not.
    """

    targets: Mapping[str, Score]
    mean: Score
    num_subjects: int
    missing_targets: tuple[str, ...]

    @property
    def reasons(self) -> list[str]:
        """Why the challenger is refused; empty where it is acceptable.

        Its mean must not be lower: a registry that takes what is worse within the noise drifts
        downwards. Nor may a gain on one target hide a certain loss on another.
        """
        reasons = [f"it does not predict {target}" for target in self.missing_targets]

        is_mean_lower = not self.mean.ccc >= 0  # true for an undefined mean, too
        if is_mean_lower:
            reasons.append(f"the mean CCC changes by {self.mean.with_sign()}")

        for target, difference in self.targets.items():
            if difference.high < 0:
                reasons.append(f"{target} gets worse: {difference.with_sign()}")

        return reasons

    @property
    def is_acceptable(self) -> bool:
        """Whether the challenger may become the champion."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Return the comparison for programs; what is undefined is None."""
        return {
            "mean": self.mean.to_json(),
            "targets": {target: score.to_json() for target, score in self.targets.items()},
            "subjects": self.num_subjects,
        }


class _PairedMoments(NamedTuple):
    """Each subject's sums for the CCC of both models, shape (subjects, 6), over the same frames."""

    challenger: NDArray[np.float64]
    champion: NDArray[np.float64]


def compare(
    challenger: FusedModel,
    champion: FusedModel,
    corpus: Corpus,
    *,
    device: str = "cpu",
    champion_corpus: Corpus | None = None,
) -> Comparison:
    """Compare two models on the devel sessions that have labels.

    Args:
        challenger, champion: the models.
        corpus: what they predict.
        device: "cpu" or "cuda".
        champion_corpus: the same corpus as the champion reads it, with the same frames; default:
            both read the same.

    Raises:
        InputError: the corpus does not fit one of them, reading it found an error, they have no
            target in common, or devel has no labels.
    """
    champion_corpus = as_model_reads(champion, champion_corpus or corpus)
    corpus = as_model_reads(challenger, corpus)
    raise_if_wrong(corpus)

    targets = [target for target in champion.targets if target in challenger.targets]
    missing_targets = [target for target in champion.targets if target not in challenger.targets]
    if not targets:
        raise InputError(
            "The two versions have no target in common, so they cannot be compared. Pass --force."
        )

    sessions = _labelled_devel_sessions(corpus, targets)
    challenger_predictions = challenger.predict_sessions(sessions, device=device)
    champion_sessions = [champion_corpus.session(session.session_id) for session in sessions]
    champion_predictions = champion.predict_sessions(champion_sessions, device=device)
    moments = {
        target: _paired_moments(sessions, target, challenger_predictions, champion_predictions)
        for target in targets
    }

    return Comparison(
        targets={
            target: bootstrap(pair.challenger, pair.champion) for target, pair in moments.items()
        },
        mean=_mean_difference(list(moments.values())),
        num_subjects=len({session.subject for session in sessions}),
        missing_targets=tuple(missing_targets),
    )


def _labelled_devel_sessions(corpus: Corpus, targets: Sequence[str]) -> list[Session]:
    """Return the devel sessions in which one of the targets has a label."""
    sessions = [
        session
        for session in corpus.partition("devel")
        if any(np.isfinite(session.labels[target]).any() for target in targets)
    ]
    if not sessions:
        raise InputError(
            f"Corpus {corpus.name!r} has no devel labels to compare with. Give another --corpus."
        )
    return sessions


def _paired_moments(
    sessions: Sequence[Session],
    target: str,
    challenger: Sequence[Prediction],
    champion: Sequence[Prediction],
) -> _PairedMoments:
    """Sum over the frames that both models predict."""
    challenger_values, champion_values = [], []
    for ours, theirs in zip(challenger, champion, strict=True):
        is_common = np.isfinite(ours.values[target]) & np.isfinite(theirs.values[target])
        challenger_values.append(np.where(is_common, ours.values[target], np.nan))
        champion_values.append(np.where(is_common, theirs.values[target], np.nan))

    return _PairedMoments(
        subject_moments(sessions, target, challenger_values),
        subject_moments(sessions, target, champion_values),
    )


def _mean_difference(moments: Sequence[_PairedMoments], seed: int = 0) -> Score:
    """Return the mean of the targets' differences, with its 95% interval.

    One draw of subjects holds for all targets and both models.
    """
    has_frames = np.any([pair.challenger[:, 0] > 0 for pair in moments], axis=0)
    num_subjects = int(has_frames.sum())
    subject_shares = np.full(num_subjects, 1 / num_subjects)
    draws = np.random.default_rng(seed).multinomial(num_subjects, subject_shares, size=BOOTSTRAPS)

    def mean(weights: NDArray[Any]) -> NDArray[np.float64]:
        differences = [
            ccc_from_moments(weights @ pair.challenger[has_frames])
            - ccc_from_moments(weights @ pair.champion[has_frames])
            for pair in moments
        ]
        return np.asarray(np.mean(differences, axis=0), np.float64)

    difference = float(mean(np.ones(num_subjects)))
    drawn = mean(draws)
    drawn = drawn[np.isfinite(drawn)]
    if num_subjects < 2 or not drawn.size:
        return Score(difference, np.nan, np.nan)

    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(difference, float(low), float(high))
