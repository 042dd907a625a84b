"""Builds a session on common frames from the tables of its files. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Finding, Resampling, Session
from pipeline.data.checks.findings import feature_findings, gap_findings, label_findings
from pipeline.data.metadata import SessionEntry
from pipeline.data.tables.parse import FeatureTable
from pipeline.data.timeline.frames import Frames, Timing, labels_on_frames
from pipeline.preprocessing.align import AlignedFeatures, align

Scalar = TypeVar("Scalar", bound=np.generic)


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
    frames: Frames,
    features: Mapping[str, FeatureTable | None],
    targets: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    resampling: Mapping[str, Resampling],
    timing: Timing,
) -> BuiltSession:
    """Build a session on its frames.

    Args:
        entry: the session's id, subject, partition and stimulus.
        frames: its frames, with the label rows that it has.
        features: feature set -> table, None where the session has no file; at least one has.
        targets: all that the corpus has.
        columns: feature set -> names of its columns on frames.
        resampling: feature set -> what a frame is of its rows.
        timing: the distance of frames, and of rows from their frame.
    """
    frames_ms = frames.timestamps_ms
    frames_ms.setflags(write=False)
    aligned = {
        feature_set: _align_table(
            frames, table, len(columns[feature_set]), timing.tolerance_ms, resampling[feature_set]
        )
        for feature_set, table in features.items()
    }
    session = Session(
        session_id=entry.session_id,
        subject=entry.subject,
        partition=entry.partition,
        timestamps_ms=frames_ms,
        segment_ids=_read_only(frames.segment_ids),
        features={name: _read_only(on_frames.values) for name, on_frames in aligned.items()},
        present={name: _read_only(on_frames.present) for name, on_frames in aligned.items()},
        labels={
            target: _read_only(labels_on_frames(frames.label_rows.get(target), len(frames_ms)))
            for target in targets
        },
        stimulus=entry.stimulus,
        timestamps=_read_only(frames.timestamps),
        label_rows=frames.label_rows,
    )

    findings: list[Finding] = []
    for feature_set, table in features.items():
        findings += feature_findings(session, feature_set, table, aligned[feature_set])
    for target in targets:
        findings += label_findings(session, target)
    findings += gap_findings(session, timing.period_ms)

    mistakes = _unmatched_sets(session, features, aligned, timing.tolerance_ms)
    return BuiltSession(session, tuple(findings), tuple(mistakes))


def _align_table(
    frames: Frames,
    table: FeatureTable | None,
    width: int,
    tolerance_ms: float,
    resampling: Resampling,
) -> AlignedFeatures:
    """Align a table; without one the feature set is missing in every frame."""
    if table:
        frames_ms, rows_ms = frames.timestamps_ms, table.timestamps_ms
        return align(frames_ms, rows_ms, table.values, table.present, tolerance_ms, resampling)

    num_frames = len(frames.timestamps_ms)
    return AlignedFeatures(
        values=np.zeros((num_frames, width), np.float32),
        present=np.zeros(num_frames, np.bool_),
        num_unmatched=num_frames,
        num_unused=0,
        num_reused=0,
        num_far=0,
    )


def _unmatched_sets(
    session: Session,
    features: Mapping[str, FeatureTable | None],
    aligned: Mapping[str, AlignedFeatures],
    tolerance_ms: float,
) -> list[str]:
    assert session.timestamps is not None
    first, last = session.timestamps[0], session.timestamps[-1]
    mistakes = []

    for feature_set, table in features.items():
        if table and aligned[feature_set].num_unmatched == session.num_frames:
            rows = table.timestamp_texts(np.array([0, -1]))
            unit = "" if table.is_date_time else f" {table.unit}"
            mistakes.append(
                f"session {session.session_id!r}: no row of {feature_set!r} is within "
                f"{tolerance_ms:g} ms of a frame (rows {rows[0]} to {rows[1]}{unit}, "
                f"frames {first} to {last} as in their own files)"
            )
    return mistakes


def _read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.setflags(write=False)
    return array
