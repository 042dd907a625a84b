"""Who is in which session, and which partition a session is in, as imports add to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.corpus import PARTITIONS
from pipeline.data.importing.formats.source_file import SourceFile
from pipeline.data.records.matching import SessionTable, chosen_column
from pipeline.data.records.partitions import OTHER_WORDS, read_partitions
from pipeline.data.records.persons import read_people
from pipeline.data.records.record_table import RecordTable, read_record_table
from pipeline.errors import InputError

SHARES: Mapping[str, float] = {"train": 0.6, "devel": 0.2, "test": 0.2}
"""Partition -> the share of people that it gets where nobody says which."""


def read_people_file(path: Path) -> dict[str, str]:
    """Read session -> person from a table with columns of sessions and participants.

    Raises:
        InputError: it has no such columns, or names no person or two for a session.
    """
    return people_of(parse_people(_read_text(path), path.name))


def read_partition_file(path: Path) -> dict[str, str]:
    """Read session -> partition from a table with columns of sessions and partitions.

    Raises:
        InputError: it has no such columns, or names no partition.
    """
    return partitions_of(parse_partitions(_read_text(path), path.name))


def parse_people(content: bytes, where: str) -> RecordTable:
    """Parse a table of participants, whose first line names its columns.

    Raises:
        InputError: it is no such table.
    """
    return read_record_table(content, where, ("session", "participant"), is_data=lambda _: False)


def parse_partitions(content: bytes, where: str) -> RecordTable:
    """Parse a table of partitions; its first line names its columns, unless it has a partition.

    Raises:
        InputError: it is no such table.
    """
    return read_record_table(
        content,
        where,
        ("session", "partition"),
        is_data=lambda cells: cells[-1].lower() in (*PARTITIONS, *OTHER_WORDS),
    )


def people_of(table: RecordTable) -> dict[str, str]:
    """Return session -> person.

    Raises:
        InputError: a session has no participant, or two.
    """
    sessions = chosen_column(table, "session")
    return dict(read_people([SessionTable(table, sessions)]).participants)


def partitions_of(table: RecordTable) -> dict[str, str]:
    """Return session -> partition.

    Raises:
        InputError: a session has none or two, or it has another name.
    """
    return dict(read_partitions(table)[1])


def _read_text(path: Path) -> bytes:
    """Return the text of a file in UTF-8, whatever it is written in."""
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    return SourceFile(path, path.name).read_text().text.encode()


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
