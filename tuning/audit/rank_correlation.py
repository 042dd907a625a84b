"""Rank correlation within tasks, over weighted trials. Knows nothing of early stopping."""

# N = trials of one task (or of all tasks together), B = the data and its bootstrap draws

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.bootstrap import BOOTSTRAPS
from tuning.audit.estimates import Estimate, Floats

MIN_EFFECTIVE_TRIALS = 8
"""Fewer trials of one task have no rank correlation; each further task takes one trial more."""
ROUNDING = 1e-9
"""Slack for effective numbers of trials that are integers but for rounding."""


@dataclass(frozen=True)
class WeightedPairs:
    """Two values of each trial of a task.

    Attributes:
        first_N: one value of each trial, shape (trials,).
        second_N: the other value, same shape.
        weights_N: how many trials each trial stands for, same shape.
    """

    first_N: Floats
    second_N: Floats
    weights_N: Floats

    @property
    def effective_size(self) -> float:
        """Return the effective number of trials, sum(w)^2 / sum(w^2) (Kish, 1965)."""
        return float(self.weights_N.sum() ** 2 / (self.weights_N**2).sum())


def rank_correlation(tasks: Sequence[WeightedPairs], seed: int) -> Estimate | None:
    """Estimate Spearman's rank correlation (Spearman, 1904), with ranks taken within each task.

    With the centred ranks r and q of the two values, and weights w, over the trials of all tasks:

        sum(w r q) / sqrt(sum(w r^2) sum(w q^2))

    The interval is that of a bootstrap of trials.

    Args:
        tasks: each task's pairs of values.
        seed: of the bootstrap.

    Returns:
        A correlation in [-1, 1]; None where the values of every task are constant, or where the
        effective numbers of trials, less one per task, add up to less than
        `MIN_EFFECTIVE_TRIALS` - 1.
    """
    degrees_of_freedom = sum(pairs.effective_size - 1 for pairs in tasks)
    if degrees_of_freedom < MIN_EFFECTIVE_TRIALS - 1 - ROUNDING:
        return None

    weights_BN = _bootstrap_weights(np.concatenate([pairs.weights_N for pairs in tasks]), seed)
    boundaries = np.cumsum([len(pairs.weights_N) for pairs in tasks])[:-1]

    moments_3B = np.zeros((3, len(weights_BN)))
    for pairs, task_weights_BN in zip(tasks, np.split(weights_BN, boundaries, axis=1), strict=True):
        moments_3B += _rank_moments(pairs, task_weights_BN)

    covariance_B, first_variance_B, second_variance_B = moments_3B
    scale_B = np.sqrt(first_variance_B * second_variance_B)
    if scale_B[0] == 0:
        return None

    is_defined_B = scale_B > 0
    correlations_B = covariance_B[is_defined_B] / scale_B[is_defined_B]
    return Estimate.from_draws(correlations_B[0], correlations_B[1:])


def _bootstrap_weights(weights_N: Floats, seed: int) -> Floats:
    """Return the weights, and below them those of every draw; shape (1 + draws, trials)."""
    size = len(weights_N)
    random = np.random.default_rng(seed)
    counts_BN = random.multinomial(size, np.full(size, 1 / size), size=BOOTSTRAPS)

    data_row = np.ones((1, size))
    weights_BN: Floats = np.concatenate([data_row, counts_BN]) * weights_N
    return weights_BN


def _rank_moments(pairs: WeightedPairs, weights_BN: Floats) -> Floats:
    """Return the sums of w r q, w r^2 and w q^2 over the trials of a task, shape (3, B)."""
    first_BN = _centred_ranks(pairs.first_N, weights_BN)
    second_BN = _centred_ranks(pairs.second_N, weights_BN)

    products = (first_BN * second_BN, first_BN**2, second_BN**2)
    return np.stack([(weights_BN * product_BN).sum(axis=1) for product_BN in products])


def _centred_ranks(values_N: Floats, weights_BN: Floats) -> Floats:
    """Return mid-ranks between -0.5 and 0.5 under each row of weights; their weighted mean is 0.

    For trial i: sum over j of w_j ([v_j < v_i] + 0.5 [v_j = v_i]) / sum(w) - 0.5.
    """
    is_below_NN = values_N[:, None] > values_N
    is_tied_NN = values_N[:, None] == values_N
    below_NN: Floats = is_below_NN + 0.5 * is_tied_NN

    # A draw may contain no trial of the task: its weights are all 0 then.
    totals_B1 = np.maximum(weights_BN.sum(axis=1, keepdims=True), 1e-12)
    ranks_BN: Floats = weights_BN @ below_NN.T / totals_B1 - 0.5
    return ranks_BN
