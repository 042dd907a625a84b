"""Findings about data that was read: what was dropped, imputed, missing or odd. Changes nothing.

The level of a finding says what it does to the result:

- *error*: what is learned or scored would be wrong, whatever is done with it. Training and
  evaluation are refused.
- *warning*: the result may differ from what a person expects who knows the files but not this
  finding: it rests on a guess, leaves out much of what was written, or fills in much that was not.
  Training runs.
- *note*: normal for such data and treated as documented; the result is the one to be expected.

So what changes the result silently is an error or a warning, never a note. "Much" is a share of
the session, and stands with the finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from pipeline.corpus import Finding, Session
from pipeline.data.input_errors import quoted_list
from pipeline.data.tables.parse import FeatureTable
from pipeline.preprocessing.align import AlignedFeatures
from pipeline.preprocessing.stuck import MIN_LIMIT_MS

Level = Literal["note", "warning", "error"]

LABEL_SCALE = "label scale"
PLAUSIBLE_LABEL = 10.0
"""Annotations are on scales like -1..1 or 1..9: beyond this, the unit or column is likely wrong."""
PLAUSIBLE_PERIOD_MS = 10.0
"""Nobody annotates a hundred times a second. Timestamps so close are more likely in seconds."""
WORRYING_SHARE = 0.5
"""Above this share of a session's frames a note becomes a warning."""
WORRYING_IMPUTED_SHARE = 0.05
"""Above this share of a session's cells a note about imputed cells becomes a warning."""
WORRYING_GAP_SHARE = 0.02
"""Above this share of a session's steps a note about gaps becomes a warning."""
WORRYING_GAP_PERIODS = 10.0
"""A single gap of more periods than that is a warning, too."""
ANY_SHARE = 1.0
"""Where it is normal however often it happens."""


def feature_findings(
    session: Session, feature_set: str, table: FeatureTable | None, aligned: AlignedFeatures
) -> list[Finding]:
    """Return the findings about one feature set of a session.

    Args:
        session: the session.
        feature_set: the feature set's name.
        table: its rows; None where the session has no file.
        aligned: the rows on the session's frames.
    """

    def finding(
        kind: str, count: int, total: int, message: str, worrying_share: float = WORRYING_SHARE
    ) -> Finding:
        level: Level = "warning" if count > worrying_share * total else "note"
        return Finding(level, kind, feature_set, session.session_id, count, total, message)

    frames = session.num_frames
    if table is None:
        message = "The session has no file in this set: it is missing in all its frames."
        return [finding("no file", frames, frames, message)]

    rows, zero_rows, cells = table.num_rows, table.num_zero_rows, table.num_present_cells
    failed_rows = table.num_failed_rows
    empty_rows = int((~table.present).sum()) - zero_rows - failed_rows
    unmatched, unused, reused = aligned.num_unmatched, aligned.num_unused, aligned.num_reused

    zeros = "Rows of zeros: the set counts as missing there."
    empty = "Rows without a number: the set counts as missing there."
    failed = "Rows that a column marks as failed: the set counts as missing there."
    imputed = "NaN or infinite: interpolated in time."
    no_row = "No row within the tolerance: the set counts as missing there."
    dropped = "No frame is nearest to these rows: they are dropped."
    if unused > WORRYING_SHARE * rows and aligned.num_far > unused / 2:
        dropped = "Most of its rows are dropped, because no frame is near: check the timestamps."
    elif unused > WORRYING_SHARE * rows:
        dropped = (
            "Most of its rows are dropped, because a frame takes the nearest one alone: "
            "--resample mean averages them."
        )
    slower = "The set is slower than the frames: a row serves several."

    candidates = [
        finding("zero rows", zero_rows, rows, zeros),
        finding("empty rows", empty_rows, rows, empty),
        finding("failed rows", failed_rows, rows, failed),
        finding("cells imputed", table.num_imputed_cells, cells, imputed, WORRYING_IMPUTED_SHARE),
        finding("frames without a row", unmatched, frames, no_row),
        finding("rows not used", unused, rows, dropped),
        finding("rows used again", reused, frames, slower, ANY_SHARE),
    ]
    return [candidate for candidate in candidates if candidate.count]


def label_findings(session: Session, target: str) -> list[Finding]:
    """Return the findings about the labels of one target of a session."""
    labels = session.labels[target]
    known = labels[np.isfinite(labels)]
    num_labels, num_known = len(labels), len(known)

    def finding(level: Level, kind: str, count: int, message: str) -> Finding:
        return Finding(level, kind, target, session.session_id, count, num_labels, message)

    if num_known == 0 and session.partition == "test":
        message = "No label is known, as is usual in test."
        return [finding("note", "labels withheld", num_labels, message)]
    if num_known == 0:
        message = "No label is known: the session teaches and judges nothing."
        return [finding("warning", "no labels", num_labels, message)]

    findings = []
    if num_known < num_labels:
        is_usual = num_known > WORRYING_SHARE * num_labels or _is_sparse(session, target)
        level: Level = "note" if is_usual else "warning"
        message = "Frames without a label are left out of loss and CCC."
        findings.append(finding(level, "labels unknown", num_labels - num_known, message))

    if num_known > 1 and np.ptp(known) == 0:
        message = "CCC within this session is undefined."
        findings.append(finding("warning", "constant labels", num_known, message))

    implausible = known[np.abs(known) > PLAUSIBLE_LABEL]
    if len(implausible):
        message = (
            f"Labels such as {implausible[0]:g} are beyond +-{PLAUSIBLE_LABEL:g}: "
            "check the unit and the column."
        )
        findings.append(finding("warning", LABEL_SCALE, len(implausible), message))

    return findings


