"""The tables of one session -> a `Session` on common frames. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Finding, Session
from pipeline.data.align import NO_ROW, Joined, join, merge_timestamps, nearest_rows
from pipeline.data.findings import about_features, about_labels, about_time
from pipeline.data.metadata import Entry
from pipeline.data.tables.parse import FeatureTable, LabelTable

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Timing:
    """How frames and rows meet, the same for the whole corpus.

    Attributes:
        period_ms: median distance of two label rows.
        tolerance_ms: the farthest that a feature row may be from its frame.
    """

    period_ms: float
    tolerance_ms: float


@dataclass(frozen=True)
class Built:
    """A session, the findings about it, and a clause for each set that meets none of its frames."""

    session: Session
    findings: tuple[Finding, ...]
    strangers: tuple[str, ...]


def build_session(
    entry: Entry,
    features: Mapping[str, FeatureTable | None],
    labels: Mapping[str, LabelTable | None],
    widths: Mapping[str, int],
    timing: Timing,
) -> Built:
    """Puts the tables on the session's frames: one frame per label row of any target.

    Args:
        entry: whose session it is.
        features: set -> table, None where the session has no file; at least one has.
        labels: target -> table, None likewise. If all are None the rows of the sets make the frames.
        widths: set -> number of columns.
        timing: how frames and rows meet.
    """
    frames_ms = _frames(features, labels, timing.period_ms)
    joined = {
        name: join(frames_ms, table.timestamps_ms, table.values, table.present, timing.tolerance_ms)
        if table
        else None
        for name, table in features.items()
    }
    session = Session(
        session_id=entry.session_id,
        subject=entry.subject,
        partition=entry.partition,
        timestamps_ms=_frozen(frames_ms),
        segment_ids=_frozen(_segment_ids(frames_ms, features, labels, timing.period_ms)),
        features={
            name: _frozen(
                part.values if part else np.zeros((len(frames_ms), widths[name]), np.float32)
            )
            for name, part in joined.items()
        },
        present={
            name: _frozen(part.present if part else np.zeros(len(frames_ms), np.bool_))
            for name, part in joined.items()
        },
        labels={target: _frozen(_on_frames(frames_ms, table)) for target, table in labels.items()},
    )
    findings = [
        *(
            one
            for name, table in features.items()
            for one in about_features(session, name, table, joined[name])
        ),
        *(one for target in labels for one in about_labels(session, target)),
        *about_time(session, timing.period_ms),
    ]
    return Built(
        session, tuple(findings), tuple(_strangers(session, features, joined, timing.tolerance_ms))
    )


def _frames(
    features: Mapping[str, FeatureTable | None],
    labels: Mapping[str, LabelTable | None],
    period_ms: float,
) -> NDArray[np.int64]:
    labelled = [table.timestamps_ms for table in labels.values() if table]
    if labelled:
        return np.unique(np.concatenate(labelled))
    return merge_timestamps(
        [table.timestamps_ms for table in features.values() if table], period_ms
    )


def _on_frames(frames_ms: NDArray[np.int64], table: LabelTable | None) -> NDArray[np.float64]:
    values = np.full(len(frames_ms), np.nan)
    if table:
        values[np.searchsorted(frames_ms, table.timestamps_ms)] = table.values
    return values


def _segment_ids(
    frames_ms: NDArray[np.int64],
    features: Mapping[str, FeatureTable | None],
    labels: Mapping[str, LabelTable | None],
    period_ms: float,
) -> NDArray[np.str_]:
    """From the labels; in a session without labels from its sets. The first that has a row for the frame decides."""
    tables: Sequence[LabelTable | FeatureTable] = [table for table in labels.values() if table]
    tolerance_ms = 0.0 if tables else period_ms / 2
    ids = np.full(len(frames_ms), "", np.object_)
    for table in reversed(tables or [table for table in features.values() if table]):
        rows = nearest_rows(frames_ms, table.timestamps_ms, tolerance_ms)
        ids[rows != NO_ROW] = table.segment_ids[rows[rows != NO_ROW]]
    return ids.astype(np.str_)


def _strangers(
    session: Session,
    features: Mapping[str, FeatureTable | None],
    joined: Mapping[str, Joined | None],
    tolerance_ms: float,
) -> list[str]:
    first, last = session.timestamps_ms[0], session.timestamps_ms[-1]
    return [
        f"session {session.session_id!r}: no row of {name!r} is within {tolerance_ms:g} ms of a frame "
        f"(rows {table.timestamps_ms[0]} to {table.timestamps_ms[-1]} ms, frames {first} to {last} ms)"
        for name, table in features.items()
        if table and (part := joined[name]) and part.num_unmatched == session.num_frames
    ]


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.setflags(write=False)
    return array
