"""Fuses what several raters annotated: the mean, or the evaluator weighted estimator.

Grimm, M. and Kroschel, K. (2005): Evaluation of natural emotions using self assessment manikins.
IEEE Workshop on Automatic Speech Recognition and Understanding, 381-385.
"""

# K = raters, T = time (frames)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.ccc import ccc

Fusion = Literal["mean", "ewe"]
NUM_ROUNDS = 10
"""Lags that depend on one another settle within a few rounds."""
TRUSTED_SHARE = 0.5
"""A rater of less than this share of the largest weight does not decide when all began."""


@dataclass(frozen=True)
class Fused:
    """One label over time, and how the raters behind it agree.

    Attributes:
        values_T: shape (frames,); NaN where no rater has a value.
        weights: shape (raters,), which add up to 1.
        agreements: shape (raters,), the CCC of each with the mean of the others, all of them as
            moved; NaN with one.
        pairwise: mean CCC over all pairs of raters; NaN with one.
        lags_ms: shape (raters,), by how much each was moved to an earlier time.
        notes: sentences about what is odd.
    """

    values_T: NDArray[np.float64]
    weights: NDArray[np.float64]
    agreements: NDArray[np.float64]
    pairwise: float
    lags_ms: NDArray[np.float64]
    notes: tuple[str, ...]


