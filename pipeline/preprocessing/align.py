"""Aligns the rows of a feature set with frames by their timestamps. Knows no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Resampling, Times

NO_ROW = -1
STD_SUFFIX = "_std"
MAX_GRID_FRAMES = 10_000_000
NEAR_PERIOD = (0.75, 4 / 3)
"""A set whose rows are so many frame periods apart is neither faster nor slower than the frames."""


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
        num_far: the number of rows that are near no frame; they are among the unused.
    """

    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    num_unmatched: int
    num_unused: int
    num_reused: int
    num_far: int


def align(
    frames_ms: Times,
    rows_ms: Times,
    values: NDArray[np.float32],
    present: NDArray[np.bool_],
    tolerance_ms: float,
    resampling: Resampling = "nearest",
) -> AlignedFeatures:
    """Give every frame its nearest row, or statistics of its rows, and keep every frame.

    Args:
        frames_ms: shape (frames,), ascending; strictly, unless the resampling is "nearest".
        rows_ms: shape (rows,), strictly ascending.
        values: shape (rows, columns).
        present: shape (rows,).
        tolerance_ms: the farthest that a row may be from its frame.
        resampling: with "mean+std" there are twice as many columns, all means first.
    """
    if resampling != "nearest":
        return _aggregate(
            frames_ms, rows_ms, values, present, tolerance_ms, has_std=resampling == "mean+std"
        )

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
        num_far=len(rows_ms) - num_near_rows(frames_ms, rows_ms, tolerance_ms)[0],
    )


def resampled_columns(columns: Sequence[str], resampling: Resampling) -> tuple[str, ...]:
    """Return the names of a set's columns on frames: "ecg", or "ecg" (the mean) and "ecg_std"."""
    if resampling != "mean+std":
        return tuple(columns)
    return (*columns, *(f"{name}{STD_SUFFIX}" for name in columns))


