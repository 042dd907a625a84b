"""Joins the rows of a feature set to frames by their timestamps. Knows no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_ROW = -1


@dataclass(frozen=True)
class Joined:
    """One feature set on the frames of a session.

    Attributes:
        values: shape (frames, columns), float32; 0 where not present. A view of the rows where
            every frame takes the next row.
        present: shape (frames,).
        num_unmatched: frames without a row within the tolerance.
        num_unused: rows that no frame took.
        num_reused: frames that took the row of an earlier frame.
    """

    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    num_unmatched: int
    num_unused: int
    num_reused: int


def nearest_rows(
    frames_ms: NDArray[np.int64], rows_ms: NDArray[np.int64], tolerance_ms: float
) -> NDArray[np.intp]:
    """For every frame the index of the nearest row, `NO_ROW` where none is within the tolerance.

    Of two rows equally near the earlier one is taken: it does not look ahead.

    Args:
        frames_ms: shape (frames,), ascending.
        rows_ms: shape (rows,), strictly ascending.
        tolerance_ms: a row exactly this far away still counts.
    """
    if len(rows_ms) == 0:
        return np.full(len(frames_ms), NO_ROW, np.intp)
    after = np.searchsorted(rows_ms, frames_ms)
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, len(rows_ms) - 1)
    distance_before, distance_after = (
        np.abs(frames_ms - rows_ms[before]),
        np.abs(rows_ms[after] - frames_ms),
    )
    nearest = np.where(distance_before <= distance_after, before, after)
    distance = np.minimum(distance_before, distance_after)
    return np.where(distance <= tolerance_ms, nearest, NO_ROW)


def join(
    frames_ms: NDArray[np.int64],
    rows_ms: NDArray[np.int64],
    values: NDArray[np.float32],
    present: NDArray[np.bool_],
    tolerance_ms: float,
) -> Joined:
    """Gives every frame its nearest row; keeps every frame.

    Args:
        frames_ms: shape (frames,), ascending.
        rows_ms: shape (rows,), strictly ascending.
        values: shape (rows, columns).
        present: shape (rows,).
        tolerance_ms: the farthest that a row may be from its frame.
    """
    rows = nearest_rows(frames_ms, rows_ms, tolerance_ms)
    matched = rows != NO_ROW
    used = np.unique(rows[matched])
    if matched.all() and (np.diff(rows) == 1).all():
        taken, there = (
            values[rows[0] : rows[-1] + 1],
            present[rows[0] : rows[-1] + 1],
        )  # a view: no copy of a wide set
    else:
        there, taken = matched & present[rows], values[rows]
        taken[~there] = 0
    return Joined(
        values=taken,
        present=there,
        num_unmatched=int((~matched).sum()),
        num_unused=len(rows_ms) - len(used),
        num_reused=int(matched.sum()) - len(used),
    )


def merge_timestamps(
    timelines_ms: Sequence[NDArray[np.int64]], period_ms: float
) -> NDArray[np.int64]:
    """One timeline for a session without labels: rows of any set, about one period apart.

    From each frame it goes to the timestamp nearest to one period later, or over a gap to the next
    one there is. So sets that start half a second apart, or run faster, do not multiply the frames.

    Args:
        timelines_ms: the timestamps of every feature set.
        period_ms: distance of the frames that the other sessions have; above 0.
    """
    every_ms = np.unique(np.concatenate(timelines_ms))
    frames = [0]
    while frames[-1] + 1 < len(every_ms):
        later = every_ms[frames[-1] + 1 :]
        wanted_ms = every_ms[frames[-1]] + period_ms
        near = later[later < wanted_ms + period_ms / 2]
        if len(near) and near[-1] > wanted_ms - period_ms / 2:
            step = int(np.abs(near - wanted_ms).argmin())
        elif len(near) == len(later):
            break  # what is left is closer than half a period to the last frame
        else:
            step = len(near)
        frames.append(frames[-1] + 1 + step)
    return every_ms[frames]
