"""Columns of a table that are no features in a corpus, and the rows that they mark as missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.text_tables.text import Table, to_numbers
from pipeline.data.importing.text_tables.time_column import TimeAxis
from pipeline.data.input_errors import quoted_list
from pipeline.errors import InputError
from pipeline.preprocessing.bookkeeping import (
    LOWEST_CONFIDENCE,
    FileColumns,
    Kind,
    column_traits,
    failed_rows,
    may_be_bookkeeping,
    named_columns,
    timed_columns,
)

Rows = slice | NDArray[np.intp]
"""The rows of one recording in a table."""


def find_named(
    table: Table,
    axis: TimeAxis,
    recordings: Sequence[Rows],
    others: Collection[int | None],
    decimal: str,
) -> dict[int, Kind]:
    """Return the positions of columns that are no features by their names, and what they are.

    Args:
        table: the table.
        axis: its times.
        recordings: the rows of each.
        others: positions that are not looked at: of times, sessions and raters.
        decimal: the decimal mark, as `to_numbers` takes it.
    """
    places = [place for place in range(len(table.header)) if place not in others]
    values = {
        table.header[place]: _numbers_or_text(table, place, decimal)
        for place in places
        if may_be_bookkeeping(table.header[place])
    }
    names = [table.header[place] for place in places]
    found = named_columns([_describe(names, values, axis, rows) for rows in recordings])
    return {place: found[table.header[place]] for place in places if table.header[place] in found}


def find_timed(
    table: Table,
    axis: TimeAxis,
    recordings: Sequence[Rows],
    positions: Sequence[int],
    values: NDArray[np.float64],
) -> dict[int, Kind]:
    """Return the positions of columns that count the rows or repeat the times, unless all do.

    Args:
        table: the table.
        axis: its times.
        recordings: the rows of each.
        positions: of the columns to look at.
        values: what is in them, shape (rows, positions).
    """
    # Features that never fall are rare, and only they need a closer look.
    ascends = np.all([(np.diff(values[rows], axis=0) >= 0).all(axis=0) for rows in recordings], 0)
    names = [table.header[place] for place in positions]
    suspects = {names[column]: values[:, column] for column in np.flatnonzero(ascends)}
    found = timed_columns([_describe(names, suspects, axis, rows) for rows in recordings])
    if len(found) == len(names):
        return {}
    return {
        place: found[table.header[place]] for place in positions if table.header[place] in found
    }


def marked_rows(
    table: Table, kinds: Mapping[int, Kind], decimal: str
) -> tuple[NDArray[np.bool_], str]:
    """Return the rows that a column marks as missing, or says nothing about; and a note.

    Args:
        table: the table.
        kinds: positions of columns that are no features, and what they are.
        decimal: the decimal mark, as `to_numbers` takes it.

    Returns:
        Shape (rows,), True where missing; and a sentence that says so, "" where none is.

    Raises:
        InputError: a mark is no number.
    """
    marks = {
        table.header[place]: np.nan_to_num(to_numbers(table, place, decimal))
        for place, kind in kinds.items()
        if kind == "marks missing rows"
    }
    if not marks:
        return np.zeros(table.num_rows, np.bool_), ""

    is_marked = failed_rows(marks, {table.header[place]: kind for place, kind in kinds.items()})
    note = (
        f"{int(is_marked.sum())} of {table.num_rows} rows are missing, by {quoted_list([*marks])} "
        f"(success 0, confidence below {LOWEST_CONFIDENCE})."
    )
    return is_marked, note if is_marked.any() else ""


def _describe(
    names: Sequence[str], values: Mapping[str, NDArray[np.float64]], axis: TimeAxis, rows: Rows
) -> FileColumns:
    """Return what the columns of one recording are like, those that have values here."""
    times_ms = axis.times_s[rows] * 1000
    traits = {name: column_traits(column[rows], times_ms) for name, column in values.items()}
    return FileColumns(names, traits, len(times_ms))


def _numbers_or_text(table: Table, place: int, decimal: str) -> NDArray[np.float64]:
    """Return a column as numbers; NaN where it has a cell of text, such as an id."""
    try:
        return to_numbers(table, place, decimal)
    except InputError:
        return np.full(table.num_rows, np.nan)
