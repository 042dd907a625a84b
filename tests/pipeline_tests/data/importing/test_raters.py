"""Raters fused by mean and EWE, their agreement, and rows put on a grid."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.importing.raters import ewe_weights, find_lags, fuse, shift
from pipeline.data.importing.resampling import resample


def truth(num_frames: int = 600) -> NDArray[np.float64]:
    """Return a slow curve that does not repeat."""
    time_T = np.arange(num_frames) / 10
    return np.sin(time_T / 3) + 0.5 * np.sin(time_T / 1.3 + 1)


def noisy(seed: int, scale: float, num_frames: int = 600) -> NDArray[np.float64]:
    return truth(num_frames) + np.random.default_rng(seed).normal(size=num_frames) * scale


def test_ewe_is_the_formula_of_its_authors() -> None:
    raters_KT = np.stack([noisy(1, 0.3), noisy(2, 0.6), noisy(3, 2.0)])
    weights = [np.corrcoef(rater_T, raters_KT.mean(axis=0))[0, 1] for rater_T in raters_KT]

    fused = fuse(raters_KT, "ewe", 100)
    np.testing.assert_allclose(fused.weights, weights / np.sum(weights))
    np.testing.assert_allclose(fused.values_T, np.average(raters_KT, axis=0, weights=weights))


def test_ewe_is_nearer_to_the_truth_where_one_rater_does_not_listen() -> None:
    asleep_T = np.random.default_rng(4).normal(size=600).cumsum() / 8
    raters_KT = np.stack([noisy(1, 0.3), noisy(2, 0.3), noisy(3, 0.3), asleep_T])

    scores = {
        fusion: audmetric.concordance_cc(truth(), fuse(raters_KT, fusion, 100).values_T)
        for fusion in ("mean", "ewe")
    }
    assert scores["ewe"] > scores["mean"] + 0.01


def test_a_rater_who_contradicts_the_others_has_no_weight_and_is_named() -> None:
    raters_KT = np.stack([noisy(1, 0.1), noisy(2, 0.1), noisy(3, 0.1), -truth()])
    fused = fuse(raters_KT, "ewe", 100)
    assert fused.weights[3] == 0
    assert fused.weights.sum() == pytest.approx(1)
    assert fused.agreements[3] < 0
    assert "1 raters do not agree with the mean" in fused.notes[0]


def test_agreement_is_the_ccc_of_another_library() -> None:
    raters_KT = np.stack([noisy(1, 0.3), noisy(2, 0.6), noisy(3, 1.0)])
    fused = fuse(raters_KT, "mean", 100)

    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [audmetric.concordance_cc(raters_KT[a], raters_KT[b]) for a, b in pairs]
    assert fused.pairwise == pytest.approx(np.mean(expected))
    others_T = raters_KT[1:].mean(axis=0)
    assert fused.agreements[0] == pytest.approx(audmetric.concordance_cc(raters_KT[0], others_T))
    np.testing.assert_allclose(fused.weights, 1 / 3)


def test_a_frame_that_a_rater_left_out_is_fused_from_the_others() -> None:
    raters_KT = np.stack([np.array([1.0, 2, 3, 4]), np.array([3.0, np.nan, 5, np.nan])])
    raters_KT[0, 3] = np.nan
    fused = fuse(raters_KT, "mean", 100)
    np.testing.assert_array_equal(fused.values_T, [2, 2, 4, np.nan])


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_raters_who_never_move_are_weighed_alike(constant: float) -> None:
    fused = fuse(np.full((3, 50), constant), "ewe", 100)
    np.testing.assert_array_equal(fused.values_T, np.full(50, constant))
    np.testing.assert_allclose(fused.weights, 1 / 3)
    assert np.isnan(fused.pairwise)


def test_lags_are_those_that_the_raters_had() -> None:
    lags = [0, 3, 8, 15]
    raters_KT = np.stack([shift(noisy(seed, 0.05), -lag) for seed, lag in enumerate(lags)])
    found, notes = find_lags(raters_KT, max_lag=30)
    assert found.tolist() == lags
    assert notes == []


def test_a_rater_who_does_not_listen_does_not_decide_the_lags() -> None:
    asleep_T = np.random.default_rng(9).normal(size=600)
    raters_KT = np.stack([noisy(1, 0.05), shift(noisy(2, 0.05), -4), noisy(3, 0.05), asleep_T])
    found, _ = find_lags(raters_KT, max_lag=20)
    # His noise blurs the lags of the others by a frame or two; the search goes to twenty.
    assert np.abs(found[:3] - [0, 4, 0]).max() <= 2


def test_alignment_brings_late_raters_nearer_to_the_truth() -> None:
    raters_KT = np.stack([shift(noisy(seed, 0.2), -lag) for seed, lag in enumerate([0, 6, 12])])
    scores = []
    for max_lag_ms in (0.0, 3000.0):
        fused_T = fuse(raters_KT, "ewe", 100, max_lag_ms).values_T
        is_known = np.isfinite(fused_T)
        scores.append(audmetric.concordance_cc(truth()[is_known], fused_T[is_known]))
    assert scores[1] > scores[0] + 0.02
    assert scores[1] > 0.95


def test_ewe_weights_are_not_of_a_scale() -> None:
    raters_KT = np.stack([noisy(1, 0.3), noisy(2, 0.6), noisy(3, 1.0)])
    np.testing.assert_allclose(ewe_weights(raters_KT), ewe_weights(5 + 2 * raters_KT))


def test_rows_are_averaged_around_multiples_of_the_period() -> None:
    times_ms = np.array([0.0, 0.0, 40.0, 60.0, 149.0, 151.0])
    values = np.array([[1.0], [3], [5], [7], [9], [11]])
    grid_ms, means = resample(times_ms, values, 100, holds=False)
    assert grid_ms.tolist() == [0, 100, 200]
    assert means[:, 0].tolist() == [3, 8, 11]


def test_a_rating_stays_until_the_rater_moves_but_a_feature_does_not() -> None:
    times_ms, values = np.array([0.0, 350.0]), np.array([[0.5], [0.9]])
    _, held = resample(times_ms, values, 100, holds=True)
    _, missing = resample(times_ms, values, 100, holds=False)
    assert held[:, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 0.9]
    assert np.isnan(missing[1:4, 0]).all()


def test_resampling_keeps_a_line_where_it_is() -> None:
    times_ms = np.arange(0, 10_000, 10.0)
    grid_ms, means = resample(times_ms, times_ms[:, None], 500, holds=False)
    np.testing.assert_allclose(means[1:-1, 0], grid_ms[1:-1], atol=10)
