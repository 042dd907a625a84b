"""Aligns the rows of a feature set with frames by their timestamps. Knows no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_ROW = -1


@dataclass(frozen=True)
class AlignedFeatures:
    """One feature set on the frames of a session.

    Attributes:
        values: shape (frames, columns), float32; 0 where not present. A view of the rows where
            every frame takes the next row.
        present: shape (frames,).
        num_unmatched: the number of frames without a row within the tolerance.
        num_unused: the number of rows that no frame took.
        num_reused: the number of frames that took the row of an earlier frame.
    """

    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    num_unmatched: int
    num_unused: int
    num_reused: int


def align(
    frames_ms: NDArray[np.int64],
    rows_ms: NDArray[np.int64],
    values: NDArray[np.float32],
    present: NDArray[np.bool_],
    tolerance_ms: float,
) -> AlignedFeatures:
    """Give every frame its nearest row, and keep every frame.

    Args:
        frames_ms: shape (frames,), ascending.
        rows_ms: shape (rows,), strictly ascending.
        values: shape (rows, columns).
        present: shape (rows,).
        tolerance_ms: the farthest that a row may be from its frame.
    """
    rows = nearest_rows(frames_ms, rows_ms, tolerance_ms)
    is_matched = rows != NO_ROW
    used_rows = np.unique(rows[is_matched])

    if is_matched.all() and (np.diff(rows) == 1).all():
        # A slice is a view: a wide feature set is not copied.
        in_step = slice(rows[0], rows[-1] + 1)
        frame_values, frame_present = values[in_step], present[in_step]
    else:
        frame_values, frame_present = values[rows], is_matched & present[rows]
        frame_values[~frame_present] = 0

    return AlignedFeatures(
        values=frame_values,
        present=frame_present,
        num_unmatched=int((~is_matched).sum()),
        num_unused=len(rows_ms) - len(used_rows),
        num_reused=int(is_matched.sum()) - len(used_rows),
    )


def nearest_rows(
    frames_ms: NDArray[np.int64], rows_ms: NDArray[np.int64], tolerance_ms: float
) -> NDArray[np.intp]:
    """Return for every frame the index of the nearest row, `NO_ROW` where none is near enough.

    Of two rows that are equally near the earlier one is taken: it does not look ahead.

    Args:
        frames_ms: shape (frames,), ascending.
        rows_ms: shape (rows,), strictly ascending.
        tolerance_ms: a row exactly this far away still counts.
    """
    if len(rows_ms) == 0:
        return np.full(len(frames_ms), NO_ROW, np.intp)

    insertion = np.searchsorted(rows_ms, frames_ms)
    before = np.maximum(insertion - 1, 0)
    after = np.minimum(insertion, len(rows_ms) - 1)

    distance_before = np.abs(frames_ms - rows_ms[before])
    distance_after = np.abs(rows_ms[after] - frames_ms)
    nearest = np.where(distance_before <= distance_after, before, after)
    distance = np.minimum(distance_before, distance_after)
    return np.where(distance <= tolerance_ms, nearest, NO_ROW)


def merge_timestamps(
    timelines_ms: Sequence[NDArray[np.int64]], period_ms: float
) -> NDArray[np.int64]:
    """Merge the rows of several feature sets into one timeline of about one frame per period.

    From each frame it goes to the timestamp nearest to one period later, or over a gap to the next
    timestamp. So sets that start half a second apart, or run faster, do not multiply the frames.

    Args:
        timelines_ms: the timestamps of every feature set of a session without labels.
        period_ms: distance of the frames that the other sessions have; above 0.
    """
    times_ms = np.unique(np.concatenate(timelines_ms))
    frames = [0]

    while frames[-1] + 1 < len(times_ms):
        later_ms = times_ms[frames[-1] + 1 :]
        expected_ms = times_ms[frames[-1]] + period_ms
        near_ms = later_ms[later_ms < expected_ms + period_ms / 2]

        if len(near_ms) and near_ms[-1] > expected_ms - period_ms / 2:
            step = int(np.abs(near_ms - expected_ms).argmin())
        elif len(near_ms) == len(later_ms):
            break  # what is left is closer than half a period to the last frame
        else:
            step = len(near_ms)
        frames.append(frames[-1] + 1 + step)

    return times_ms[frames]
