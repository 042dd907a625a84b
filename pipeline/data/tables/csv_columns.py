"""Reads typed columns of a CSV file, or finds its mistake. Knows no features and no labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from pipeline.data.input_errors import shortened
from pipeline.data.tables.file_lines import numbered_rows
from pipeline.errors import InputError

# fmt: off
MISSING = (
    "", "nan", "NaN", "NAN", "-nan", "-NaN", "null", "NULL", "NA", "N/A", "n/a", "None", "<NA>",
    "-", "--", "?", ".", "#N/A", "#NA", "#VALUE!", "#DIV/0!", "#NUM!", "nan(ind)", "-nan(ind)",
    "1.#QNAN", "1.#IND", "-1.#IND", "undefined", "--undefined--",
)
# fmt: on
"""Texts that stand for a missing number, with any capitals and spaces around them: blank cells,
and what pandas, R, Excel, Weka, Stata, Praat and C write. Any other text is a mistake."""
NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf(inity)?)", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.IGNORECASE)
CLOCK_TIME = re.compile(r"\d+:\d{1,2}(:\d{1,2})?([.,]\d+)?")
TIMESTAMP_ADVICE = "Write seconds or ms, or dates with times such as 2024-05-31 12:00:00."
IMPORT_ADVICE = "Convert the files: affectune corpus import SOURCE OUT."

_MISSING = frozenset(text.lower() for text in MISSING)


def read_content(path: Path, where: str) -> bytes:
    """Read a file.

    Args:
        path: the file.
        where: how messages name it; likewise in the functions below.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{where} cannot be read: {error.strerror}. Check the file and its permissions."
        ) from None


