"""Rows at times of their own onto a grid of whole periods. Knows no files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOO_SLOW = 1.5
"""Rows that are farther apart than so many periods leave periods without any."""


def resample(
    times_ms: NDArray[np.float64],
    values: NDArray[np.float64],
    period_ms: float,
    *,
    holds: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take the mean of the rows around every multiple of a period.

    A row belongs to the multiple that it is nearest to, so that no time is shifted.

    Args:
        times_ms: shape (rows,), ascending; times may repeat.
        values: shape (rows, columns); NaN is left out of means.
        period_ms: above 0.
        holds: whether a period without a row has the value of the last row before it, as a rating
            stays until the rater moves; else it is NaN. Nothing is made up before the first row
            or after the last.

    Returns:
        The times, shape (periods,), and the values, shape (periods, columns).
    """
    if not len(times_ms):
        return times_ms, values

    bins = np.floor(times_ms / period_ms + 0.5).astype(np.int64)
    first, num_bins = int(bins[0]), int(bins[-1] - bins[0]) + 1
    positions = bins - first
    means: NDArray[np.float64] = np.full((num_bins, values.shape[1]), np.nan)

    for column in range(values.shape[1]):
        is_known = np.isfinite(values[:, column])
        counts = np.bincount(positions[is_known], minlength=num_bins)
        sums = np.bincount(positions[is_known], values[is_known, column], minlength=num_bins)
        np.divide(sums, counts, out=means[:, column], where=counts > 0)
        if holds:
            means[:, column] = _hold(means[:, column], positions, values[:, column])

    grid_ms: NDArray[np.float64] = np.arange(first, first + num_bins, dtype=np.float64) * period_ms
    return grid_ms, means


def _hold(
    means: NDArray[np.float64], positions: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fill periods without a row with the last row before them."""
    is_empty = ~np.isin(np.arange(len(means)), positions)
    last_rows = np.searchsorted(positions, np.flatnonzero(is_empty), side="right") - 1
    held = means.copy()
    held[is_empty] = values[last_rows]
    return held
