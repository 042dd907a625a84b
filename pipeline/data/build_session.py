"""Builds a session on common frames from the tables of its files. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Finding, Session
from pipeline.data.align import NO_ROW, AlignedFeatures, align, merge_timestamps, nearest_rows
from pipeline.data.findings import feature_findings, gap_findings, label_findings
from pipeline.data.metadata import SessionEntry
from pipeline.data.tables.parse import FeatureTable, LabelTable

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Timing:
    """The distance of frames, and of rows from their frame, in a corpus.

    Attributes:
        period_ms: median distance of two label rows.
        tolerance_ms: the farthest that a feature row may be from its frame.
    """

    period_ms: float
    tolerance_ms: float


@dataclass(frozen=True)
class BuiltSession:
    """A session, and the findings and mistakes of building it.

    Attributes:
        session: the session.
        findings: what was dropped, imputed or noticed.
        mistakes: a clause for each feature set that has rows, but none for any frame.
    """

    session: Session
    findings: tuple[Finding, ...]
    mistakes: tuple[str, ...]


def build_session(
    entry: SessionEntry,
    features: Mapping[str, FeatureTable | None],
    labels: Mapping[str, LabelTable | None],
    widths: Mapping[str, int],
    timing: Timing,
) -> BuiltSession:
    """Build a session with one frame per label row of any target.

    Args:
        entry: the session's id, subject, partition and stimulus.
        features: feature set -> table, None where the session has no file; at least one has.
        labels: target -> table, None likewise. If all are None, the rows of the feature sets make
            the frames.
        widths: feature set -> number of columns.
        timing: the distance of frames, and of rows from their frame.
    """
    feature_tables = [table for table in features.values() if table]
    label_tables = [table for table in labels.values() if table]
    frames_ms = _frame_timestamps(feature_tables, label_tables, timing.period_ms)
    segment_ids = _segment_ids(frames_ms, feature_tables, label_tables, timing.period_ms)

    aligned = {
        feature_set: _align_table(frames_ms, table, widths[feature_set], timing.tolerance_ms)
        for feature_set, table in features.items()
    }
    session = Session(
        session_id=entry.session_id,
        subject=entry.subject,
        partition=entry.partition,
        timestamps_ms=_read_only(frames_ms),
        segment_ids=_read_only(segment_ids),
        features={name: _read_only(on_frames.values) for name, on_frames in aligned.items()},
        present={name: _read_only(on_frames.present) for name, on_frames in aligned.items()},
        labels={
            target: _read_only(_labels_on_frames(frames_ms, table))
            for target, table in labels.items()
        },
        stimulus=entry.stimulus,
    )

    findings: list[Finding] = []
    for feature_set, table in features.items():
        findings += feature_findings(session, feature_set, table, aligned[feature_set])
    for target in labels:
        findings += label_findings(session, target)
    findings += gap_findings(session, timing.period_ms)

    mistakes = _unmatched_sets(session, features, aligned, timing.tolerance_ms)
    return BuiltSession(session, tuple(findings), tuple(mistakes))


def _frame_timestamps(
    feature_tables: Sequence[FeatureTable], label_tables: Sequence[LabelTable], period_ms: float
) -> NDArray[np.int64]:
    if label_tables:
        return np.unique(np.concatenate([table.timestamps_ms for table in label_tables]))

    return merge_timestamps([table.timestamps_ms for table in feature_tables], period_ms)


def _segment_ids(
    frames_ms: NDArray[np.int64],
    feature_tables: Sequence[FeatureTable],
    label_tables: Sequence[LabelTable],
    period_ms: float,
) -> NDArray[np.str_]:
    """Take the ids from the labels, or from the feature sets of a session without labels.

    The first table that has a row for a frame decides.
    """
    tables: Sequence[LabelTable | FeatureTable] = label_tables or feature_tables
    tolerance_ms = 0.0 if label_tables else period_ms / 2
    segment_ids = np.full(len(frames_ms), "", np.object_)

    for table in reversed(tables):
        rows = nearest_rows(frames_ms, table.timestamps_ms, tolerance_ms)
        is_matched = rows != NO_ROW
        segment_ids[is_matched] = table.segment_ids[rows[is_matched]]

    return segment_ids.astype(np.str_)


def _align_table(
    frames_ms: NDArray[np.int64], table: FeatureTable | None, width: int, tolerance_ms: float
) -> AlignedFeatures:
    """Align a table; without one the feature set is missing in every frame."""
    if table:
        return align(frames_ms, table.timestamps_ms, table.values, table.present, tolerance_ms)

    return AlignedFeatures(
        values=np.zeros((len(frames_ms), width), np.float32),
        present=np.zeros(len(frames_ms), np.bool_),
        num_unmatched=len(frames_ms),
        num_unused=0,
        num_reused=0,
    )


def _labels_on_frames(
    frames_ms: NDArray[np.int64], table: LabelTable | None
) -> NDArray[np.float64]:
    labels = np.full(len(frames_ms), np.nan)
    if table:
        labels[np.searchsorted(frames_ms, table.timestamps_ms)] = table.values

    return labels


def _unmatched_sets(
    session: Session,
    features: Mapping[str, FeatureTable | None],
    aligned: Mapping[str, AlignedFeatures],
    tolerance_ms: float,
) -> list[str]:
    first_ms, last_ms = session.timestamps_ms[0], session.timestamps_ms[-1]
    mistakes = []

    for feature_set, table in features.items():
        if table and aligned[feature_set].num_unmatched == session.num_frames:
            rows_ms = table.timestamps_ms
            mistakes.append(
                f"session {session.session_id!r}: no row of {feature_set!r} is within "
                f"{tolerance_ms:g} ms of a frame (rows {rows_ms[0]} to {rows_ms[-1]} ms, "
                f"frames {first_ms} to {last_ms} ms)"
            )
    return mistakes


def _read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.setflags(write=False)
    return array
