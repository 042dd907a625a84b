"""Context columns: mean and slope of every feature column over windows around each frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Moments = list[Array]
"""Sums of x, u x and u^2 x over the frames of a window, or the first of them.

u is counted from the window's first frame. Each has shape (frames, columns).
"""


def context_columns(
    features: NDArray[np.float32], window_frames: Sequence[int], *, is_centred: bool
) -> NDArray[np.float32]:
    """Return the mean and the slope of each column over windows of several lengths.

    The slope is that of the least-squares line, per frame. Only values that are there count; at the
    ends of a session a window is what is there of it.

    Args:
        features: shape (frames, columns), NaN where missing.
        window_frames: the lengths of the windows, each at least 2.
        is_centred: whether the frame is in the middle of its window, which then has an odd number
            of frames (one more, if need be); otherwise it is the last of its window.

    Returns:
        Shape (frames, 2 x columns x windows): for each window first the means, then the slopes. NaN
        where the window has no value, a slope also where it has one alone.
    """
    values = features.astype(np.float64)
    is_known = np.isfinite(values)

    # Far from zero, a small slope would drown in the rounding of large sums.
    counts = is_known.sum(axis=0)
    centre = np.where(is_known, values, 0.0).sum(axis=0) / np.maximum(counts, 1)
    deviations = np.where(is_known, values - centre, 0.0)

    if (is_known == is_known[:, :1]).all():
        is_known = is_known[:, :1]  # whole frames are missing: all columns have the same counts

    columns = []
    for frames in window_frames:
        before = frames // 2 if is_centred else frames - 1
        after = before if is_centred else 0
        means, slopes = _lines(deviations, is_known, before, after)
        columns += [means + centre, slopes]

    return np.concatenate(columns, axis=1).astype(np.float32)


def _lines(
    deviations: Array, is_known: NDArray[np.bool_], before: int, after: int
) -> tuple[Array, Array]:
    """Return mean and slope of the line through each window, both of shape (frames, columns)."""
    sum_x, sum_ux = _window_moments(deviations, before, after, highest_power=1)
    count, sum_u, sum_uu = _window_moments(
        is_known.astype(np.float64), before, after, highest_power=2
    )

    with np.errstate(divide="ignore", invalid="ignore"):
        means = sum_x / count
        spread = sum_uu - sum_u**2 / count
        slopes = (sum_ux - sum_u * means) / spread

    # Counts and places are whole numbers, so their sums are exact.
    return np.where(count > 0, means, np.nan), np.where(count > 1, slopes, np.nan)


def _window_moments(values: Array, before: int, after: int, *, highest_power: int) -> Moments:
    """Return the moments of the window around every frame; frames outside count as 0.

    The series is cut into blocks as long as a window: a window is the end of one block and the
    beginning of the next. So sums run within blocks alone, and no window has another's rounding.

    Args:
        values: shape (frames, columns).
        before, after: how many frames the window has on either side.
        highest_power: of u.
    """
    num_frames, num_columns = values.shape
    length = before + after + 1
    num_blocks = -(-(before + num_frames + after) // length)

    padded = np.zeros((num_blocks * length, num_columns))
    padded[before : before + num_frames] = values
    blocks = padded.reshape(num_blocks, length, num_columns)

    first = np.arange(num_frames)
    last = first + length - 1
    is_whole_block = (first % length == 0)[:, None]

    place = np.arange(length, dtype=np.float64)[:, None]
    ends, beginnings = [], []
    for power in range(highest_power + 1):
        weighted = blocks * place**power
        from_start = np.cumsum(weighted, axis=1).reshape(padded.shape)
        to_stop = np.cumsum(weighted[:, ::-1], axis=1)[:, ::-1].reshape(padded.shape)
        ends.append(to_stop[first])
        beginnings.append(np.where(is_whole_block, 0.0, from_start[last]))

    place_of_first = (first % length).astype(np.float64)[:, None]
    ends = _moved(ends, -place_of_first)
    beginnings = _moved(beginnings, length - place_of_first)
    return [end + beginning for end, beginning in zip(ends, beginnings, strict=True)]


def _moved(sums: Moments, shift: Array) -> Moments:
    """Return the sums of (u + shift)^p x, from those of u^p x."""
    sum_x, sum_ux = sums[:2]
    moved = [sum_x, sum_ux + shift * sum_x]
    if len(sums) > 2:
        moved.append(sums[2] + 2 * shift * sum_ux + shift**2 * sum_x)
    return moved
