"""Text of any common encoding, and tables of any delimiter. Knows no times and no formats."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from pipeline.data.tables.csv_columns import MISSING
from pipeline.errors import InputError

DELIMITERS = (";", "\t", "|", ",")
"""In this order: a comma may also be the decimal mark of a table with another delimiter."""
DELIMITER_NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", " ": "blanks"}
NUM_PROBED_LINES = 50
MISSING_CELLS = (*MISSING, "?", "#N/A", "nil", "NIL", "-nan(ind)", "1.#QNAN", "-1.#IND")
"""Cells that stand for a missing number in files of any origin."""
UTF_16_SHARE = 0.2
"""In UTF-16 about every second byte of a table is 0; in no other text is any."""

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
"""Characters that are in no text."""
NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?([iI]nf|INF|[iI]nfinity)"
COMMA_NUMBER = r"[-+]?(\d+,\d*|\d*,\d+)([eE][-+]?\d+)?"
LIKE_THOUSANDS = r"[-+]?[1-9]\d{0,2}(,\d{3})+"


@dataclass(frozen=True)
class Text:
    """A decoded text, and a sentence about its encoding; "" where it is the usual UTF-8."""

    text: str
    note: str


@dataclass(frozen=True)
class Table:
    """A table whose cells are text, without blanks around them.

    Attributes:
        where: how messages name the file.
        header: names of the columns.
        columns: the cells of each column, all of one length.
        delimiter: what is between the cells.
        lines: the text below the header, by which the line of a mistake is found.
        first_line: the number of the first of these lines in the file.
    """

    where: str
    header: tuple[str, ...]
    columns: tuple[pa.Array, ...]
    delimiter: str
    lines: str
    first_line: int

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.columns[0])

    def line_of(self, row: int) -> int:
        """Return the line in the file of a row, counted from 0. It is slow: for messages."""
        reader = csv.reader(io.StringIO(self.lines, newline=""), delimiter=self.delimiter)
        rows = (self.first_line + reader.line_num - 1 for cells in reader if cells)
        return next((line for index, line in enumerate(rows) if index == row), self.first_line)


def decode_text(content: bytes, where: str) -> Text:
    """Decode UTF-8, UTF-16 or, where it is neither, Windows-1252; line ends become newlines.

    Raises:
        InputError: it is no text.
    """
    encoding, note = "utf-8-sig", ""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, note = "utf-16", "It is UTF-16 text."
    elif 0 in content[:4096]:
        start = np.frombuffer(content[:4096], np.uint8)
        shares = [float((start[offset::2] == 0).mean()) for offset in (0, 1)]
        if max(shares) < UTF_16_SHARE or min(shares) > 0.05:
            raise InputError(f"{where} is no text file (it has zero bytes). Export it as CSV.")
        encoding = "utf-16-be" if shares[0] > shares[1] else "utf-16-le"
        note = "It is UTF-16 text without a byte order mark."

    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise InputError(f"{where} is damaged UTF-16 text. Export it as UTF-8.") from error
        text = _decode_windows(content, where)
        note = "It is not UTF-8, and was read as Windows-1252."
    return Text(text.replace("\r\n", "\n").replace("\r", "\n"), note)


def _decode_windows(content: bytes, where: str) -> str:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = "\0"
    if CONTROL.search(text):
        raise InputError(f"{where} is no text file. Export it as CSV.")
    return text


def find_delimiter(lines: Sequence[str]) -> str:
    """Return what divides every one of the lines into equally many cells, two or more; or "".

    Several blanks in a row count as one. It is not guessed from how often a character occurs.
    """
    probed = [line for line in lines if line.strip()][:NUM_PROBED_LINES]
    for delimiter in DELIMITERS:
        widths = {len(cells) for cells in csv.reader(probed, delimiter=delimiter)}
        if len(widths) == 1 and widths != {1}:
            return delimiter

    widths = {len(line.split()) for line in probed}
    if len(widths) == 1 and widths != {1}:
        return " "
    # A ragged table: its header decides, and reading it finds the line that does not fit.
    header = probed[0] if probed else ""
    return next((delimiter for delimiter in DELIMITERS if delimiter in header), "")


def read_table(
    lines: str,
    where: str,
    *,
    delimiter: str,
    header: Sequence[str] | None = None,
    line: int = 1,
    is_counted: bool = False,
) -> Table:
    """Read a table, every cell as text.

    Args:
        lines: the text, newlines between the lines.
        where: how messages name the file.
        delimiter: what is between the cells.
        header: names of the columns; None where the first line has them.
        line: the number of the first line of `lines` in the file.
        is_counted: whether times are counted by rows, so that an empty line is a row, too, and
            missing.

    Raises:
        InputError: there is no row, a row has another number of cells than the header, or two
            columns have one name.
    """
    if delimiter == " ":
        lines = "\n".join("\t".join(line.split()) for line in lines.split("\n"))
        delimiter = "\t"
    if header is None:
        num_blank_lines = len(lines) - len(lines.lstrip("\n"))
        first, _, lines = lines.lstrip("\n").partition("\n")
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        line += num_blank_lines + 1
    if not lines.strip():
        raise InputError(f"{where} has no rows. Export it again, or leave the file out.")

    _raise_if_doubled(header, where)
    lines = lines.rstrip("\n")
    columns = _read_cells(lines, where, delimiter, len(header), line, is_counted=is_counted)
    return Table(where, tuple(header), columns, delimiter, lines, line)


def decimal_mark(table: Table) -> str:
    """Return "," where the table proves that it has decimal commas, "" where it does not.

    Semicolons are what programs divide cells by where the comma is taken; and 0,5 is no thousand.
    """
    if ("," if table.delimiter != "," else '"') not in table.lines:
        return ""

    for cells in table.columns:
        is_comma = pa.compute.match_substring_regex(cells, f"^(?:{COMMA_NUMBER})$")
        is_proof = is_comma
        if table.delimiter != ";":
            like_thousands = pa.compute.match_substring_regex(cells, f"^(?:{LIKE_THOUSANDS})$")
            is_proof = pa.compute.and_(is_comma, pa.compute.invert(like_thousands))
        if pa.compute.any(is_proof).as_py():
            return ","
    return ""


def to_numbers(table: Table, position: int, decimal: str = "") -> NDArray[np.float64]:
    """Return a column as numbers, NaN where a cell is missing.

    Args:
        table: the table.
        position: of the column.
        decimal: "," or "." where a person says it, or `decimal_mark`; "" where it is unknown.

    Raises:
        InputError: a cell is no number, or may be read in two ways.
    """
    cells = _without_missing(table.columns[position])
    numbers = _cast(cells)
    if numbers is not None and decimal != ",":
        return numbers

    is_number = _matches(cells, NUMBER)
    is_comma = _matches(cells, COMMA_NUMBER)

    is_fraction = is_number & ~_matches(cells, r"[^.]*")
    has_commas = decimal == "," or bool(_is_any(cells, COMMA_NUMBER))

    if decimal != "." and has_commas and (is_number | is_comma).all():
        if is_fraction.any():
            row = int(np.flatnonzero(is_fraction)[0])
            raise InputError(
                f"{_cell(table, position, row)} has a point, but other numbers have a comma. "
                "Export the file with one decimal mark, and without thousands."
            )
        if decimal == "":
            row = int(np.flatnonzero(~_matches(cells, r"[^,]*"))[0])
            raise InputError(
                f"{_cell(table, position, row)} may be a fraction or a thousand. Pass --decimal , "
                "if it is a fraction, else export it without thousands."
            )
        cells = pa.compute.replace_substring(cells, ",", ".")
        is_number = is_number | is_comma

    if not is_number.all():
        row = int(np.flatnonzero(~is_number)[0])
        raise InputError(
            f"{_cell(table, position, row)} is no number. Correct the cell, or leave it empty."
        )
    cells = pa.compute.replace_substring_regex(cells, r"^\+", "")
    numbers = _cast(cells)
    assert numbers is not None  # every cell is of the form of a number
    return numbers


def is_text(table: Table, position: int) -> bool:
    """Return whether not one cell of a column is a number, though some are not missing."""
    cells = pa.compute.drop_null(_without_missing(table.columns[position]))
    if not len(cells) or _cast(cells) is not None:
        return False
    return not bool((_matches(cells, NUMBER) | _matches(cells, COMMA_NUMBER)).any())


def is_empty(table: Table, position: int) -> bool:
    """Return whether every cell of a column is missing."""
    return bool(_without_missing(table.columns[position]).null_count == table.num_rows)


def _cast(cells: pa.Array) -> NDArray[np.float64] | None:
    """Return cells as numbers with a decimal point; None where one of them is none."""
    try:
        return np.array(cells.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowInvalid:
        return None


def _without_missing(cells: pa.Array) -> pa.Array:
    is_missing = pa.compute.is_in(cells, value_set=pa.array(MISSING_CELLS))
    return pa.compute.if_else(is_missing, pa.scalar(None, pa.string()), cells)


def _matches(cells: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Return for each cell whether all of it matches; True where it is missing."""
    found = pa.compute.match_substring_regex(cells, f"^(?:{pattern})$")
    return np.array(pa.compute.fill_null(found, True).to_numpy(zero_copy_only=False), np.bool_)


