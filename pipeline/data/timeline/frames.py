"""The frames of a session: one timeline for the rows of all its targets. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import LabelRows, Times
from pipeline.data.tables.parse import FeatureTable, LabelTable
from pipeline.data.tables.timestamps import from_ms, to_text
from pipeline.preprocessing.align import NO_ROW, frames_at_period, merge_timestamps, nearest_rows

SAME_PERIOD = 1.01
"""Targets whose rows are so much farther apart than others' still have the same period."""
OFF_PERIOD, IRREGULAR_SHARE = 0.25, 0.25
"""Rows are irregular where more than a share of their steps is so far off the period."""
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Timing:
    """The distance of frames, and of rows from their frame, in a corpus.

    Attributes:
        period_ms: median distance of two label rows, of the target whose rows make the frames.
        tolerance_ms: the farthest that a feature row may be from its frame.
        targets: those with regular rows first, and of these the fastest: the rows of the first make
            the frames, those of others join them.
        is_model_period: whether the period is that of a model, on which sessions without labels
            are put whatever the rate of their feature sets.
    """

    period_ms: float
    tolerance_ms: float
    targets: tuple[str, ...] = ()
    is_model_period: bool = False


@dataclass(frozen=True)
class Frames:
    """The frames of a session.

    Attributes:
        timestamps_ms: shape (frames,), strictly ascending.
        timestamps: shape (frames,), in the text of the file that a frame comes from.
        segment_ids: shape (frames,).
        label_rows: target -> the rows of its file.
        num_moved_rows: target -> how many of its rows are read at a frame of another time; a target
            without such rows is absent.
    """

    timestamps_ms: Times
    timestamps: NDArray[np.str_]
    segment_ids: NDArray[np.str_]
    label_rows: Mapping[str, LabelRows]
    num_moved_rows: Mapping[str, int]


def find_timing(
    features_ms: Mapping[str, Sequence[Times]],
    labels_ms: Mapping[str, Sequence[Times]],
    tolerance_ms: float | None,
    frame_period_ms: float | None,
) -> Timing:
    """Return the distance of frames, by the target whose rows make them.

    In a corpus without labels it is a model's, or that of two rows of the slowest feature set.

    Args:
        features_ms: feature set -> timestamps of its files.
        labels_ms: target -> likewise.
        tolerance_ms: the farthest that a row may be from its frame; None for half a period.
        frame_period_ms: of a model that is to read the corpus; None without one.
    """
    periods_ms = _periods_ms(labels_ms)
    slowest_ms = max(periods_ms.values(), default=0.0)
    period_ms = max(_periods_ms(features_ms).values(), default=1.0)
    if frame_period_ms is not None:
        period_ms = frame_period_ms

    def rank(target: str) -> tuple[bool, float]:
        if target not in periods_ms:
            return True, float("inf")
        return _is_irregular(labels_ms[target], periods_ms[target]), periods_ms[target]

    targets = tuple(labels_ms)
    if periods_ms and slowest_ms < SAME_PERIOD * min(periods_ms.values()):
        # Targets of one period keep the order in which they were named.
        period_ms = median_step_ms([times for each in labels_ms.values() for times in each])
        targets = tuple(sorted(targets, key=lambda target: rank(target)[0]))
    elif periods_ms:
        targets = tuple(sorted(targets, key=rank))
        period_ms = periods_ms[targets[0]]

    tolerance = period_ms / 2 if tolerance_ms is None else float(tolerance_ms)
    return Timing(period_ms, tolerance, targets, frame_period_ms is not None)


def median_step_ms(timelines_ms: Sequence[Times]) -> float:
    """Return the median distance of two timestamps, of which a timeline has at least two."""
    return float(np.median(np.concatenate([np.diff(timeline) for timeline in timelines_ms])))


def make_frames(
    features: Sequence[FeatureTable], labels: Mapping[str, LabelTable], timing: Timing
) -> Frames:
    """Make the frames of a session.

    The rows of the first target of the timing are frames. A row of another target belongs to
    the nearest frame within half a period; where there is none it is a frame of its own. So targets
    that were annotated in separate passes share their frames.

    Args:
        features: the feature tables that the session has.
        labels: target -> table; {} for a session without labels, whose frames are made of the rows
            of its feature sets.
        timing: the distance of frames.
    """
    if labels:
        frames_ms = _label_frames([labels[t] for t in timing.targets if t in labels], timing)
        tables: Sequence[FeatureTable | LabelTable] = list(labels.values())
    else:
        timelines_ms = [table.timestamps_ms for table in features]
        make = frames_at_period if timing.is_model_period else merge_timestamps
        frames_ms = make(timelines_ms, timing.period_ms)
        tables = features

    label_rows = {target: _label_rows(frames_ms, table) for target, table in labels.items()}
    num_moved = {
        target: int((frames_ms[rows.frames] != labels[target].timestamps_ms).sum())
        for target, rows in label_rows.items()
    }
    return Frames(
        timestamps_ms=frames_ms,
        timestamps=_texts(frames_ms, tables),
        segment_ids=_segment_ids(frames_ms, tables, timing.period_ms / 2),
        label_rows=label_rows,
        num_moved_rows={target: count for target, count in num_moved.items() if count},
    )


