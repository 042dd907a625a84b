"""Matches the lines of a table with sessions, exactly; names the nearest where they differ."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pipeline.data.input_errors import quoted_list, raise_if_any, shortened
from pipeline.data.records.record_table import (
    KNOWN_NAMES,
    PLURALS,
    Column,
    Kind,
    RecordTable,
    is_missing,
    named_columns,
)
from pipeline.errors import InputError

NUM_SHOWN = 3
"""Of the sessions without a line, and of the lines without a session."""
MAX_COMPARED = 1000
"""So many names are compared letter by letter, which is slow."""
SUFFIX = re.compile(r"\.(csv|tsv|txt|wav|mp3|mp4|avi|mov|mkv|arff|json|xlsx?)$")


class SessionTable(NamedTuple):
    """A table, and the column of it that names the sessions."""

    table: RecordTable
    sessions: Column


def session_column(table: RecordTable, sessions: Collection[str], source: str) -> Column:
    """Return the column whose lines are the sessions, each at least once and no other.

    Of several columns with names of sessions it is the one that has the sessions.

    Args:
        table: with at least one such column.
        sessions: the ids of the corpus.
        source: what says so, for messages.

    Raises:
        InputError: no column has exactly the sessions, or two differ that do.
    """
    candidates = table.columns("session")
    exact = [column for column in candidates if set(column.cells) == set(sessions)]
    if not exact:
        raise InputError(_mismatch(table, candidates[0], sessions, source))
    if not table.has_header:
        _raise_if_ambiguous(table, exact[0])
    if any(column.cells != exact[0].cells for column in exact):
        names = quoted_list([column.name for column in exact])
        raise InputError(
            f"{table.where}: the columns {names} all name sessions, and differ. Keep one of them."
        )
    return exact[0]


def _raise_if_ambiguous(table: RecordTable, column: Column) -> None:
    """Raise where each of several columns of a table without a header could be the sessions.

    Raises:
        InputError: another column has the same cells in another order.
    """
    for position in range(len(table.header)):
        cells = tuple(row[position] for row in table.rows)
        if cells != column.cells and set(cells) == set(column.cells):
            raise InputError(
                f"{table.where} has no header, and two columns that could be the sessions. Write a "
                f"first line that names them: {','.join(table.header)}, or the other way round."
            )


def chosen_column(table: RecordTable, kind: Kind) -> Column:
    """Return the column of a kind: the one with its preferred name, else the only one.

    Args:
        table: with at least one such column.
        kind: of the column.

    Raises:
        InputError: several columns could be meant, and they differ.
    """
    columns = table.columns(kind)
    first = columns[0]
    num_preferred = sum(column.name.casefold() == KNOWN_NAMES[kind][0] for column in columns)

    if num_preferred != 1 and any(column.cells != first.cells for column in columns):
        names = quoted_list([column.name for column in columns])
        raise InputError(
            f"{table.where}: the columns {names} differ, and each could be the {kind}. Rename "
            "those that are not."
        )
    return first


def values_by_session(
    table: RecordTable, sessions: Column, column: Column, kind: Kind
) -> dict[str, str]:
    """Return session -> cell; without the sessions whose cell is empty or stands for that.

    Raises:
        InputError: two lines of a session differ.
    """
    values: dict[str, str] = {}
    first_lines: dict[str, int] = {}
    mistakes = []

    for line, session, cell in zip(table.lines, sessions.cells, column.cells, strict=True):
        value = "" if is_missing(cell) else cell
        if session not in values:
            values[session], first_lines[session] = value, line
        elif values[session] != value:
            mistakes.append(
                f"{table.where}, lines {first_lines[session]} and {line}: session "
                f"{shortened(session)!r} has two {PLURALS[kind]}, {shortened(values[session])!r} "
                f"and {shortened(value)!r}"
            )

    raise_if_any(mistakes, "Keep one line per session.")
    return {session: value for session, value in values.items() if value}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is most likely meant, or None.

    It is one that differs only in form (capitals, leading zeros, a file's suffix, Excel's `.0`,
    quotes, separators, the prefix of BIDS), else one that is spelt alike.
    """
    names = list(names)
    own_form = form(name)
    same_form = [other for other in names if form(other) == own_form]
    spelt_alike = difflib.get_close_matches(name, names[:MAX_COMPARED], 1, 0.65)
    return next(iter(same_form or spelt_alike), None)


def first_hint(names: Sequence[str], candidates: Collection[str]) -> tuple[str, str] | None:
    """Return the first of a few names that a candidate is near, and the candidate; else None."""
    for name in names[:NUM_SHOWN]:
        if meant := nearest(name, candidates):
            return name, meant

    return None


def form(name: str) -> str:
    """Return what names have in common that differ only in form."""
    text = unicodedata.normalize("NFKC", name).casefold().strip(" \t'\"`")
    text = SUFFIX.sub("", text)
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    text = re.sub(r"[\s_.-]+", "_", text)
    text = re.sub(r"^(sub|ses)_", "", text)  # BIDS
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _mismatch(table: RecordTable, column: Column, sessions: Collection[str], source: str) -> str:
    """Describe how a column and the sessions differ."""
    lines = dict(zip(reversed(column.cells), reversed(table.lines), strict=True))
    surplus = [cell for cell in dict.fromkeys(column.cells) if cell not in sessions]
    absent = sorted(set(sessions) - set(column.cells))

    clauses = []
    if absent:
        clauses.append(_clause(absent, "session", "has", "have", "no line"))
    if surplus:
        clauses.append(_clause(surplus, "line", "names", "name", "no session"))
    message = f"{table.where}, column {column.name!r}: {' and '.join(clauses)}."

    if hint := first_hint(surplus, absent):
        cell, meant = hint
        message += f" Line {lines[cell]}: {shortened(cell)!r} -> did you mean {meant!r}?"
    elif len(absent) == len(sessions) and (swapped := _column_with(table, sessions)):
        known = named_columns("session")
        message += f" The column {swapped!r} has sessions: give it one of the names {known}."

    if not surplus:
        return f"{message} Add a line for each, or remove the session from {source}."
    if not absent:
        return f"{message} Remove these lines, or add the sessions to {source}."
    return f"{message} Name every session of {source} there, spelt exactly so, and no other."


def _column_with(table: RecordTable, sessions: Collection[str]) -> str | None:
    """Return the name of a column in which sessions stand, whatever it is called."""
    for position, name in enumerate(table.header):
        if any(row[position] in sessions for row in table.rows):
            return name or f"{position + 1} (without a name)"

    return None


def _clause(names: Sequence[str], noun: str, verb: str, verbs: str, rest: str) -> str:
    """Return such as `2 sessions ('a', 'b') have no line`."""
    quoted = quoted_list(names, NUM_SHOWN)
    if len(names) == 1:
        return f"1 {noun} ({quoted}) {verb} {rest}"
    return f"{len(names)} {noun}s ({quoted}) {verbs} {rest}"