def decode(content: bytes, where: str) -> str:
    """Decode UTF-8 text, without its byte order mark.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            f"{where} is not a UTF-8 text file. Export it as comma-separated UTF-8."
        ) from None


def split_header(
    content: bytes, where: str, *, may_lack_name: bool = False
) -> tuple[list[str], bytes]:
    """Return the names of the columns, and the bytes below them.

    Args:
        content: the file's bytes.
        where: how messages name it.
        may_lack_name: whether the first column may have no name, as pandas' index has none.

    Raises:
        InputError: there is no header, no row, only one column, or a column without a name.
    """
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    first_line, _, body = lines.partition(b"\n")
    text = decode(first_line, where)
    if not body.strip():
        state = "has a header and no rows" if text.strip() else "is empty"
        raise InputError(f"{where} {state}. Export it again, or delete the file.")

    header = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if len(header) < 2:
        raise InputError(f"{where}: the header {shortened(text)!r} has no comma. {_mend(text)}")
    header, body = _without_trailing_commas(header, body)
    unnamed = [place for place, name in enumerate(header) if not name]
    if may_lack_name and unnamed[:1] == [0]:
        del unnamed[0]
    if unnamed:
        raise InputError(
            f"{where}: column {unnamed[0] + 1} has no name, so it may be a row number. "
            "Remove the column (pandas: to_csv(index=False))."
        )
    return header, body


def read_columns(
    header: Sequence[str], body: bytes, types: Mapping[int, pa.DataType], where: str
) -> dict[int, pa.Array]:
    """Read some columns.

    Args:
        header: names of all columns; they need not be unique.
        body: the rows, without the header.
        types: position -> type, for the columns to read.
        where: how messages name the file.

    Returns:
        Position -> column; a missing number is null.

    Raises:
        InputError: a row has another number of cells than the header, or a text is no number.
    """
    try:
        return _read(header, body, types)
    except pa.ArrowInvalid as error:
        first_error = error

    # Blank cells, and other texts for a missing number, are rare: they are read the slow way.
    try:
        return _read_with_blanks(header, body, types)
    except pa.ArrowInvalid:
        numeric = [position for position, type_ in types.items() if type_ != pa.string()]
        mistake = _find_mistake(header, body, numeric, where)
        raise InputError(mistake or f"{where} is no table of numbers: {first_error}.") from None


def _read(
    header: Sequence[str], body: bytes, types: Mapping[int, pa.DataType]
) -> dict[int, pa.Array]:
    # Arrow finds columns by name, so that a position is the name that is unique.
    read_options = pyarrow.csv.ReadOptions(
        use_threads=False,
        block_size=min(len(body) + 1, 2**31 - 1),
        column_names=[str(position) for position in range(len(header))],
    )
    convert_options = pyarrow.csv.ConvertOptions(
        column_types={str(position): column_type for position, column_type in types.items()},
        include_columns=[str(position) for position in types],
        null_values=list(MISSING),
    )

    table = pyarrow.csv.read_csv(pa.py_buffer(body), read_options, convert_options=convert_options)
    return {position: table.column(str(position)).combine_chunks() for position in types}


def _read_with_blanks(
    header: Sequence[str], body: bytes, types: Mapping[int, pa.DataType]
) -> dict[int, pa.Array]:
    """Read columns as texts, and these as numbers: without spaces, and whatever says "missing"."""
    filled_lines = re.sub(rb"(?m)^[ \t]+(\n|\Z)", b"", body)
    texts = _read(header, filled_lines, dict.fromkeys(types, pa.string()))

    cells = {}
    for position, type_ in types.items():
        text = pyarrow.compute.utf8_trim_whitespace(texts[position])
        if type_ != pa.string():
            is_missing = pyarrow.compute.is_in(
                pyarrow.compute.utf8_lower(text), pa.array(sorted(_MISSING))
            )
            text = pyarrow.compute.if_else(is_missing, pa.scalar(None, pa.string()), text)
        cells[position] = text.cast(type_)
    return cells


def _mend(line: str) -> str:
    """Say what to do about a header without a comma."""
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "pipes")):
        if delimiter in line:
            return f"It is separated by {name}. {IMPORT_ADVICE}"

    return "Export it as comma-separated UTF-8."


def _without_trailing_commas(header: list[str], body: bytes) -> tuple[list[str], bytes]:
    """Drop columns at the end that have no name and no cell (FACET, Excel, old OpenFace)."""
    named = len(header)
    while named and not header[named - 1]:
        named -= 1
    if named == len(header) and _num_cells(body.lstrip().partition(b"\n")[0]) <= named:
        return header, body

    lines = body.split(b"\n")
    for index, line in enumerate(lines):
        if (num_excess := _num_cells(line) - named) > 0:
            cells, *excess = line.rsplit(b",", num_excess)
            if any(cell.strip() for cell in excess):
                return header, body
            lines[index] = cells
    return header[:named], b"\n".join(lines)


def _num_cells(line: bytes) -> int:
    if b'"' in line:
        return len(next(csv.reader([line.decode("utf-8", errors="replace")]), []))
    return line.count(b",") + 1


def _find_mistake(
    header: Sequence[str], body: bytes, numeric: Sequence[int], where: str
) -> str | None:
    """Describe the first row that is too long or short, or cell that should be a number.

    This is slow, and meant for a file that is known to be wrong.
    """
    rows = numbered_rows(body.decode("utf-8", errors="replace"))

    for line_in_body, cells in rows:
        line = f"{where}, line {line_in_body + 1}"
        if len(cells) != len(header):
            return f"{line}: {len(cells)} cells, but the header has {len(header)}. {_excess(cells)}"

        for position in numeric:
            cell = cells[position].strip()
            if cell.lower() in _MISSING or NUMBER.fullmatch(cell):
                continue
            place = f"{line}, column {header[position]!r}: {shortened(cell)!r}"
            if DECIMAL_COMMA.fullmatch(cell):
                return f"{place} has a decimal comma. {IMPORT_ADVICE}"
            if CLOCK_TIME.fullmatch(cell):
                return f"{place} is a time of day. {TIMESTAMP_ADVICE}"
            if header[position].lower() == "timestamp":
                return f"{place} is no number and no date. {TIMESTAMP_ADVICE}"
            return f"{place} is no number. Correct the cell, or leave it empty."
    return None


def _excess(cells: Sequence[str]) -> str:
    """Say what to do about a row of another length than the header."""
    numbers = [cell.strip() for cell in cells]
    if len(numbers) > 1 and all(re.fullmatch(r"[-+]?\d*", number) for number in numbers):
        return f"Are its numbers written with a decimal comma? {IMPORT_ADVICE}"
    return "Export the file again."
