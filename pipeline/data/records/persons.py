"""Who is in which session, and what a person should know about that. Knows no files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.corpus import Finding
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.input_errors import quoted_list, raise_if_any, shortened
from pipeline.data.records.matching import SessionTable, chosen_column, form, values_by_session
from pipeline.data.records.record_table import Column, is_missing
from pipeline.errors import InputError

PERSONS_UNKNOWN = "persons unknown"
"""The kind of the finding that nothing says who is in which session."""
NEXT_PART = re.compile(r"[\s_.-]+|(?<=\d)(?=[A-Za-z])")
"""Where an id may go on after the person's: P01_V1, P01V1, 01a."""


@dataclass(frozen=True)
class People:
    """Who is in which session.

    Attributes:
        participants: session -> participant, of every session; {} where no table says so.
        source: the table that says so, and its column of sessions; None if there is none.
        column: its column of participants; None likewise.
    """

    participants: Mapping[str, str]
    source: SessionTable | None = None
    column: Column | None = None


def read_people(tables: Sequence[SessionTable]) -> People:
    """Read the participants from the first table that has a column of them.

    Raises:
        InputError: a session has no participant, or two; two columns of participants differ; or
            another table groups the sessions in another way.
    """
    sources = [source for source in tables if source.table.columns("participant")]
    people = [_read_participants(source) for source in sources]
    for other in people[1:]:
        _raise_if_in_conflict(people[0], other)

    return people[0] if people else People({})


def _read_participants(source: SessionTable) -> People:
    table, sessions = source
    column = chosen_column(table, "participant")
    cells = zip(table.lines, sessions.cells, column.cells, strict=True)

    raise_if_any(
        [
            f"{table.where}, line {line}: the column {column.name!r} has {cell!r} for session "
            f"{shortened(session)!r}, and names no participant"
            for line, session, cell in cells
            if is_missing(cell)
        ],
        "Complete it; somebody unknown needs a name of their own.",
    )
    return People(values_by_session(table, sessions, column, "participant"), source, column)


def _raise_if_in_conflict(people: People, other: People) -> None:
    """Raise where two tables do not tell the same sessions apart, whatever they call the people."""
    pairs = {
        (person, other.participants[session]) for session, person in people.participants.items()
    }
    is_one_to_one = (
        len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})
    )
    if not is_one_to_one and people.source and other.source and other.column:
        raise InputError(
            f"{people.source.table.where} and the column {other.column.name!r} of "
            f"{other.source.table.where} disagree about who is in which session. Correct one of "
            "them, or remove the column."
        )


def unknown_person_findings(sessions: Sequence[str], where: str) -> list[Finding]:
    """Return the findings about a corpus that does not say who is in which session.

    Args:
        sessions: those that nothing is known about, all of them in a corpus without participants.
        where: the file that would say so.
    """
    message = (
        f"There is no {where}, so every session counts as a person of its own: nothing keeps a "
        "person from being both trained and judged on. Write the file, with the header "
        "session,participant and one line per session."
    )
    number = len(sessions)
    findings = [corpus_finding("warning", PERSONS_UNKNOWN, where, number, number, message)]

    if alike := sessions_alike(sessions):
        named = "; ".join(
            f"{person!r}: {quoted_list(ids, 3)}" for person, ids in list(alike.items())[:3]
        )
        message = (
            "These ids look like several sessions of one person each, who would be torn apart "
            f"({named}). Say who is who in {where}."
        )
        count = sum(map(len, alike.values()))
        findings.append(
            corpus_finding("warning", "sessions of one person", where, count, number, message)
        )
    return findings


def sessions_alike(sessions: Sequence[str]) -> dict[str, list[str]]:
    """Return what some sessions share in front -> those sessions, as in P01_V1 and P01_V2.

    What all sessions begin with, such as the name of the corpus, says nothing about persons. So it
    is the shortest beginning that tells some sessions apart and joins others; {} where none does.
    """
    depth = 1 + max((len(list(NEXT_PART.finditer(session))) for session in sessions), default=0)

    for num_parts in range(1, depth):
        groups: dict[str, list[str]] = {}
        for session in sessions:
            ends = [match.start() for match in NEXT_PART.finditer(session)]
            is_longer = len(ends) >= num_parts
            groups.setdefault(session[: ends[num_parts - 1]] if is_longer else session, []).append(
                session
            )

        shared = {person: ids for person, ids in groups.items() if len(ids) > 1}
        if len(groups) > 1:
            return shared
    return {}


def similar_person_findings(people: People) -> list[Finding]:
    """Return the finding about persons whose names differ only in form."""
    if not people.source:
        return []

    names = sorted(set(people.participants.values()))
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(form(name), []).append(name)
    similar = [name for alike in by_form.values() if len(alike) > 1 for name in alike]
    if not similar:
        return []

    message = (
        "Their names differ only in capitals, zeros or signs, and count as different people: "
        f"{quoted_list(similar)}. If they are one person, write one name."
    )
    where = people.source.table.where
    return [corpus_finding("warning", "similar persons", where, len(similar), len(names), message)]