def fuse(
    raters_KT: NDArray[np.float64], fusion: Fusion, period_ms: float, max_lag_ms: float = 0.0
) -> Fused:
    r"""Fuse raters.

    The mean weighs all alike. The evaluator weighted estimator (EWE) is

    .. math::

        \hat x_t = \frac{\sum_k r_k x_{k,t}}{\sum_k r_k}, \qquad
        r_k = \max(0, \operatorname{corr}(x_k, \bar x)), \qquad
        \bar x_t = \frac 1 K \sum_k x_{k,t}

    with Pearson's correlation over the frames of the session. Sums over k leave out raters without
    a value at t. A rater who contradicts the mean has the weight 0.

    Args:
        raters_KT: shape (raters, frames), NaN where a rater has no value.
        fusion: "mean" or "ewe".
        period_ms: the distance of the frames.
        max_lag_ms: the farthest that a rater may be moved (see `find_lags`); 0 to move none.
    """
    notes: list[str] = []
    lags = np.zeros(len(raters_KT), np.int64)
    if max_lag_ms and len(raters_KT) > 1:
        lags, notes = find_lags(raters_KT, int(max_lag_ms // period_ms))
        raters_KT = np.stack(
            [shift(rater_T, int(lag)) for rater_T, lag in zip(raters_KT, lags, strict=True)]
        )

    weights = np.ones(len(raters_KT))
    if fusion == "ewe" and len(raters_KT) > 1:
        weights = ewe_weights(raters_KT)
        contrary = np.flatnonzero(weights == 0)
        if len(contrary):
            notes.append(f"{len(contrary)} raters do not agree with the mean: weight 0.")
        if not weights.any():
            notes.append("No rater agrees with the mean: all are weighed alike.")
            weights = np.ones(len(raters_KT))

    return Fused(
        values_T=_weighted_mean(raters_KT, weights),
        weights=weights / weights.sum(),
        agreements=np.array([_agreement(raters_KT, rater) for rater in range(len(raters_KT))]),
        pairwise=_mean_pairwise_ccc(raters_KT),
        lags_ms=lags.astype(np.float64) * period_ms,
        notes=tuple(notes),
    )


def ewe_weights(raters_KT: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each rater's correlation with the mean of all; 0 where negative or undefined."""
    mean_T = _weighted_mean(raters_KT, np.ones(len(raters_KT)))
    correlations = [_correlation(rater_T, mean_T) for rater_T in raters_KT]
    return np.maximum(np.nan_to_num(correlations, nan=0.0), 0.0)


def find_lags(raters_KT: NDArray[np.float64], max_lag: int) -> tuple[NDArray[np.int64], list[str]]:
    """Find by how many frames each rater follows the fastest.

    Each rater is moved to where the correlation with the EWE of the others, moved likewise, is
    largest, round by round. All are then moved to the fastest: nobody can answer before what is
    rated happens, so the fastest is nearest to it. A rater who hardly agrees with the others does
    not count as the fastest, and one whose best lag is the largest allowed is not moved apart from
    the median of all.

    Returns:
        Lags, shape (raters,), 0 for the fastest; and sentences about raters without a clear lag.
    """
    num_raters = len(raters_KT)
    lags = np.zeros(num_raters, np.int64)
    candidates = range(-max_lag, max_lag + 1)
    is_unclear = np.zeros(num_raters, np.bool_)

    for _ in range(NUM_ROUNDS):
        moved_KT = np.stack([shift(raters_KT[k], int(lags[k])) for k in range(num_raters)])
        found = np.zeros(num_raters, np.int64)
        for rater in range(num_raters):
            others_KT = np.delete(moved_KT, rater, axis=0)
            others_T = _weighted_mean(others_KT, ewe_weights(others_KT))
            scores = [_correlation(shift(raters_KT[rater], lag), others_T) for lag in candidates]
            best = int(np.argmax(np.nan_to_num(scores, nan=-2.0)))
            is_unclear[rater] = best in (0, len(scores) - 1) or bool(np.isnan(scores).all())
            found[rater] = 0 if is_unclear[rater] else candidates[best]

        found -= np.int64(np.round(np.median(found)))
        found[is_unclear] = 0
        if (found == lags).all():
            break
        lags = found

    weights = ewe_weights(np.stack([shift(raters_KT[k], int(lags[k])) for k in range(num_raters)]))
    is_trusted = (weights >= TRUSTED_SHARE * weights.max()) & ~is_unclear
    fastest = int(lags[is_trusted].min()) if is_trusted.any() else int(lags.min())
    notes = []
    if is_unclear.any():
        notes.append(f"{int(is_unclear.sum())} raters have no clear lag, and that of the median.")
    return np.maximum(lags - fastest, 0), notes


def shift(values_T: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Move values to earlier frames; NaN where nothing comes from."""
    moved_T = np.full_like(values_T, np.nan)
    if lag >= 0:
        moved_T[: len(values_T) - lag] = values_T[lag:]
    else:
        moved_T[-lag:] = values_T[:lag]
    return moved_T


def _weighted_mean(
    raters_KT: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    weights_KT = np.where(np.isfinite(raters_KT), weights[:, None], 0.0)
    totals_T = weights_KT.sum(axis=0)
    sums_T = (np.nan_to_num(raters_KT) * weights_KT).sum(axis=0)
    means_T = np.full(raters_KT.shape[1], np.nan)
    np.divide(sums_T, totals_T, out=means_T, where=totals_T > 0)
    return means_T


def _mean_of_others(raters_KT: NDArray[np.float64], rater: int) -> NDArray[np.float64]:
    others_KT = np.delete(raters_KT, rater, axis=0)
    return _weighted_mean(others_KT, np.ones(len(others_KT)))


def _agreement(raters_KT: NDArray[np.float64], rater: int) -> float:
    if len(raters_KT) < 2:
        return float("nan")
    return _ccc_where_known(raters_KT[rater], _mean_of_others(raters_KT, rater))


def _mean_pairwise_ccc(raters_KT: NDArray[np.float64]) -> float:
    scores = [_ccc_where_known(a_T, b_T) for a_T, b_T in combinations(raters_KT, 2)]
    defined = [score for score in scores if np.isfinite(score)]
    return float(np.mean(defined)) if defined else float("nan")


def _ccc_where_known(a_T: NDArray[np.float64], b_T: NDArray[np.float64]) -> float:
    is_known = np.isfinite(a_T) & np.isfinite(b_T)
    return ccc(a_T[is_known], b_T[is_known])


def _correlation(a_T: NDArray[np.float64], b_T: NDArray[np.float64]) -> float:
    is_known = np.isfinite(a_T) & np.isfinite(b_T)
    a, b = a_T[is_known], b_T[is_known]
    if len(a) < 2:
        return float("nan")

    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else float("nan")


def common_grid(
    times_ms: Sequence[NDArray[np.float64]], values: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Put raters on the union of their times, which are whole milliseconds.

    Returns:
        The times, shape (frames,), and the values, shape (raters, frames), NaN where a rater has
        none.
    """
    frames_ms = np.unique(np.concatenate(times_ms))
    raters_KT = np.full((len(values), len(frames_ms)), np.nan)
    for rater_T, rows_ms, rows in zip(raters_KT, times_ms, values, strict=True):
        rater_T[np.searchsorted(frames_ms, rows_ms)] = rows
    return frames_ms, raters_KT
