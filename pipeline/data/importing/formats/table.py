"""Reads plain tables: any delimiter, decimal commas, pandas' index, tables without times."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from pipeline.data.importing.formats.recording import ReadOptions, Recording
from pipeline.data.importing.formats.source_file import Format, SourceFile, describe_unreadable
from pipeline.data.importing.text_tables.table_tracks import (
    RATER_NAMES,
    SESSION_NAMES,
    Roles,
    build_tracks,
    find_column_named,
)
from pipeline.data.importing.text_tables.text import (
    COMMA_NUMBER,
    DELIMITER_NAMES,
    NUMBER,
    Table,
    decimal_mark,
    find_delimiter,
    is_empty,
    is_text,
    normalised,
    read_table,
    to_numbers,
)
from pipeline.data.importing.text_tables.time_column import (
    TimeAxis,
    find_time_column,
    parse_date,
    read_times,
)
from pipeline.data.input_errors import quoted_list
from pipeline.errors import InputError

INDEX_NAMES = ("", "unnamed0", "index", "level0")
"""What pandas calls an index that it writes, letters only."""


def is_table(file: SourceFile) -> bool:
    """Return whether a file has a line of column names, and lines that divide into as many."""
    body = _without_preamble("\n".join(file.head_lines))
    lines = body.lines.split("\n")
    delimiter = body.delimiter or find_delimiter(lines)
    if len(lines) < 2 or not delimiter or file.is_document:
        return False

    header, first = _cells(lines[0], delimiter), _cells(lines[1], delimiter)
    numbers = [cell for cell in first if re.fullmatch(f"{NUMBER}|{COMMA_NUMBER}", cell)]
    return bool(numbers) and not _is_row(header)


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read a table whose first line names its columns.

    Raises:
        InputError: it is no such table, or its times are not understood.
    """
    text = file.read_text()
    body = _without_preamble(text.text)
    lines = [line for line in body.lines.split("\n", 60)[:60] if line.strip()]
    delimiter = body.delimiter or find_delimiter(lines)
    if not delimiter:
        raise InputError(describe_unreadable(file))
    if _is_row(_cells(lines[0], delimiter)):
        raise InputError(
            f"{file.where}: its first line {lines[0][:60]!r} is a row of numbers, not of column "
            "names. Add a line of names, such as time_ms,value."
        )

    table = read_table(
        body.lines,
        file.where,
        delimiter=delimiter,
        line=body.first_line,
        is_counted=options.rate_hz is not None,
    )
    axis, time, index = _find_times(table, options)
    session = find_column_named(table.header, SESSION_NAMES)
    rater = find_column_named(table.header, RATER_NAMES)
    roles = Roles(time, session, rater, [] if index is None else [index])
    recording = build_tracks(table, axis, roles, options, "")
    notes = [note for note in (text.note, _describe(table, delimiter)) if note]
    return replace(recording, notes=(*notes, *recording.notes))


@dataclass(frozen=True)
class _Body:
    """A table's lines, the number of the first, and the delimiter that was stated; or ""."""

    lines: str
    first_line: int
    delimiter: str


def _without_preamble(text: str) -> _Body:
    """Leave out comments above the table, and Excel's line that states the delimiter.

    The last comment may be the line of names, as numpy writes it.
    """
    lines = text.split("\n")
    first, delimiter = 0, ""
    match = re.fullmatch(r"sep=(.)", lines[0].strip().lower())
    if match:
        first, delimiter = 1, match[1]
    while first < len(lines) and lines[first].startswith(("#", "%")):
        first += 1

    rest = [line for line in lines[first : first + 2] if line.strip()]
    found = delimiter or find_delimiter(rest)
    if first and not match and rest and found and _is_row(_cells(rest[0], found)):
        names = lines[first - 1].lstrip("#% ")
        if len(_cells(names, found)) == len(_cells(rest[0], found)):
            return _Body("\n".join([names, *lines[first:]]), first, delimiter)
    return _Body("\n".join(lines[first:]), first + 1, delimiter)


def _describe(table: Table, delimiter: str) -> str:
    comma = ", decimal commas" if decimal_mark(table) else ""
    return f"A table with {DELIMITER_NAMES[delimiter]}{comma}."


def _find_times(table: Table, options: ReadOptions) -> tuple[TimeAxis, int | None, int | None]:
    """Return the times, the position of their column, and that of an index that is set aside."""
    time = find_time_column(table.header, options, table.where)
    index = next(
        (place for place, name in enumerate(table.header) if normalised(name) in INDEX_NAMES), None
    )
    if time is not None:
        return read_times(table, time, options), time, index if index != time else None

    if options.rate_hz:
        rows = np.arange(table.num_rows, dtype=np.float64)
        note = f"counted, {options.rate_hz:g} rows per second as given"
        return TimeAxis(rows / options.rate_hz, "session", note), None, index

    if index is not None and _holds_times(table, index):
        return read_times(table, index, options), index, None
    raise InputError(
        f"{table.where} has no column that is called a time: it has {quoted_list(table.header)}. "
        "Name it with --time-column, or pass --rate-hz if the rows are evenly spaced."
    )


def _holds_times(table: Table, index: int) -> bool:
    """Return whether pandas' index holds dates or fractions: a count of rows is no time."""
    if is_empty(table, index):
        return False
    if is_text(table, index):
        return parse_date(table.columns[index][0].as_py(), "") is not None

    numbers = to_numbers(table, index, decimal_mark(table))
    return bool((numbers != np.rint(numbers)).any())


def _cells(line: str, delimiter: str) -> list[str]:
    cells = line.split() if delimiter == " " else line.split(delimiter)
    return [cell.strip().strip('"') for cell in cells]


def _is_row(cells: list[str]) -> bool:
    """Return whether cells are of a row: some are times or numbers with a fraction or a sign."""
    is_number = [re.fullmatch(f"{NUMBER}|{COMMA_NUMBER}", cell) is not None for cell in cells]
    is_date = [parse_date(cell, "") is not None for cell in cells]
    return all(number or date for number, date in zip(is_number, is_date, strict=True)) or any(
        is_date
    )


TABLE = Format("table", "a plain table", is_table, read)
