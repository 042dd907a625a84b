"""Reads the subject, partition and stimulus of every session from the metadata of a corpus.

The files are metadata/partition.csv and, where the corpus has them, metadata/participants.csv and
metadata/sessions.csv; each may be .tsv, too. What is in such a table is read by `records`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.corpus import PARTITIONS, Finding, Partition
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.records.matching import SessionTable, chosen_column, session_column
from pipeline.data.records.partitions import (
    OTHER_WORDS,
    move_parts,
    moved_findings,
    raise_if_torn,
    read_partitions,
    subject_of_part,
)
from pipeline.data.records.persons import (
    People,
    read_people,
    similar_person_findings,
    unknown_person_findings,
)
from pipeline.data.records.record_table import (
    Kind,
    first_cells,
    named_columns,
    names_any,
    read_record_table,
)
from pipeline.data.records.stimuli import read_stimuli
from pipeline.data.tables.csv_columns import read_content
from pipeline.errors import InputError

PARTITION_FILE = "metadata/partition.csv"
PARTICIPANTS_FILE = "metadata/participants.csv"
SESSIONS_FILE = "metadata/sessions.csv"

PARTICIPANT_STEMS = ("participants", "participant")
"""Names under which a list of participants is surely meant: elsewhere they are an error."""
PEOPLE_STEMS = ("subjects", "subject", "speakers", "speaker", "persons", "people")
"""Names under which it may be meant: where nothing says who is who, a warning tells of them."""
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods")


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
        reading: how the files were read, where that differs from what was always read: part of the
            digest.
    """

    entries: tuple[SessionEntry, ...]
    contents: Mapping[str, bytes]
    findings: tuple[Finding, ...]
    reading: Mapping[str, str] = field(default_factory=dict)


def read_metadata(root: Path) -> Metadata:
    """Read the partition file, and the files of participants and sessions where there are any.

    Columns are found by their names (see `records.record_table`). Every session must be in every
    file that something is read of, spelt exactly so, and no other.

    Who is in which session is in the column of participants: that of metadata/participants.csv or,
    where that file is not there, of the partition or the sessions file; where several say so, they
    must agree. Without any, each session counts as a subject of its own, which is a finding.

    A session's stimulus is in a column `stimulus` or `video` of metadata/sessions.csv or, where
    that has none, of metadata/participants.csv. No session has one, or all have that are trained
    or judged on (train, devel).

    The parts of a 2023 test subject (`16_train`, `16_devel`, `16_test`) are listed in three
    partitions. Here no subject is both trained on and evaluated: all parts of such a subject go to
    the most held-out partition that one of them is in, which is test, and keep their labels.

    Raises:
        InputError: a file is missing or wrong, a subject is in two partitions, or a stimulus is
            missing for some sessions.
    """
    files = _find_files(root)
    contents = {file: read_content(root / file, file) for file in files.values()}
    partition_table, listed = _read_partition_table(files[PARTITION_FILE], contents)
    others = {
        name: _read_session_table(name, file, contents[file], listed)
        for name, file in files.items()
        if name != PARTITION_FILE
    }

    participants_table, sessions_table = others.get(PARTICIPANTS_FILE), others.get(SESSIONS_FILE)
    by_person = [participants_table, partition_table, sessions_table]
    people = read_people([table for table in by_person if table])
    subjects = {
        session: people.participants.get(session) or subject_of_part(session, listed) or session
        for session in listed
    }
    partitions = move_parts(listed, subjects)
    people_file = people.source.table.where if people.source else PARTICIPANTS_FILE
    raise_if_torn(partitions, subjects, ", ".join({files[PARTITION_FILE]: 0, people_file: 0}))

    by_stimulus = [sessions_table, participants_table]
    stimuli = read_stimuli([table for table in by_stimulus if table], partitions)
    return Metadata(
        entries=tuple(
            SessionEntry(session, subjects[session], partitions[session], stimuli.get(session, ""))
            for session in sorted(listed)
        ),
        contents=contents,
        findings=(
            *_unknown_findings(root, people, listed),
            *similar_person_findings(people),
            *moved_findings(listed, partitions, files[PARTITION_FILE]),
            *_unread_findings(files, others),
        ),
        reading=_reading(partition_table, people),
    )


