"""Reads a table about sessions: any usual delimiter, columns by name. Knows no corpus.

A header is recognised by its names (`KNOWN_NAMES`), in any order and beside other columns. A file
without one is read only where the caller knows its first line for one of data.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.data.input_errors import shortened
from pipeline.data.tables.csv_columns import MISSING, decode
from pipeline.errors import InputError

Kind = Literal["session", "participant", "partition", "stimulus"]

KNOWN_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "session": ("session", "session_id", "recording", "recording_id", "file", "filename", "id"),
    "participant": (
        "participant", "participant_id", "subject", "subject_id", "speaker", "speaker_id",
    ),
    "partition": ("partition", "proposal", "split"),
    "stimulus": ("stimulus", "video"),
}  # fmt: skip
"""Kind of column -> its names, the preferred one first; capitals, spaces and _ do not matter."""
PLURALS: Mapping[Kind, str] = {
    "session": "sessions",
    "participant": "participants",
    "partition": "partitions",
    "stimulus": "stimuli",
}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
NAMED_DELIMITERS = "comma, semicolon, tab or pipe"

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: as the header has it; the preferred name of its kind in a file without a header.
        position: from 0.
        cells: stripped, one per row of the table.
    """

    name: str
    position: int
    cells: Cells


@dataclass(frozen=True)
class RecordTable:
    """A table about sessions, without its header and its empty lines.

    Attributes:
        where: how messages name the file.
        delimiter: what separates the cells.
        has_header: whether its first line named the columns.
        header: the names of all columns.
        lines: for each row its line in the file, from 1.
        rows: cells, stripped; each row has as many as the header.
    """

    where: str
    delimiter: str
    has_header: bool
    header: Cells
    lines: tuple[int, ...]
    rows: tuple[Cells, ...]

    def columns(self, kind: Kind) -> list[Column]:
        """Return the columns that may be of a kind, by their names; the preferred one first."""
        return [
            Column(self.header[position], position, tuple(row[position] for row in self.rows))
            for position in _positions(self.header, kind)
        ]


def read_record_table(
    content: bytes, where: str, required: Sequence[Kind], is_data: Callable[[Cells], bool]
) -> RecordTable:
    """Read a table.

    Args:
        content: the file's bytes: UTF-8, with or without a byte order mark.
        where: how messages name the file.
        required: the kinds of columns that it must have; in a file without a header it has these
            and no other, in this order.
        is_data: whether a first line that names none of the required columns is one of data.

    Raises:
        InputError: it is no such table, or it does not name a required column.
    """
    delimiter, numbered = _split(decode(content, where), where)
    if not numbered:
        raise InputError(f"{where} lists no session. Write the header {_example(required)}, "
                         "then one line per session.")  # fmt: skip

    first = numbered[0][1]
    has_header = any(_positions(first, kind) for kind in required) or not is_data(first)
    if has_header:
        _check_header(first, required, numbered[1:], where)
    elif len(first) != len(required):
        raise InputError(
            f"{where} has no header, and {len(first)} columns: which is which cannot be known. "
            f"Write a first line that names them, such as {_example(required)}."
        )

    header = first if has_header else tuple(KNOWN_NAMES[kind][0] for kind in required)
    body = numbered[1:] if has_header else numbered
    if not body:
        raise InputError(f"{where} lists no session. Write one line per session below its header.")
    rows = tuple(_fit(cells, len(header), f"{where}, line {line}") for line, cells in body)
    return RecordTable(where, delimiter, has_header, header, tuple(line for line, _ in body), rows)


def first_cells(content: bytes, where: str) -> Cells:
    """Return the cells of the first line that is not empty; () where all are.

    Raises:
        InputError: the file cannot be split into cells.
    """
    _, numbered = _split(decode(content, where), where)
    return numbered[0][1] if numbered else ()


def names_any(cells: Cells, kinds: Sequence[Kind]) -> bool:
    """Tell whether a first line names a column of one of these kinds."""
    return any(_positions(cells, kind) for kind in kinds)


def is_missing(cell: str) -> bool:
    """Tell whether a cell stands for a value that is not known."""
    return cell.lower() in _MISSING


