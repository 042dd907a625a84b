"""The partition of every session: names as they are written, and no subject in two of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from pipeline.corpus import PARTITIONS, Finding, Partition
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.input_errors import quoted_list, raise_if_any, shortened
from pipeline.data.records.matching import chosen_column, values_by_session
from pipeline.data.records.record_table import Column, RecordTable

# MuSe 2023 cuts each test subject into parts, to adapt a model to that person. One of them is
# always `<subject>_train`.
PART = re.compile(r"(?P<subject>.+?)_(train|devel|test)(_.+)?")
OTHER_WORDS: Mapping[str, Partition] = {
    "training": "train", "trn": "train", "learn": "train", "fit": "train",
    "dev": "devel", "development": "devel", "val": "devel", "valid": "devel",
    "validation": "devel", "tune": "devel",
    "testing": "test", "tst": "test", "eval": "test", "evaluation": "test", "holdout": "test",
    "heldout": "test",
}  # fmt: skip
"""What others call the partitions: only to name the nearest, never to read it as that."""


def read_partitions(table: RecordTable) -> tuple[Column, dict[str, Partition]]:
    """Return the column of sessions, and session -> partition.

    Args:
        table: with columns of sessions and of partitions.

    Raises:
        InputError: a partition has another name, a session none or two, or it is unclear which
            column is meant.
    """
    sessions, column = chosen_column(table, "session"), chosen_column(table, "partition")
    by_name: dict[str, Partition] = {name: name for name in PARTITIONS}
    cells = list(zip(table.lines, sessions.cells, column.cells, strict=True))

    raise_if_any(
        [
            f"{table.where}, line {line}, names no session"
            for line, session, _ in cells
            if not session
        ],
        "Complete the line, or remove it.",
    )
    raise_if_any(
        [
            f"{table.where}, line {line}, puts session {shortened(session)!r} into "
            f"{shortened(name)!r}{_meant(name)}"
            for line, session, name in cells
            if name.lower() not in by_name
        ],
        f"The partitions are {', '.join(PARTITIONS)}: correct the file.",
    )
    lower = Column(column.name, column.position, tuple(cell.lower() for cell in column.cells))
    names = values_by_session(table, sessions, lower, "partition")
    return sessions, {session: by_name[name] for session, name in names.items()}


def subject_of_part(session: str, partitions: Mapping[str, Partition]) -> str | None:
    """Return the subject that this session is a part of; None where it is not a part."""
    match = PART.fullmatch(session)
    if match and f"{match['subject']}_train" in partitions:
        return match["subject"]

    return None


def move_parts(
    partitions: Mapping[str, Partition], subjects: Mapping[str, str]
) -> dict[str, Partition]:
    """Return the partitions with all parts of a subject in the most held-out one of them."""
    parts = [session for session in partitions if subject_of_part(session, partitions)]
    most_held_out: dict[str, Partition] = {}
    for session in parts:
        subject, partition = subjects[session], partitions[session]
        most_held_out[subject] = max(
            most_held_out.get(subject, partition), partition, key=PARTITIONS.index
        )

    moved = {session: most_held_out[subjects[session]] for session in parts}
    return {**partitions, **moved}


def raise_if_torn(
    partitions: Mapping[str, Partition], subjects: Mapping[str, str], files: str
) -> None:
    """Raise where a subject is in two partitions.

    Args:
        partitions: session -> partition.
        subjects: session -> subject.
        files: which say so, for the message.

    Raises:
        InputError: with the subjects.
    """
    partitions_by_subject: dict[str, set[Partition]] = {}
    for session, subject in subjects.items():
        partitions_by_subject.setdefault(subject, set()).add(partitions[session])

    raise_if_any(
        [
            f"subject {shortened(subject)!r} is in {' and '.join(sorted(names))}"
            for subject, names in sorted(partitions_by_subject.items())
            if len(names) > 1
        ],
        f"Put all sessions of a subject into one partition ({files}).",
    )


def moved_findings(
    listed: Mapping[str, Partition], partitions: Mapping[str, Partition], where: str
) -> list[Finding]:
    """Return the finding about parts of subjects that are in another partition than listed."""
    moved = sorted(session for session in listed if partitions[session] != listed[session])
    if not moved:
        return []

    message = (
        "Parts of subjects who are also judged were moved, so that nobody is both: "
        f"{quoted_list(moved)}."
    )
    return [
        corpus_finding("warning", "personalisation parts", where, len(moved), len(listed), message)
    ]


def _meant(name: str) -> str:
    """Return `, did you mean 'devel'?` in brackets, or nothing."""
    word = re.sub(r"[\W\d_]", "", name.lower())
    close = difflib.get_close_matches(word, [str(name) for name in PARTITIONS], 1)
    meant = OTHER_WORDS[word] if word in OTHER_WORDS else "".join(close)
    return f" (did you mean {meant!r}?)" if meant else ""