def _find_files(root: Path) -> dict[str, str]:
    """Return the usual name -> the name that it has here, of the files that are there."""
    files = {}
    for name in (PARTITION_FILE, PARTICIPANTS_FILE, SESSIONS_FILE):
        tab_separated = str(PurePosixPath(name).with_suffix(".tsv"))
        there = [each for each in (name, tab_separated) if (root / each).is_file()]
        if len(there) > 1:
            raise InputError(
                f"{root} has {there[0]} and {there[1]}, and only one can count. Remove the other."
            )
        if there:
            files[name] = there[0]

    if PARTITION_FILE not in files:
        raise InputError(
            f"{root} has no {PARTITION_FILE}. Write one: the header Id,Proposal, then one line per "
            "session with its id and train, devel or test."
        )
    if PARTICIPANTS_FILE not in files and (misplaced := _lookalikes(root, PARTICIPANT_STEMS)):
        raise InputError(
            f"{root} has {misplaced[0]!r}, which is not read, and no {PARTICIPANTS_FILE}. Save it "
            "under that name as CSV, with the columns session and participant."
        )
    return files


def _lookalikes(root: Path, stems: Sequence[str]) -> list[str]:
    """Return tables in the corpus's folder or its metadata that bear one of some names."""
    paths = [*(root / PARTITION_FILE).parent.iterdir(), *root.iterdir()]
    return sorted(
        path.relative_to(root).as_posix()
        for path in paths
        if path.stem.lower() in stems and path.suffix.lower() in TABLE_SUFFIXES and path.is_file()
    )


def _read_partition_table(
    file: str, contents: Mapping[str, bytes]
) -> tuple[SessionTable, dict[str, Partition]]:
    table = read_record_table(
        contents[file],
        file,
        ("session", "partition"),
        is_data=lambda cells: cells[-1].lower() in (*PARTITIONS, *OTHER_WORDS),
    )
    sessions, partitions = read_partitions(table)
    return SessionTable(table, sessions), partitions


def _read_session_table(
    name: str, file: str, content: bytes, partitions: Mapping[str, Partition]
) -> SessionTable | None:
    """Read a table of participants or of sessions; None where it has nothing that is known."""

    def is_data(cells: Sequence[str]) -> bool:
        return cells[0] in partitions

    required: Kind = "participant"
    if name == SESSIONS_FILE:
        first = first_cells(content, file)
        if not is_data(first or ("",)) and not names_any(first, ("participant", "stimulus")):
            return None
        required = "participant" if names_any(first, ("participant",)) else "stimulus"

    table = read_record_table(content, file, ("session", required), is_data)
    return SessionTable(table, session_column(table, partitions, PARTITION_FILE))


def _unknown_findings(
    root: Path, people: People, partitions: Mapping[str, Partition]
) -> list[Finding]:
    """Return the findings about a corpus that does not say who is who."""
    if people.source:
        return []

    sessions = sorted(name for name in partitions if not subject_of_part(name, partitions))
    findings = unknown_person_findings(sessions, PARTICIPANTS_FILE)
    for file in _lookalikes(root, PEOPLE_STEMS):
        message = f"It is not read. If it says who is in which session: {PARTICIPANTS_FILE}."
        findings.append(corpus_finding("warning", "file not read", file, 0, 0, message))
    return findings


def _unread_findings(
    files: Mapping[str, str], others: Mapping[str, SessionTable | None]
) -> list[Finding]:
    """Return the findings about files of sessions that have no column of interest."""
    message = (
        f"It names no stimulus (a column {named_columns('stimulus')}) and no participant "
        f"({named_columns('participant')}): it is not read."
    )
    return [
        corpus_finding("note", "file not read", files[name], 0, 0, message)
        for name, table in others.items()
        if table is None
    ]


def _reading(partition_table: SessionTable, people: People) -> dict[str, str]:
    """Return what was read in another way than it always was.

    That way was: partition.csv has the session first and the partition last; participants.csv has
    the columns `session` and `participant`, with commas.
    """
    reading = {}
    table, sessions = partition_table
    column = chosen_column(table, "partition")
    if (sessions.position, column.position) != (0, len(table.header) - 1):
        reading["partitions"] = f"{table.where}: {sessions.name}, {column.name}"

    if people.source and people.column:
        table, sessions = people.source
        names = (sessions.name.lower(), people.column.name.lower())
        usual = (PARTICIPANTS_FILE, ",", True, ("session", "participant"))
        if (table.where, table.delimiter, table.has_header, names) != usual:
            reading["participants"] = f"{table.where}: {', '.join(names)}"
    return reading
