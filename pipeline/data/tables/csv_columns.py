"""Reads typed columns of a CSV file, or finds its mistake. Knows no features and no labels."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from pipeline.errors import InputError

# fmt: off
MISSING = (
    "", "nan", "NaN", "NAN", "-nan", "-NaN", "null", "NULL", "NA", "N/A", "n/a", "None", "<NA>",
)
# fmt: on
"""Texts that stand for a missing number. Any other text among numbers is a mistake."""
NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf(inity)?)", re.IGNORECASE)


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
        may_lack_name: whether a column may have no name, as pandas' index has none.

    Raises:
        InputError: there is no header, no row, only one column, or a column without a name.
    """
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    first_line, _, body = lines.partition(b"\n")
    text = decode(first_line, where)
    if not body.strip():
        state = "has a header and no rows" if text.strip() else "is empty"
        raise InputError(f"{where} {state}. Export it again, or delete the file.")

    header = [name.strip() for name in next(csv.reader([text]), [])]
    if len(header) < 2:
        raise InputError(
            f"{where}: the header {text!r} has no comma. Export it as comma-separated UTF-8."
        )
    if "" in header and not may_lack_name:
        raise InputError(
            f"{where}: column {header.index('') + 1} has no name, so it may be a row number. "
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

    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(body), read_options, convert_options=convert_options
        )
    except pa.ArrowInvalid as error:
        numeric = [position for position, type_ in types.items() if type_ != pa.string()]
        mistake = _find_mistake(header, body, numeric, where)
        raise InputError(mistake or f"{where} is no table of numbers: {error}.") from None
    return {position: table.column(str(position)).combine_chunks() for position in types}


def _find_mistake(
    header: Sequence[str], body: bytes, numeric: Sequence[int], where: str
) -> str | None:
    """Describe the first row that is too long or short, or cell that should be a number.

    This is slow, and meant for a file that is known to be wrong.
    """
    reader = csv.reader(io.StringIO(body.decode("utf-8", errors="replace"), newline=""))

    for cells in reader:
        if not cells:
            continue
        line = f"{where}, line {reader.line_num + 1}"
        if len(cells) != len(header):
            return (
                f"{line}: {len(cells)} cells, but the header has {len(header)}. "
                "Export the file again."
            )

        for position in numeric:
            cell = cells[position].strip()
            if cell not in MISSING and not NUMBER.fullmatch(cell):
                return (
                    f"{line}, column {header[position]!r}: {cell!r} is no number. "
                    "Correct the cell, or leave it empty."
                )
    return None
