"""Feature sets with timestamps of their own, put on the frames of a model as in its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Resampling, Times
from pipeline.errors import InputError
from pipeline.preprocessing.align import AlignedFeatures, align, frames_at_period
from pipeline.preprocessing.cleaning import clean

OTHER_UNITS = {1e3: "seconds", 1e-3: "microseconds", 1e-6: "nanoseconds"}
"""Milliseconds of a unit -> its name."""
RATE_TOLERANCE = 0.1
LENGTH_FACTOR = 3.0
"""Two lengths of the same recording differ by less than this factor."""


@dataclass(frozen=True)
class TimedRows:
    """The rows of a feature set, as a caller has them.

    Attributes:
        timestamps_ms: shape (rows,), strictly ascending.
        values: shape (rows, columns), NaN where missing.
    """

    timestamps_ms: Times
    values: NDArray[np.float32]


def make_frames(sets: Mapping[str, TimedRows], frame_period_ms: float) -> Times:
    """Return the frames of a session without labels, as for files of it.

    Args:
        sets: feature set -> rows; at least one.
        frame_period_ms: of the model.
    """
    timelines_ms = [rows.timestamps_ms for rows in sets.values()]
    return frames_at_period(timelines_ms, frame_period_ms)


def put_on_frames(
    name: str, rows: TimedRows, frames_ms: Times, frame_period_ms: float, resampling: Resampling
) -> AlignedFeatures:
    """Clean the rows of a feature set, and put them on frames.

    Args:
        name: of the feature set, for messages.
        rows: its rows; the values are not changed.
        frames_ms: shape (frames,), strictly ascending.
        frame_period_ms: a row is at most half of it from its frame.
        resampling: of the model.

    Raises:
        InputError: no row is near a frame.
    """
    cleaned = clean(rows.timestamps_ms, rows.values.copy())
    aligned = align(
        frames_ms,
        rows.timestamps_ms,
        cleaned.values,
        cleaned.present,
        frame_period_ms / 2,
        resampling,
    )
    if aligned.num_unmatched == len(frames_ms):
        times_ms = rows.timestamps_ms
        raise InputError(
            f"No row of {name!r} is within {frame_period_ms / 2:g} ms of a frame (rows "
            f"{times_ms[0]} to {times_ms[-1]}, frames {frames_ms[0]} to {frames_ms[-1]}). "
            "Give both in ms from the same start."
        )
    return aligned


def frame_unit(timestamps: NDArray[np.float64], frame_period_ms: float) -> str:
    """Return in which unit but ms timestamps have a model's frame period; "" if in none."""
    if len(timestamps) < 2:
        return ""
    step = float(np.median(np.diff(timestamps)))
    for factor, unit in OTHER_UNITS.items():
        if abs(step * factor / frame_period_ms - 1) <= RATE_TOLERANCE:
            return unit
    return ""


def row_unit(
    timestamps: NDArray[np.float64], frame_period_ms: float, length_ms: float | None
) -> str:
    """Return in which unit but ms the timestamps of a feature set must be; "" if they may be ms.

    Args:
        timestamps: shape (rows,).
        frame_period_ms: of the model.
        length_ms: of the session, where its frames were given.
    """
    if len(timestamps) < 2:
        return ""
    length = float(timestamps[-1] - timestamps[0])
    step = float(np.median(np.diff(timestamps)))
    for factor, unit in OTHER_UNITS.items():
        if length_ms:
            is_so_long = 1 / LENGTH_FACTOR < length * factor / length_ms < LENGTH_FACTOR
        elif factor > 1:
            is_so_long = length < 2 * frame_period_ms < length * factor
        else:
            is_so_long = step > 50 * frame_period_ms and step * factor < 2 * frame_period_ms
        if is_so_long:
            return unit
    return ""