def labels_on_frames(rows: LabelRows | None, num_frames: int) -> NDArray[np.float64]:
    """Return a target's label at every frame: the mean of its rows there, NaN where it is unknown.

    Args:
        rows: of the target; None where it has no file.
        num_frames: of the session.
    """
    labels = np.full(num_frames, np.nan)
    if rows is None:
        return labels
    if (np.diff(rows.frames) > 0).all():
        labels[rows.frames] = rows.values
        return labels

    is_known = np.isfinite(rows.values)
    frames, values = rows.frames[is_known], rows.values[is_known]
    totals = np.bincount(frames, values, num_frames)
    counts = np.bincount(frames, minlength=num_frames)
    np.divide(totals, counts, out=labels, where=counts > 0)
    return labels


def _periods_ms(timelines_ms: Mapping[str, Sequence[Times]]) -> dict[str, float]:
    """Return feature set or target -> median distance of two rows, where any file has two."""
    return {
        name: median_step_ms(each)
        for name, each in timelines_ms.items()
        if any(len(timeline) > 1 for timeline in each)
    }


def _is_irregular(timelines_ms: Sequence[Times], period_ms: float) -> bool:
    """Whether rows come at any time: frames are about a period apart."""
    steps_ms = np.concatenate([np.diff(timeline) for timeline in timelines_ms])
    is_off = np.abs(steps_ms - period_ms) > OFF_PERIOD * period_ms
    return bool(is_off.mean() > IRREGULAR_SHARE)


def _label_frames(tables: Sequence[LabelTable], timing: Timing) -> Times:
    frames_ms = tables[0].timestamps_ms
    for table in tables[1:]:
        rows_ms = table.timestamps_ms
        nearest = nearest_rows(rows_ms, frames_ms, timing.period_ms / 2)
        frames_ms = np.union1d(frames_ms, rows_ms[nearest == NO_ROW])
    return frames_ms


def _label_rows(frames_ms: Times, table: LabelTable) -> LabelRows:
    return LabelRows(
        timestamps=_read_only(table.texts),
        segment_ids=_read_only(table.segment_ids),
        frames=_read_only(nearest_rows(table.timestamps_ms, frames_ms, float("inf"))),
        values=_read_only(table.values),
    )


def _texts(frames_ms: Times, tables: Sequence[FeatureTable | LabelTable]) -> NDArray[np.str_]:
    """Return the text of each frame's timestamp: the first table's that has it, or in its unit."""
    first = tables[0]
    texts = np.full(len(frames_ms), "", np.object_)
    alike = [each for each in tables if _form(each) == _form(first)]
    for table in reversed(alike):
        rows = nearest_rows(frames_ms, table.timestamps_ms, 0)
        is_matched = rows != NO_ROW
        texts[is_matched] = table.timestamp_texts(rows[is_matched])

    is_own = texts == ""
    if is_own.any():
        times = from_ms(frames_ms[is_own], first.unit)
        texts[is_own] = to_text(times, is_date_time=first.is_date_time)
    return texts.astype(np.str_)


def _form(table: FeatureTable | LabelTable) -> tuple[str, bool]:
    return table.unit, table.is_date_time


def _segment_ids(
    frames_ms: Times, tables: Sequence[FeatureTable | LabelTable], tolerance_ms: float
) -> NDArray[np.str_]:
    """Take the id of each frame from the first table that has a row for it."""
    segment_ids = np.full(len(frames_ms), "", np.object_)
    for table in reversed(tables):
        is_features = isinstance(table, FeatureTable)
        rows = nearest_rows(frames_ms, table.timestamps_ms, tolerance_ms if is_features else 0.0)
        is_matched = rows != NO_ROW
        segment_ids[is_matched] = table.segment_ids[rows[is_matched]]
    return segment_ids.astype(np.str_)


def _read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.setflags(write=False)
    return array
