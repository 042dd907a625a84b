"""The bytes of a CSV file -> typed columns, or the line and column of a mistake. Knows no features and no labels."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from pipeline.errors import InputError

# Texts that mean "no number here"; any other text among numbers is a mistake.
MISSING = (
    "",
    "nan",
    "NaN",
    "NAN",
    "-nan",
    "-NaN",
    "null",
    "NULL",
    "NA",
    "N/A",
    "n/a",
    "None",
    "<NA>",
)
NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf(inity)?)", re.IGNORECASE)


def read_content(path: Path, where: str) -> bytes:
    """The file's bytes.

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
    """Text without a byte order mark.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            f"{where} is not a UTF-8 text file. Export it as comma-separated UTF-8."
        ) from None


def split_header(content: bytes, where: str) -> tuple[list[str], bytes]:
    """Names of the columns, and the bytes below them.

    Raises:
        InputError: there is no header, no row, only one column, or a column without a name.
    """
    first, _, body = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").partition(b"\n")
    text = decode(first, where)
    if not body.strip():
        what = "has a header and no rows" if text.strip() else "is empty"
        raise InputError(f"{where} {what}. Export it again, or delete the file.")
    header = [name.strip() for name in next(csv.reader([text]), [])]
    if len(header) < 2:
        raise InputError(
            f"{where}: the header {text!r} has no comma. Export it as comma-separated UTF-8."
        )
    if "" in header:
        raise InputError(
            f"{where}: column {header.index('') + 1} has no name, so it may be a row number. Remove the column "
            "(pandas: to_csv(index=False))."
        )
    return header, body


def read_columns(
    header: Sequence[str], body: bytes, types: Mapping[int, pa.DataType], where: str
) -> dict[int, pa.Array]:
    """Reads some columns.

    Args:
        header: names of all columns.
        body: the rows, without the header.
        types: position -> type of the columns to read.
        where: how messages name the file.

    Returns:
        Position -> column; a missing number is null.

    Raises:
        InputError: a row has another number of cells than the header, or a text is no number.
    """
    names = [str(index) for index in range(len(header))]  # the header's own need not be unique
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(body),
            pyarrow.csv.ReadOptions(
                use_threads=False, block_size=min(len(body) + 1, 2**31 - 1), column_names=names
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={str(index): type_ for index, type_ in types.items()},
                include_columns=[str(index) for index in types],
                null_values=list(MISSING),
            ),
        )
    except pa.ArrowInvalid as error:
        numbers = [index for index, type_ in types.items() if type_ != pa.string()]
        raise InputError(
            _mistake(header, body, numbers, where) or f"{where} is no table of numbers: {error}."
        ) from None
    return {index: table.column(str(index)).combine_chunks() for index in types}


def _mistake(header: Sequence[str], body: bytes, numbers: Sequence[int], where: str) -> str | None:
    """Where the first cell is that is no number. Slow: only for a file known to be wrong."""
    reader = csv.reader(io.StringIO(body.decode("utf-8", errors="replace"), newline=""))
    for cells in reader:
        line = f"{where}, line {reader.line_num + 1}"
        if cells and len(cells) != len(header):
            return f"{line}: {len(cells)} cells, but the header has {len(header)}. Export the file again."
        for index in numbers if cells else ():
            cell = cells[index].strip()
            if cell not in MISSING and not NUMBER.fullmatch(cell):
                return f"{line}, column {header[index]!r}: {cell!r} is no number. Correct the cell, or leave it empty."
    return None