def _is_sparse(session: Session, target: str) -> bool:
    """Whether a target has fewer rows than frames only because another one has more of them."""
    rows = session.rows_of(target)
    is_known = np.isfinite(rows.values)
    labelled_ms = session.timestamps_ms[rows.frames[is_known]]
    length_ms = session.timestamps_ms[-1] - session.timestamps_ms[0]
    is_mostly_known = is_known.sum() > WORRYING_SHARE * len(rows.values)
    return bool(is_mostly_known and np.ptp(labelled_ms) > WORRYING_SHARE * length_ms)


def gap_findings(session: Session, period_ms: float) -> list[Finding]:
    """Return the finding about gaps between a session's frames, if it has any."""
    limit_ms = 1.5 * period_ms
    steps_ms = np.diff(session.timestamps_ms)
    num_gaps = int((steps_ms > limit_ms).sum())
    if not num_gaps:
        return []

    is_long = bool(steps_ms.max() > WORRYING_GAP_PERIODS * period_ms)
    is_often = num_gaps > WORRYING_GAP_SHARE * len(steps_ms)
    message = (
        f"Frames more than {limit_ms:g} ms apart: a network sees them as neighbours. Where a "
        "recording was cut, make the parts sessions of their own."
    )
    return [
        Finding(
            "warning" if is_long or is_often else "note",
            "gaps in time",
            "frames",
            session.session_id,
            num_gaps,
            len(steps_ms),
            message,
        )
    ]


def stuck_findings(
    as_read: Session, marked: Session, max_held_frames: Mapping[str, int], frame_period_ms: float
) -> list[Finding]:
    """Return the findings about sensors that are stuck in a session.

    Args:
        as_read: the session, with the rows of stuck sensors.
        marked: the same without them.
        max_held_frames: feature set -> the most frames in which it may stay the same.
        frame_period_ms: distance of two frames.
    """
    findings = []
    for feature_set, limit in max_held_frames.items():
        num_stuck = int((as_read.present[feature_set] & ~marked.present[feature_set]).sum())
        if num_stuck:
            message = (
                f"The same row for longer than {limit * frame_period_ms / 1000:g} s: the sensor "
                "is stuck, and the set counts as missing there."
            )
            total, name = as_read.num_frames, as_read.session_id
            findings.append(
                Finding("warning", "stuck rows", feature_set, name, num_stuck, total, message)
            )

    return findings


def limit_findings(
    feature_sets: Iterable[str], max_held_frames: Mapping[str, int], frame_period_ms: float
) -> list[Finding]:
    """Return the findings about sets that usually hold their values for long.

    Args:
        feature_sets: all that were read.
        max_held_frames: feature set -> the most frames that are not stuck; absent if it never is.
        frame_period_ms: distance of two frames.
    """
    findings = []
    for feature_set in feature_sets:
        limit = max_held_frames.get(feature_set)
        if limit is None:
            message = "It usually stays the same through half of a session: it is never stuck."
        elif limit * frame_period_ms > MIN_LIMIT_MS:
            seconds = limit * frame_period_ms / 1000
            message = (
                f"It usually stays the same for a while: it is stuck only after {seconds:g} s."
            )
        else:
            continue
        findings.append(corpus_finding("note", "rows held", feature_set, 0, 0, message))

    return findings


def corpus_findings(
    sessions: Sequence[Session], columns: Mapping[str, Sequence[str]], period_ms: float
) -> list[Finding]:
    """Return the findings about all sessions together.

    Args:
        sessions: all sessions of the corpus.
        columns: feature set -> names of its columns.
        period_ms: median distance of two label rows.
    """
    findings = []
    for feature_set, names in columns.items():
        constant = [names[column] for column in _constant_columns(sessions, feature_set)]
        if constant:
            message = f"They never change, so they teach nothing: {quoted_list(constant)}."
            findings.append(
                corpus_finding(
                    "note", "constant columns", feature_set, len(constant), len(names), message
                )
            )

    if period_ms < PLAUSIBLE_PERIOD_MS:
        message = (
            f"Frames are {period_ms:g} ms apart: are the timestamps in ms? Units are known from "
            "nanoseconds to seconds (--time-unit), but no minutes and no numbers of frames."
        )
        findings.append(corpus_finding("warning", "frame period", "frames", 0, 0, message))

    return findings


def corpus_finding(
    level: Level, kind: str, where: str, count: int, total: int, message: str
) -> Finding:
    """Return a finding that is not about a single session."""
    return Finding(level, kind, where, "", count, total, message)


def _constant_columns(sessions: Iterable[Session], feature_set: str) -> list[int]:
    """Return the positions of the columns that have one value in all present frames.

    Most columns vary within two rows, so that most of a wide set is not even read from the disk.
    """
    candidates = np.arange(0)
    reference = None

    for session in sessions:
        values = session.features[feature_set]
        rows = np.flatnonzero(session.present[feature_set])
        if len(rows) == 0:
            continue
        if reference is None:
            reference = values[rows[0]]
            candidates = np.arange(values.shape[1])

        for checked_rows in (rows[:2], rows):
            is_equal = values[np.ix_(checked_rows, candidates)] == reference[candidates]
            candidates = candidates[is_equal.all(axis=0)]

    return candidates.tolist()
