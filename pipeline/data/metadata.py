"""Which session is whose, and train, devel or test: metadata/partition.csv and metadata/participants.csv."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import PARTITIONS, Finding, Partition
from pipeline.data.input_errors import listed, refuse
from pipeline.data.tables.csv_columns import decode, read_content
from pipeline.errors import InputError

PARTITION_FILE, PARTICIPANTS_FILE = "metadata/partition.csv", "metadata/participants.csv"
# MuSe 2023 cuts each test subject into parts, `<subject>_train` always among them, to adapt a model to that person.
PART = re.compile(r"(?P<subject>.+?)_(train|devel|test)(_.+)?")


@dataclass(frozen=True)
class Entry:
    """One line of the partition file."""

    session_id: str
    subject: str
    partition: Partition


@dataclass(frozen=True)
class Metadata:
    """The sessions of a corpus.

    Attributes:
        entries: sorted by session; no subject is in two partitions.
        contents: file -> bytes, of what was read.
        findings: what is odd about them.
    """

    entries: tuple[Entry, ...]
    contents: Mapping[str, bytes]
    findings: tuple[Finding, ...]


def read_metadata(root: Path) -> Metadata:
    """Reads the partition file, and the participants where they are listed; else each session is a subject of its own.

    The parts of a 2023 test subject (`16_train`, `16_devel`, `16_test`) are listed in three partitions. Here nobody is
    both learned from and judged: all parts of such a subject go where its most held-out part is, to test, and keep
    their labels.

    Raises:
        InputError: a file is missing or wrong, or a subject is in two partitions.
    """
    if not (root / PARTITION_FILE).is_file():
        raise InputError(
            f"{root} has no {PARTITION_FILE}. Write one: the header Id,Proposal, then one line per session with its id "
            "and train, devel or test."
        )
    contents = {PARTITION_FILE: read_content(root / PARTITION_FILE, PARTITION_FILE)}
    if (root / PARTICIPANTS_FILE).is_file():
        contents[PARTICIPANTS_FILE] = read_content(root / PARTICIPANTS_FILE, PARTICIPANTS_FILE)
    partitions = _partitions(contents[PARTITION_FILE])
    findings = []
    participants = (
        _participants(contents[PARTICIPANTS_FILE]) if PARTICIPANTS_FILE in contents else {}
    )
    strangers = sorted(set(partitions) - set(participants)) if participants else []
    if strangers:
        message = f"Not listed, so each counts as a subject of its own: {listed(strangers)}."
        findings.append(
            Finding(
                "warning",
                "unknown participant",
                PARTICIPANTS_FILE,
                "",
                len(strangers),
                len(partitions),
                message,
            )
        )
    subjects = {
        session: participants.get(session) or _part_of(session, partitions) or session
        for session in partitions
    }
    moved = _unite_parts(partitions, subjects)
    leaking = sorted(session for session in partitions if moved[session] != partitions[session])
    if leaking:
        message = f"Parts of subjects who are also judged were moved, so that nobody is both: {listed(leaking)}."
        findings.append(
            Finding(
                "warning",
                "personalisation parts",
                PARTITION_FILE,
                "",
                len(leaking),
                len(partitions),
                message,
            )
        )
    _check_subjects(moved, subjects)
    entries = tuple(
        Entry(session, subjects[session], moved[session]) for session in sorted(partitions)
    )
    return Metadata(entries, contents, tuple(findings))


def _rows(content: bytes, where: str) -> list[list[str]]:
    """Rows with something in them, cells stripped."""
    rows = csv.reader(io.StringIO(decode(content, where), newline=""))
    return [cells for row in rows if any(cells := [cell.strip() for cell in row])]


def _partitions(content: bytes) -> dict[str, Partition]:
    """Session -> partition: the first and the last column, whatever the header, or none."""
    names: dict[str, Partition] = {name: name for name in PARTITIONS}
    rows = _rows(content, PARTITION_FILE)
    body = rows if rows and rows[0][-1].lower() in names else rows[1:]
    if not body:
        raise InputError(
            f"{PARTITION_FILE} lists no session. Write one line per session: its id, then its partition."
        )
    refuse(
        [
            f"{PARTITION_FILE} puts session {row[0]!r} into {row[-1]!r}"
            for row in body
            if row[-1].lower() not in names
        ],
        f"The partitions are {', '.join(PARTITIONS)}: correct the file.",
    )
    counts = Counter(row[0] for row in body)
    refuse(
        [
            f"{PARTITION_FILE} lists session {session!r} {count} times"
            for session, count in counts.items()
            if count > 1
        ],
        "Keep one of the lines.",
    )
    return {row[0]: names[row[-1].lower()] for row in body}


def _participants(content: bytes) -> dict[str, str]:
    """Session -> participant: by the names of the columns, else the first two."""
    rows = _rows(content, PARTICIPANTS_FILE)
    header = [cell.lower() for cell in rows[0]] if rows else []
    named = "session" in header and "participant" in header
    session, participant = (
        (header.index("session"), header.index("participant")) if named else (0, 1)
    )
    subjects: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) <= max(session, participant) or not row[participant]:
            raise InputError(
                f"{PARTICIPANTS_FILE}: the line {','.join(row)!r} names no participant. Complete it."
            )
        if subjects.setdefault(row[session], row[participant]) != row[participant]:
            raise InputError(
                f"{PARTICIPANTS_FILE}: session {row[session]!r} has two participants. Keep one line."
            )
    return subjects


def _part_of(session: str, partitions: Mapping[str, Partition]) -> str | None:
    """The subject that this session is a part of; None where it is a whole."""
    part = PART.fullmatch(session)
    return part["subject"] if part and f"{part['subject']}_train" in partitions else None


def _unite_parts(
    partitions: Mapping[str, Partition], subjects: Mapping[str, str]
) -> dict[str, Partition]:
    parts = [session for session in partitions if _part_of(session, partitions)]
    united = dict(partitions)
    for session in parts:
        siblings = [partitions[other] for other in parts if subjects[other] == subjects[session]]
        united[session] = max(siblings, key=PARTITIONS.index)
    return united


def _check_subjects(partitions: Mapping[str, Partition], subjects: Mapping[str, str]) -> None:
    homes: dict[str, set[Partition]] = {}
    for session, subject in subjects.items():
        homes.setdefault(subject, set()).add(partitions[session])
    refuse(
        [
            f"subject {name!r} is in {' and '.join(sorted(home))}"
            for name, home in sorted(homes.items())
            if len(home) > 1
        ],
        f"Put all sessions of a subject into one partition ({PARTITION_FILE}, {PARTICIPANTS_FILE}).",
    )