def _is_any(cells: pa.Array, pattern: str) -> bool:
    found = pa.compute.match_substring_regex(cells, f"^(?:{pattern})$")
    return bool(pa.compute.any(found).as_py())


def _cell(table: Table, position: int, row: int) -> str:
    cell = table.columns[position][row].as_py()
    name = table.header[position]
    return f"{table.where}, line {table.line_of(row)}, column {name!r}: {cell!r}"


def _raise_if_doubled(header: Sequence[str], where: str) -> None:
    doubled = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
    if doubled:
        raise InputError(
            f"{where}: {header.count(doubled[0])} columns are named {doubled[0]!r}. Name each "
            "column differently."
        )


def _read_cells(
    lines: str, where: str, delimiter: str, width: int, line: int, *, is_counted: bool
) -> tuple[pa.Array, ...]:
    names = [str(position) for position in range(width)]
    body = lines.encode()
    try:
        cells = pyarrow.csv.read_csv(
            pa.py_buffer(body),
            pyarrow.csv.ReadOptions(
                use_threads=False, column_names=names, block_size=min(len(body) + 1, 2**31 - 1)
            ),
            pyarrow.csv.ParseOptions(delimiter=delimiter, ignore_empty_lines=not is_counted),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        mistake = _find_ragged_row(lines, delimiter, width, line)
        raise InputError(f"{where}{mistake or f': {error}.'}") from None
    return tuple(
        pa.compute.utf8_trim_whitespace(cells.column(name).combine_chunks()) for name in names
    )


def _find_ragged_row(lines: str, delimiter: str, width: int, line: int) -> str:
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter)
    for cells in reader:
        if cells and len(cells) != width:
            advice = "Correct the line, or remove it."
            if len(cells) == width + 1:
                advice = "Quote a cell with one in it, or leave row names out (R: row.names = F)."
            return (
                f", line {line + reader.line_num - 1}: {len(cells)} "
                f"cell{'s' if len(cells) > 1 else ''} between {DELIMITER_NAMES[delimiter]}, but "
                f"the header has {width}. {advice}"
            )
    return ""


def normalised(name: str) -> str:
    """Return a column's name in lower case without its unit and anything but letters and digits."""
    without_unit = re.sub(r"[(\[].*?[)\]]", "", name)
    return re.sub(r"[^a-z0-9]+", "", without_unit.lower())