def original_columns(columns: Sequence[str], resampling: Resampling) -> tuple[str, ...]:
    """Return the names that `resampled_columns` was given."""
    return tuple(columns[: len(columns) // 2]) if resampling == "mean+std" else tuple(columns)


def num_near_rows(frames_ms: Times, rows_ms: Times, tolerance_ms: float) -> tuple[int, int]:
    """Return how many rows are near a frame, and how many frames such rows are nearest to."""
    frames = nearest_rows(rows_ms, frames_ms, tolerance_ms)
    return int((frames != NO_ROW).sum()), len(np.unique(frames[frames != NO_ROW]))


def nearest_rows(
    frames_ms: Times, rows_ms: Times, tolerance_ms: float, *, prefers_later: bool = False
) -> NDArray[np.intp]:
    """Return for every frame the index of the nearest row, `NO_ROW` where none is near enough.

    Of two rows that are equally near the earlier one is taken: it does not look ahead.

    Args:
        frames_ms: shape (frames,), ascending.
        rows_ms: shape (rows,), strictly ascending.
        tolerance_ms: a row exactly this far away still counts.
        prefers_later: take the later of two that are equally near.
    """
    if len(rows_ms) == 0:
        return np.full(len(frames_ms), NO_ROW, np.intp)

    insertion = np.searchsorted(rows_ms, frames_ms)
    before = np.maximum(insertion - 1, 0)
    after = np.minimum(insertion, len(rows_ms) - 1)

    distance_before = np.abs(frames_ms - rows_ms[before])
    distance_after = np.abs(rows_ms[after] - frames_ms)
    is_before = (
        distance_before < distance_after if prefers_later else distance_before <= distance_after
    )
    nearest = np.where(is_before, before, after)
    distance = np.minimum(distance_before, distance_after)
    return np.where(distance <= tolerance_ms, nearest, NO_ROW)


def merge_timestamps(timelines_ms: Sequence[Times], period_ms: float) -> Times:
    """Merge the rows of several feature sets into one timeline of about one frame per period.

    From each frame it goes to the timestamp nearest to one period later, or over a gap to the next
    timestamp. So sets that start half a second apart, or run faster, do not multiply the frames.

    Args:
        timelines_ms: the timestamps of every feature set of a session without labels.
        period_ms: distance of the frames that the other sessions have; above 0.
    """
    times_ms = _all_timestamps(timelines_ms)
    frames = [0]

    while frames[-1] + 1 < len(times_ms):
        first = frames[-1] + 1
        expected_ms = times_ms[frames[-1]] + period_ms
        end = int(np.searchsorted(times_ms, expected_ms + period_ms / 2))
        near_ms = times_ms[first:end]

        if len(near_ms) and near_ms[-1] > expected_ms - period_ms / 2:
            step = int(np.abs(near_ms - expected_ms).argmin())
        elif end == len(times_ms):
            break  # what is left is closer than half a period to the last frame
        else:
            step = len(near_ms)
        frames.append(first + step)

    return times_ms[frames]


def frames_at_period(timelines_ms: Sequence[Times], period_ms: float) -> Times:
    """Return frames at a model's period for sets of any rate: the same for a file and a request.

    Sets at about the period make the frames with their rows (`merge_timestamps`). Where all are
    slower or one is faster, frames are exactly a period apart from the first row on, but for gaps.

    Args:
        timelines_ms: the timestamps of every feature set, each strictly ascending.
        period_ms: distance of two frames; above 0.
    """
    steps_ms = [float(np.median(np.diff(times))) for times in timelines_ms if len(times) > 1]
    step_ms = min(steps_ms, default=period_ms)
    if NEAR_PERIOD[0] < step_ms / period_ms < NEAR_PERIOD[1]:
        return merge_timestamps(timelines_ms, period_ms)

    times_ms = _all_timestamps(timelines_ms)
    num_frames = 1 + int((times_ms[-1] - times_ms[0]) / period_ms)
    if num_frames > MAX_GRID_FRAMES:
        return merge_timestamps(timelines_ms, period_ms)  # a jump to another origin, no recording
    frames_ms = times_ms[0] + period_ms * np.arange(num_frames, dtype=np.float64)
    is_near = nearest_rows(frames_ms, times_ms, max(period_ms, step_ms) / 2) != NO_ROW
    return whole_if_possible(frames_ms[is_near])


def whole_if_possible(times: NDArray[np.float64]) -> Times:
    """Return timestamps as integers where all are whole numbers."""
    whole = np.rint(times)
    return whole.astype(np.int64) if np.array_equal(whole, times) else times


def _all_timestamps(timelines_ms: Sequence[Times]) -> Times:
    times: NDArray[Any] = np.concatenate(timelines_ms)
    return np.unique(times)


def _aggregate(
    frames_ms: Times,
    rows_ms: Times,
    values: NDArray[np.float32],
    present: NDArray[np.bool_],
    tolerance_ms: float,
    *,
    has_std: bool,
) -> AlignedFeatures:
    """Return the mean, and the standard deviation, of the present rows nearest to every frame.

    Of two frames that are equally near a row belongs to the later one, which it lies before. As in
    files, a frame of zeros in several columns is missing.
    """
    # F = frames, R = rows, C = columns
    frame_of_R = nearest_rows(rows_ms, frames_ms, tolerance_ms, prefers_later=True)
    is_near_R = frame_of_R != NO_ROW
    rows = np.flatnonzero(is_near_R & present)
    frames, starts, counts = np.unique(frame_of_R[rows], return_index=True, return_counts=True)

    num_columns = values.shape[1] * (2 if has_std else 1)
    values_FC = np.zeros((len(frames_ms), num_columns), np.float32)
    if len(frames):
        rows_RC = values[rows]
        means = np.add.reduceat(rows_RC, starts, axis=0, dtype=np.float64) / counts[:, None]
        statistics = [means]
        if has_std:
            deviations_RC = rows_RC - np.repeat(means, counts, axis=0)
            variances = np.add.reduceat(deviations_RC**2, starts, axis=0) / counts[:, None]
            statistics.append(np.sqrt(variances))
        values_FC[frames] = np.concatenate(statistics, axis=1)

    present_F = np.zeros(len(frames_ms), np.bool_)
    present_F[frames] = True
    if num_columns > 1:
        present_F &= values_FC.any(axis=1)
    matched_frames = np.unique(frame_of_R[is_near_R])
    num_far = len(rows_ms) - int(is_near_R.sum())
    return AlignedFeatures(
        values=values_FC,
        present=present_F,
        num_unmatched=len(frames_ms) - len(matched_frames),
        num_unused=num_far,
        num_reused=0,
        num_far=num_far,
    )
