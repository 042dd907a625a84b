"""Spearman's correlation within tasks, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tuning.audit.rank_correlation import WeightedPairs, rank_correlation


def pairs_of_weight_one(first: NDArray[np.float64], second: NDArray[np.float64]) -> WeightedPairs:
    """Return pairs that stand for one trial each."""
    return WeightedPairs(first, second, np.ones(len(first)))


def test_the_rank_correlation_of_one_task_is_spearmans() -> None:
    random = np.random.default_rng(0)
    # Rounding makes ties.
    first = random.normal(size=12).round(1)
    second = first + random.normal(size=12)

    correlation = rank_correlation([pairs_of_weight_one(first, second)], 0)
    assert correlation is not None
    assert correlation.value == pytest.approx(spearmanr(first, second).statistic)
    assert correlation.low < correlation.value < correlation.high


def test_a_trial_of_weight_two_counts_as_two_trials() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(size=14), random.normal(size=14)
    weights = random.integers(1, 3, size=14)

    correlation = rank_correlation([WeightedPairs(first, second, weights.astype(np.float64))], 0)
    assert correlation is not None
    expected = spearmanr(np.repeat(first, weights), np.repeat(second, weights)).statistic
    assert correlation.value == pytest.approx(expected)


def test_the_effective_size_of_equal_weights_is_their_number() -> None:
    rising = np.arange(6.0)
    assert WeightedPairs(rising, rising, np.full(6, 3.0)).effective_size == pytest.approx(6)
    one_heavy = np.array([1.0, 0, 0, 0, 0, 0])
    assert WeightedPairs(rising, rising, one_heavy).effective_size == pytest.approx(1)


def test_ranks_are_taken_within_tasks() -> None:
    rising = np.arange(6.0)
    falling = rising[::-1].copy()
    tasks = [pairs_of_weight_one(rising, falling), pairs_of_weight_one(rising + 100, falling + 100)]

    correlation = rank_correlation(tasks, 0)
    assert correlation is not None
    # Ranks over both tasks together would make it positive.
    assert correlation.value == pytest.approx(-1)


def test_too_few_trials_have_no_rank_correlation() -> None:
    rising = np.arange(7.0)
    assert rank_correlation([], 0) is None
    assert rank_correlation([pairs_of_weight_one(rising, rising)], 0) is None


def test_constant_values_have_no_rank_correlation() -> None:
    assert rank_correlation([pairs_of_weight_one(np.zeros(9), np.arange(9.0))], 0) is None