def named_columns(kind: Kind) -> str:
    """Return the names that a column of a kind may have, for messages."""
    return ", ".join(KNOWN_NAMES[kind])


_MISSING = {text.lower() for text in MISSING}


def _split(text: str, where: str) -> tuple[str, list[tuple[int, Cells]]]:
    """Split the text by the delimiter that suits it; return it, and the lines with their numbers.

    A delimiter suits by how many known names it makes of the first line, then by whether it gives
    all lines as many cells, then by how many these are.
    """
    if match := re.match(r"sep=(.)\s*\r?\n", text):  # Excel's own line, which is no data
        text = "\n" + text[match.end() :]
    if not text.strip():
        return ",", []

    def suits(delimiter: str) -> tuple[int, bool, int]:
        lines = [cells for _, cells in by_delimiter[delimiter]]
        num_known = sum(len(_positions(lines[0], kind)) for kind in KNOWN_NAMES) if lines else 0
        widths = {len(cells) for cells in lines}
        return (num_known if max(widths) > 1 else 0, len(widths) == 1, max(widths))

    by_delimiter = {delimiter: _parse(text, delimiter, where) for delimiter in DELIMITERS}
    by_delimiter = {delimiter: lines for delimiter, lines in by_delimiter.items() if lines}
    wide = {
        delimiter: lines
        for delimiter, lines in by_delimiter.items()
        if max(len(cells) for _, cells in lines) > 1
    }
    if not by_delimiter:
        return ",", []
    if not wide:
        line, cells = next(iter(by_delimiter.values()))[0]
        raise InputError(
            f"{where}, line {line}: {shortened(','.join(cells))!r} is a single cell. Separate the "
            f"cells by {NAMED_DELIMITERS}."
        )
    delimiter = max(wide, key=suits)
    return delimiter, wide[delimiter]


def _parse(text: str, delimiter: str, where: str) -> list[tuple[int, Cells]]:
    """Return the lines that are not empty: their number, and their cells up to the last filled."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines, last_line = [], 0
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            while stripped and not stripped[-1]:
                stripped.pop()
            if stripped:
                lines.append((last_line + 1, tuple(stripped)))
            last_line = reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{where}, line {last_line + 1}: {error}. Export the file again as CSV."
        ) from None
    return lines


def _check_header(
    header: Cells, required: Sequence[Kind], body: Sequence[tuple[int, Cells]], where: str
) -> None:
    """Raise where a first line that is no data does not name a required column."""
    absent = [kind for kind in required if not _positions(header, kind)]
    if not absent:
        return

    line = shortened(",".join(header))
    known = "; ".join(f"{kind}: {named_columns(kind)}" for kind in absent)
    message = (
        f"{where}: the first line {line!r} names no column of "
        f"{' and none of '.join(PLURALS[kind] for kind in absent)}. "
        f"The names that are known are {known}."
    )
    unnamed = header[0] == "" or header[0].lower() == "unnamed: 0"
    if unnamed and "session" in absent and not _counts([cells[0] for _, cells in body if cells]):
        message += " Its first column has no name: if it is the session, write 'session' there."
    else:
        message += f" Write a header such as {_example(required)}."
    raise InputError(message)


def _counts(cells: Sequence[str]) -> bool:
    """Tell whether cells count rows from 0 or 1, as an index of pandas does."""
    return any(list(cells) == [str(start + row) for row in range(len(cells))] for start in (0, 1))


def _fit(cells: Cells, width: int, where: str) -> Cells:
    """Fill a row up with empty cells; a longer one is a mistake."""
    if len(cells) > width:
        raise InputError(
            f"{where}: {len(cells)} cells, but the header has {width}. Quote a cell that contains "
            "the delimiter, name each column, and leave row names out (R: row.names = FALSE)."
        )
    return cells + ("",) * (width - len(cells))


def _positions(header: Sequence[str], kind: Kind) -> list[int]:
    """Return the positions of the columns whose names are known, in the order of preference."""
    names = [_plain(name) for name in header]
    known = [_plain(name) for name in KNOWN_NAMES[kind]]
    return [position for name in known for position, other in enumerate(names) if other == name]


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name.casefold())


def _example(required: Sequence[Kind]) -> str:
    return ",".join(KNOWN_NAMES[kind][0] for kind in required)
