"""What a person should know about the data that was read: dropped, imputed, missing, odd. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from pipeline.corpus import Finding, Session
from pipeline.data.align import Joined
from pipeline.data.input_errors import listed
from pipeline.data.tables.parse import FeatureTable

# Annotations are on scales like -1..1 or 1..9: beyond this it is more likely another unit or another column.
PLAUSIBLE_LABEL = 10.0
# Nobody annotates a hundred times a second: timestamps so close are more likely in seconds.
PLAUSIBLE_PERIOD_MS = 10.0
# Above this share of a session's frames, or of its cells, a note becomes a warning.
WORRYING_SHARE = 0.5
WORRYING_IMPUTED_SHARE = 0.05


def about_features(
    session: Session, name: str, table: FeatureTable | None, joined: Joined | None
) -> list[Finding]:
    """About one feature set of one session; `table` and `joined` are None where it has no file."""

    def finding(
        kind: str, count: int, total: int, message: str, worrying_share: float = WORRYING_SHARE
    ) -> Finding:
        level: Literal["note", "warning"] = "warning" if count > worrying_share * total else "note"
        return Finding(level, kind, name, session.session_id, count, total, message)

    if table is None or joined is None:
        message = "The session has no file in this set: it is missing in all its frames."
        return [finding("no file", session.num_frames, session.num_frames, message)]
    num_empty_rows = int((~table.present).sum()) - table.num_zero_rows
    every = (
        finding(
            "zero rows",
            table.num_zero_rows,
            table.num_rows,
            "Rows of zeros: the set counts as missing there.",
        ),
        finding(
            "empty rows",
            num_empty_rows,
            table.num_rows,
            "Rows without a number: the set counts as missing there.",
        ),
        finding(
            "cells imputed",
            table.num_imputed_cells,
            table.num_present_cells,
            "NaN or infinite: interpolated in time.",
            WORRYING_IMPUTED_SHARE,
        ),
        finding(
            "frames without a row",
            joined.num_unmatched,
            session.num_frames,
            "No row within the tolerance: the set counts as missing there.",
        ),
        finding(
            "rows not used",
            joined.num_unused,
            table.num_rows,
            "No frame is nearest to these rows: they are dropped.",
            1.0,
        ),
        finding(
            "rows used again",
            joined.num_reused,
            session.num_frames,
            "The set is slower than the frames: a row serves several.",
            1.0,
        ),
    )
    return [one for one in every if one.count]


def about_labels(session: Session, target: str) -> list[Finding]:
    """About one target of one session."""
    labels = session.labels[target]
    known = labels[np.isfinite(labels)]

    def finding(level: Literal["note", "warning"], kind: str, count: int, message: str) -> Finding:
        return Finding(level, kind, target, session.session_id, count, len(labels), message)

    if len(known) == 0 and session.partition == "test":
        return [
            finding(
                "note", "labels withheld", len(labels), "No label is known, as is usual in test."
            )
        ]
    if len(known) == 0:
        return [
            finding(
                "warning",
                "no labels",
                len(labels),
                "No label is known: the session teaches and judges nothing.",
            )
        ]
    findings = []
    if len(known) < len(labels):
        message = "Frames without a label are left out of loss and CCC."
        level: Literal["note", "warning"] = (
            "note" if len(known) > WORRYING_SHARE * len(labels) else "warning"
        )
        findings.append(finding(level, "labels unknown", len(labels) - len(known), message))
    if len(known) > 1 and np.ptp(known) == 0:
        findings.append(
            finding(
                "warning", "constant labels", len(known), "CCC within this session is undefined."
            )
        )
    wild = known[np.abs(known) > PLAUSIBLE_LABEL]
    if len(wild):
        message = f"Labels such as {wild[0]:g} are beyond +-{PLAUSIBLE_LABEL:g}: check the unit and the column."
        findings.append(finding("warning", "label scale", len(wild), message))
    return findings


def about_time(session: Session, period_ms: float) -> list[Finding]:
    """About the distances of one session's frames."""
    steps_ms = np.diff(session.timestamps_ms)
    gaps = int((steps_ms > 1.5 * period_ms).sum())
    message = f"Frames more than {1.5 * period_ms:g} ms apart: a network sees them as neighbours."
    return (
        [
            Finding(
                "note", "gaps in time", "frames", session.session_id, gaps, len(steps_ms), message
            )
        ]
        if gaps
        else []
    )


def about_corpus(
    sessions: Sequence[Session], columns: Mapping[str, Sequence[str]], period_ms: float
) -> list[Finding]:
    """About all sessions together."""
    findings = []
    for name, names in columns.items():
        constant = [names[index] for index in _constant_columns(sessions, name)]
        if constant:
            message = f"They never change, so they teach nothing: {listed(constant)}."
            findings.append(
                Finding("note", "constant columns", name, "", len(constant), len(names), message)
            )
    if period_ms < PLAUSIBLE_PERIOD_MS:
        message = (
            f"Frames are {period_ms:g} ms apart: are the timestamps in seconds? They must be in ms."
        )
        findings.append(Finding("warning", "frame period", "frames", "", 0, 0, message))
    return findings


def _constant_columns(sessions: Sequence[Session], name: str) -> list[int]:
    """Columns with one value in all present frames.

    Most columns fall out after two rows, so that the rest of a wide set is not even read from the disk.
    """
    candidates, reference = np.arange(0), None
    for session in sessions:
        values, rows = session.features[name], np.flatnonzero(session.present[name])
        if len(rows) and reference is None:
            candidates, reference = np.arange(values.shape[1]), values[rows[0]]
        for some in (rows[:2], rows):
            if reference is not None:
                candidates = candidates[
                    (values[np.ix_(some, candidates)] == reference[candidates]).all(axis=0)
                ]
    return [int(index) for index in candidates]
