"""Who is in which session, and which partition a session is in, as imports add to it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.corpus import PARTITIONS
from pipeline.data.importing.formats.source_file import SourceFile
from pipeline.data.importing.text_tables.text import find_delimiter, normalised
from pipeline.data.input_errors import raise_if_any
from pipeline.errors import InputError

SHARES: Mapping[str, float] = {"train": 0.6, "devel": 0.2, "test": 0.2}
"""Partition -> the share of people that it gets where nobody says which."""
SESSION_NAMES = ("session", "sessionid", "id", "name", "recording")
PERSON_NAMES = ("participant", "participantid", "subject", "subjectid", "person", "speaker")
PARTITION_NAMES = ("partition", "proposal", "split", "set", "fold")


def read_people(path: Path) -> dict[str, str]:
    """Read session -> person from a file with the columns session and participant.

    Raises:
        InputError: it has no such columns, or names two people for a session.
    """
    return _read_pairs(path, PERSON_NAMES, "participant")


def read_partitions(path: Path) -> dict[str, str]:
    """Read session -> partition from a file with the columns session and partition.

    Raises:
        InputError: it has no such columns, or names no partition.
    """
    partitions = {
        name: value.lower()
        for name, value in _read_pairs(path, PARTITION_NAMES, "partition").items()
    }
    raise_if_any(
        [
            f"{path.name} puts session {session!r} into {value!r}"
            for session, value in partitions.items()
            if value not in PARTITIONS
        ],
        f"The partitions are {', '.join(PARTITIONS)}.",
    )
    return partitions


def parse_pairs(content: bytes) -> dict[str, str]:
    """Return the first and the last column of a file of a corpus, below its header."""
    rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if row]
    has_header = bool(rows) and rows[0][-1].strip().lower() not in PARTITIONS
    return {row[0].strip(): row[-1].strip() for row in (rows[1:] if has_header else rows)}


def _read_pairs(path: Path, names: Sequence[str], title: str) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")

    lines = [
        line for line in SourceFile(path, path.name).read_text().text.split("\n") if line.strip()
    ]
    delimiter = find_delimiter(lines)
    rows = (
        [line.split() for line in lines]
        if delimiter in ("", " ")
        else list(csv.reader(lines, delimiter=delimiter))
    )
    header = [normalised(cell) for cell in rows[0]] if rows else []
    session = next((header.index(name) for name in SESSION_NAMES if name in header), None)
    value = next((header.index(name) for name in names if name in header), None)
    if session is None or value is None:
        raise InputError(
            f"{path.name}: its first line {lines[0][:60] if lines else ''!r} does not name the "
            f"columns 'session' and {title!r}. Add the line session,{title}."
        )

    pairs: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if len(cells) != len(header) or not cells[session] or not cells[value]:
            raise InputError(
                f"{path.name}, row {number}: {delimiter.join(row)!r} is no session with its "
                f"{title}. Complete the row."
            )
        if pairs.setdefault(cells[session], cells[value]) != cells[value]:
            raise InputError(
                f"{path.name}: session {cells[session]!r} has two entries. Keep one of them."
            )
    return pairs


def assign_partitions(
    sessions: Sequence[str], people: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """Give every session of a new person the partition that is farthest below its share.

    So the first five people are in train, devel, train, test and train; nobody is in two.

    Args:
        sessions: those without a partition.
        people: session -> person; a session that it lacks is a person of its own.
        known: session -> partition, of the others.

    Raises:
        InputError: a person has sessions in two partitions already.
    """
    partition_of: dict[str, str] = {}
    for session, partition in known.items():
        person = people.get(session, session)
        if partition_of.setdefault(person, partition) != partition:
            raise InputError(
                f"Participant {person!r} has sessions in {partition_of[person]} and {partition}. "
                "Put them into one partition: --partition FILE --overwrite."
            )

    assigned = {}
    for session in sorted(sessions):
        person = people.get(session, session)
        if person not in partition_of:
            counts = Counter(partition_of.values())
            total = len(partition_of) + 1
            partition_of[person] = max(
                PARTITIONS, key=lambda name: SHARES[name] * total - counts[name]
            )
        assigned[session] = partition_of[person]
    return assigned
