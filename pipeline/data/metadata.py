"""Reads the subject, partition and stimulus of every session from the metadata of a corpus.

The files are metadata/partition.csv and, where the corpus has them, metadata/participants.csv and
metadata/sessions.csv.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import PARTITIONS, Finding, Partition
from pipeline.data.findings import corpus_finding
from pipeline.data.input_errors import quoted_list, raise_if_any
from pipeline.data.tables.csv_columns import decode, read_content
from pipeline.errors import InputError

PARTITION_FILE = "metadata/partition.csv"
PARTICIPANTS_FILE = "metadata/participants.csv"
SESSIONS_FILE = "metadata/sessions.csv"
SESSION_COLUMN = "session"
STIMULUS_COLUMNS = {SESSIONS_FILE: ("stimulus",), PARTICIPANTS_FILE: ("stimulus", "video")}
"""File -> columns that may name a stimulus; the first file and column that there is counts."""

# MuSe 2023 cuts each test subject into parts, to adapt a model to that person. One of them is
# always `<subject>_train`.
PART = re.compile(r"(?P<subject>.+?)_(train|devel|test)(_.+)?")


@dataclass(frozen=True)
class SessionEntry:
    """What the metadata tells about one session."""

    session_id: str
    subject: str
    partition: Partition
    stimulus: str = ""


@dataclass(frozen=True)
class Metadata:
    """The sessions of a corpus.

    Attributes:
        entries: sorted by session; no subject is in two partitions.
        contents: file -> bytes, of the files that were read.
        findings: what is odd about them.
    """

    entries: tuple[SessionEntry, ...]
    contents: Mapping[str, bytes]
    findings: tuple[Finding, ...]


def read_metadata(root: Path) -> Metadata:
    """Read the partition file, and the files of participants and sessions where there are any.

    A session without a participant counts as a subject of its own.

    A session's stimulus is in the column `stimulus` of metadata/sessions.csv or, where that is not
    there, in the column `stimulus` or `video` of metadata/participants.csv; beside a column
    `session`. No session has one, or all have that are trained or judged on (train, devel).

    The parts of a 2023 test subject (`16_train`, `16_devel`, `16_test`) are listed in three
    partitions. Here no subject is both trained on and evaluated: all parts of such a subject go to
    the most held-out partition that one of them is in, which is test, and keep their labels.

    Raises:
        InputError: a file is missing or wrong, a subject is in two partitions, or a stimulus is
            missing for some sessions.
    """
    contents = _read_contents(root)
    listed = _parse_partitions(contents[PARTITION_FILE])
    participants = {}
    if PARTICIPANTS_FILE in contents:
        participants = _parse_participants(contents[PARTICIPANTS_FILE])

    subjects = {
        session: participants.get(session) or _subject_of_part(session, listed) or session
        for session in listed
    }
    partitions = _move_parts(listed, subjects)
    _check_subjects(partitions, subjects)
    stimuli = _read_stimuli(contents, partitions)

    return Metadata(
        entries=tuple(
            SessionEntry(session, subjects[session], partitions[session], stimuli.get(session, ""))
            for session in sorted(listed)
        ),
        contents=contents,
        findings=(
            *_participant_findings(listed, participants),
            *_moved_findings(listed, partitions),
        ),
    )


def _read_contents(root: Path) -> dict[str, bytes]:
    if not (root / PARTITION_FILE).is_file():
        raise InputError(
            f"{root} has no {PARTITION_FILE}. Write one: the header Id,Proposal, then one line per "
            "session with its id and train, devel or test."
        )
    contents = {PARTITION_FILE: read_content(root / PARTITION_FILE, PARTITION_FILE)}

    for name in (PARTICIPANTS_FILE, SESSIONS_FILE):
        if (root / name).is_file():
            contents[name] = read_content(root / name, name)
    return contents


def _parse_partitions(content: bytes) -> dict[str, Partition]:
    """Return session -> partition: the first and the last column, whatever the header, or none."""
    partitions: dict[str, Partition] = {name: name for name in PARTITIONS}
    rows = _parse_rows(content, PARTITION_FILE)
    has_header = not rows or rows[0][-1].lower() not in partitions
    body = rows[1:] if has_header else rows
    if not body:
        raise InputError(
            f"{PARTITION_FILE} lists no session. Write one line per session: its id, then its "
            "partition."
        )

    raise_if_any(
        [
            f"{PARTITION_FILE} puts session {row[0]!r} into {row[-1]!r}"
            for row in body
            if row[-1].lower() not in partitions
        ],
        f"The partitions are {', '.join(PARTITIONS)}: correct the file.",
    )

    counts = Counter(row[0] for row in body)
    raise_if_any(
        [
            f"{PARTITION_FILE} lists session {session!r} {count} times"
            for session, count in counts.items()
            if count > 1
        ],
        "Keep one of the lines.",
    )
    return {row[0]: partitions[row[-1].lower()] for row in body}


def _parse_participants(content: bytes) -> dict[str, str]:
    """Return session -> participant: by the names of the columns, else the first two columns."""
    rows = _parse_rows(content, PARTICIPANTS_FILE)
    header = [cell.lower() for cell in rows[0]] if rows else []
    session_column, participant_column = 0, 1
    if "session" in header and "participant" in header:
        session_column, participant_column = header.index("session"), header.index("participant")

    participants: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) <= max(session_column, participant_column) or not row[participant_column]:
            line = ",".join(row)
            raise InputError(
                f"{PARTICIPANTS_FILE}: the line {line!r} names no participant. Complete it."
            )

        session, participant = row[session_column], row[participant_column]
        if participants.setdefault(session, participant) != participant:
            raise InputError(
                f"{PARTICIPANTS_FILE}: session {session!r} has two participants. Keep one line."
            )
    return participants


def _read_stimuli(
    contents: Mapping[str, bytes], partitions: Mapping[str, Partition]
) -> dict[str, str]:
    """Return session -> stimulus; {} where no file has a column of stimuli."""
    for where, names in STIMULUS_COLUMNS.items():
        rows = _parse_rows(contents[where], where) if where in contents else []
        header = [cell.lower() for cell in rows[0]] if rows else []
        column = next((name for name in names if name in header), None)
        if column is not None:
            stimuli = _parse_stimuli(rows, header, column, where)
            _check_stimuli(stimuli, column, where, partitions)
            return stimuli

    return {}


def _parse_stimuli(
    rows: Sequence[Sequence[str]], header: Sequence[str], column: str, where: str
) -> dict[str, str]:
    if SESSION_COLUMN not in header:
        raise InputError(
            f"{where} has a column {column!r}, but none that is named {SESSION_COLUMN!r}. Name the "
            "column with the sessions so."
        )
    session_place, stimulus_place = header.index(SESSION_COLUMN), header.index(column)

    stimuli: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) <= max(session_place, stimulus_place) or not row[stimulus_place]:
            continue
        session, stimulus = row[session_place], row[stimulus_place]
        if stimuli.setdefault(session, stimulus) != stimulus:
            raise InputError(
                f"{where}: session {session!r} has two stimuli, {stimuli[session]!r} and "
                f"{stimulus!r}. Keep one line."
            )
    return stimuli


def _check_stimuli(
    stimuli: Mapping[str, str], column: str, where: str, partitions: Mapping[str, Partition]
) -> None:
    """Raise where some sessions of train and devel have a stimulus, and others none."""
    judged = [session for session, partition in partitions.items() if partition != "test"]
    unknown = [session for session in judged if session not in stimuli]

    if stimuli and len(unknown) < len(judged):
        raise_if_any(
            [f"{where} names no stimulus of session {session!r}" for session in unknown],
            f"Complete the column {column!r}, or remove it.",
        )


def _parse_rows(content: bytes, where: str) -> list[list[str]]:
    """Return the rows that are not empty, their cells stripped."""
    rows = []
    for cells in csv.reader(io.StringIO(decode(content, where), newline="")):
        row = [cell.strip() for cell in cells]
        if any(row):
            rows.append(row)

    return rows


def _subject_of_part(session: str, partitions: Mapping[str, Partition]) -> str | None:
    """Return the subject that this session is a part of; None where it is not a part."""
    match = PART.fullmatch(session)
    if match and f"{match['subject']}_train" in partitions:
        return match["subject"]

    return None


def _move_parts(
    partitions: Mapping[str, Partition], subjects: Mapping[str, str]
) -> dict[str, Partition]:
    """Return the partitions with all parts of a subject in the most held-out one of them."""
    parts = [session for session in partitions if _subject_of_part(session, partitions)]
    most_held_out: dict[str, Partition] = {}
    for session in parts:
        subject, partition = subjects[session], partitions[session]
        most_held_out[subject] = max(
            most_held_out.get(subject, partition), partition, key=PARTITIONS.index
        )

    moved = {session: most_held_out[subjects[session]] for session in parts}
    return {**partitions, **moved}


def _check_subjects(partitions: Mapping[str, Partition], subjects: Mapping[str, str]) -> None:
    partitions_by_subject: dict[str, set[Partition]] = {}
    for session, subject in subjects.items():
        partitions_by_subject.setdefault(subject, set()).add(partitions[session])

    raise_if_any(
        [
            f"subject {subject!r} is in {' and '.join(sorted(names))}"
            for subject, names in sorted(partitions_by_subject.items())
            if len(names) > 1
        ],
        "Put all sessions of a subject into one partition "
        f"({PARTITION_FILE}, {PARTICIPANTS_FILE}).",
    )


def _participant_findings(
    partitions: Mapping[str, Partition], participants: Mapping[str, str]
) -> list[Finding]:
    unlisted = sorted(set(partitions) - set(participants))
    if not participants or not unlisted:
        return []

    message = f"Not listed, so each counts as a subject of its own: {quoted_list(unlisted)}."
    return [
        corpus_finding(
            "warning",
            "unknown participant",
            PARTICIPANTS_FILE,
            len(unlisted),
            len(partitions),
            message,
        )
    ]


def _moved_findings(
    listed: Mapping[str, Partition], partitions: Mapping[str, Partition]
) -> list[Finding]:
    moved = sorted(session for session in listed if partitions[session] != listed[session])
    if not moved:
        return []

    message = (
        "Parts of subjects who are also judged were moved, so that nobody is both: "
        f"{quoted_list(moved)}."
    )
    return [
        corpus_finding(
            "warning", "personalisation parts", PARTITION_FILE, len(moved), len(listed), message
        )
    ]
