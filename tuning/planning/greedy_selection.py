"""Greedy selection of predictions whose mean is better, and what it gains on other people.

Caruana, R., Niculescu-Mizil, A., Crew, G. and Ksikes, A. (2004): Ensemble selection from libraries
of models. Proc. ICML. Predictions are added one at a time, with replacement, beginning with the
best; and because a selection from many suits the people that it was made on, the gain is measured
on people that it was not made on. Knows no store and no journal.
"""

# S = subjects, K = predictions to choose from, D = 2 + K: one, the label, every prediction

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.bootstrap import Score, bootstrap
from pipeline.metrics.ccc import ccc_from_moments

Series = Sequence[NDArray[np.floating[Any]]]
"""One prediction of every session, each of shape (frames,)."""

LEAST_GAIN = 0.002
"""A prediction is added, and an ensemble is accepted, only if the CCC gains so much."""
CHECK_FOLDS = 5
"""Into so many groups the people are divided: predictions are chosen on all but one of them."""
CHECK_REPEATS = 5
"""How often they are divided, each time otherwise."""


def subject_products(
    sessions: Sequence[Session], target: str, predictions: Sequence[Series]
) -> NDArray[np.float64]:
    """Return what the CCC of every weighted mean of predictions follows from, by subject.

    Args:
        sessions: at least one.
        target: the label to compare with.
        predictions: for each of K predictions one series per session, shape (frames,); a frame
            counts where all of them, and the label, are finite.

    Returns:
        Shape (subjects, 2 + K, 2 + K): sums over frames of the products of one, the label and the
        predictions with each other, around a common centre.
    """
    labels = np.concatenate([session.labels[target] for session in sessions])
    centre = float(np.nanmean(labels)) if np.isfinite(labels).any() else 0.0

    products: dict[str, NDArray[np.float64]] = {}
    for place, session in enumerate(sessions):
        columns: list[NDArray[Any]] = [
            session.labels[target],
            *(series[place] for series in predictions),
        ]
        values = np.stack(columns).astype(np.float64) - centre
        values = values[:, np.isfinite(values).all(axis=0)]
        values = np.vstack([np.ones((1, values.shape[1])), values])
        total = products.get(session.subject, np.zeros((len(values), len(values))))
        products[session.subject] = total + values @ values.T
    return np.stack([products[subject] for subject in sorted(products)])


def moments_of_mean(
    products_SDD: NDArray[np.float64], counts_K: Sequence[int]
) -> NDArray[np.float64]:
    """Return the sums that a CCC is made of, for a mean of predictions.

    Args:
        products_SDD: from `subject_products`, shape (..., 2 + K, 2 + K).
        counts_K: how often each prediction counts.

    Returns:
        Shape (..., 6), as `moments` of the CCC has them.
    """
    weights_K = np.asarray(counts_K, dtype=np.float64) / sum(counts_K)
    sums: list[NDArray[Any]] = [
        products_SDD[..., 0, 0],
        products_SDD[..., 0, 1],
        products_SDD[..., 0, 2:] @ weights_K,
        products_SDD[..., 1, 1],
        (products_SDD[..., 2:, 2:] @ weights_K) @ weights_K,
        products_SDD[..., 1, 2:] @ weights_K,
    ]
    return np.stack(sums, axis=-1)


def best_single(products_SDD: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the counts of the prediction with the highest CCC alone."""
    num_predictions = products_SDD.shape[-1] - 2
    singles = [_counts([place], num_predictions) for place in range(num_predictions)]
    return max(singles, key=lambda counts: _ccc(products_SDD, counts))


def choose_greedily(products_SDD: NDArray[np.float64], max_members: int) -> tuple[int, ...]:
    """Choose predictions whose mean has the highest CCC, one after the other.

    Args:
        products_SDD: from `subject_products`.
        max_members: at most so many are chosen; one may be chosen several times.

    Returns:
        How often each is chosen; one of them once where none adds `LEAST_GAIN`.
    """
    counts = best_single(products_SDD)
    score = _ccc(products_SDD, counts)

    for _ in range(max_members - 1):
        larger = [
            tuple(count + (place == added) for place, count in enumerate(counts))
            for added in range(len(counts))
        ]
        best = max(larger, key=lambda counts: _ccc(products_SDD, counts))
        if _ccc(products_SDD, best) < score + LEAST_GAIN:
            break
        counts, score = best, _ccc(products_SDD, best)
    return counts


def gain_on_others(products_SDD: NDArray[np.float64], max_members: int) -> Score:
    """Return how much better a selection is than the best prediction, on people it is not made on.

    The people are divided into groups, several times. For each group both are chosen on the
    others: the ensemble, and the best single prediction. What they are worth for the group is added
    up over all groups and divisions.

    Args:
        products_SDD: from `subject_products`.
        max_members: of an ensemble.

    Returns:
        The CCC of the ensembles minus that of the single ones, paired over people; NaN for fewer
        than three people.
    """
    num_subjects = len(products_SDD)
    if num_subjects < 3:
        return Score(np.nan, np.nan, np.nan)

    ensemble_S6, single_S6 = np.zeros((num_subjects, 6)), np.zeros((num_subjects, 6))
    for repeat in range(CHECK_REPEATS):
        order = np.random.default_rng(repeat).permutation(num_subjects)
        for group in np.array_split(order, min(CHECK_FOLDS, num_subjects)):
            chosen_on = np.delete(products_SDD, group, axis=0)
            counts = choose_greedily(chosen_on, max_members)
            ensemble_S6[group] += moments_of_mean(products_SDD[group], counts)
            single_S6[group] += moments_of_mean(products_SDD[group], best_single(chosen_on))
    return bootstrap(ensemble_S6, single_S6)


def _ccc(products_SDD: NDArray[np.float64], counts: Sequence[int]) -> float:
    score = float(ccc_from_moments(moments_of_mean(products_SDD.sum(axis=0), counts)))
    return score if np.isfinite(score) else -1.0


def _counts(chosen: Sequence[int], num_predictions: int) -> tuple[int, ...]:
    return tuple(chosen.count(place) for place in range(num_predictions))
