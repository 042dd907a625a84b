"""Greedy selection finds means that are better, and its gain is that on other people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.corpus import Session
from pipeline.metrics.ccc import ccc, ccc_from_moments
from tests.pipeline_tests.corpora import tiny_corpus
from tuning.planning.greedy_selection import (
    LEAST_GAIN,
    best_single,
    choose_greedily,
    gain_on_others,
    moments_of_mean,
    subject_products,
)

Predictions = list[list[np.ndarray]]


def sessions_of(num_subjects: int, num_frames: int = 60, seed: int = 0) -> list[Session]:
    """Return sessions with a slow random label, one per subject."""
    random = np.random.default_rng(seed)
    example = tiny_corpus().sessions[0]
    return [
        Session(
            session_id=f"s{number}",
            subject=f"p{number}",
            partition="train",
            timestamps_ms=np.arange(num_frames, dtype=np.int64) * 500,
            segment_ids=np.zeros(num_frames, dtype=np.int64),
            features={name: np.zeros((num_frames, 1), np.float32) for name in example.features},
            present={name: np.ones(num_frames, bool) for name in example.features},
            labels={"arousal": np.cumsum(random.normal(0, 0.2, num_frames)) + random.normal()},
        )
        for number in range(num_subjects)
    ]


def noisy(sessions: Sequence[Session], noises: Sequence[float], seed: int = 1) -> Predictions:
    """Return the labels with independent noise: an offset per person, and some per frame."""
    random = np.random.default_rng(seed)
    return [
        [
            session.labels["arousal"]
            + random.normal(0, noise)
            + random.normal(0, noise, session.num_frames)
            for session in sessions
        ]
        for noise in noises
    ]


def test_the_ccc_of_a_mean_follows_from_the_products() -> None:
    sessions = sessions_of(5)
    predictions = noisy(sessions, [0.3, 0.6, 0.9])
    predictions[1][2][7] = np.nan  # the frame then counts for none
    products = subject_products(sessions, "arousal", predictions)

    counts = (2, 1, 1)
    truth = np.concatenate([session.labels["arousal"] for session in sessions])
    mean = np.average([np.concatenate(list(series)) for series in predictions], 0, counts)
    is_known = np.isfinite(mean)
    result = ccc_from_moments(moments_of_mean(products.sum(axis=0), counts))
    assert float(result) == pytest.approx(ccc(truth[is_known], mean[is_known]), abs=1e-9)


def test_predictions_that_err_independently_are_averaged_and_gain_on_others() -> None:
    sessions = sessions_of(12)
    products = subject_products(sessions, "arousal", noisy(sessions, [1.0, 1.0, 1.0, 1.0]))
    counts = choose_greedily(products, 4)
    assert sum(count > 0 for count in counts) >= 3
    gain = gain_on_others(products, 4)
    assert gain.ccc > 0.02
    assert gain.low > 0


def test_at_most_so_many_are_chosen_and_the_best_comes_first() -> None:
    sessions = sessions_of(12)
    products = subject_products(sessions, "arousal", noisy(sessions, [1.2, 1.0, 1.2, 1.3]))
    best = best_single(products)
    assert choose_greedily(products, 1) == best
    for max_members in (2, 3, 4):
        counts = choose_greedily(products, max_members)
        assert sum(counts) <= max_members
        assert counts[best.index(1)] >= 1


def test_one_that_is_far_better_counts_more_or_is_alone() -> None:
    sessions = sessions_of(12)
    products = subject_products(sessions, "arousal", noisy(sessions, [0.1, 3.0]))
    assert choose_greedily(products, 4) == (1, 0)

    alike = [[series.copy() for series in noisy(sessions, [0.5])[0]] for _ in range(3)]
    products = subject_products(sessions, "arousal", alike)
    assert sum(choose_greedily(products, 4)) == 1
    assert gain_on_others(products, 4).ccc == 0


def test_of_predictions_without_worth_a_selection_gains_on_its_own_people_alone() -> None:
    """Of 40 predictions that know nothing, some suit five people; that is luck, and shows."""
    own_gains, gains = [], []
    for seed in range(20):
        sessions = sessions_of(5, seed=seed)
        predictions = [
            [s.labels["arousal"] for s in sessions_of(5, seed=2000 + 50 * seed + number)]
            for number in range(40)
        ]
        products = subject_products(sessions, "arousal", predictions)
        total = products.sum(axis=0)
        own = ccc_from_moments(moments_of_mean(total, choose_greedily(products, 4)))
        own_gains.append(own - ccc_from_moments(moments_of_mean(total, best_single(products))))
        gains.append(gain_on_others(products, 4).ccc)
    assert np.mean(own_gains) > 0.05
    assert np.mean(gains) < np.mean(own_gains) / 2


def test_of_two_people_no_gain_is_known() -> None:
    sessions = sessions_of(2)
    products = subject_products(sessions, "arousal", noisy(sessions, [1.0, 1.0]))
    gain = gain_on_others(products, 4)
    assert np.isnan(gain.ccc)
    assert not gain.ccc >= LEAST_GAIN
