"""Tables as CSV text (RFC 4180): quoted where needed, and every number reads back the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

import numpy as np


def csv_text(columns: Mapping[str, Iterable[object]]) -> str:
    """Return a table as CSV, its header first.

    Args:
        columns: name -> cells, all of one length; see `csv_lines`.

    Raises:
        ValueError: the lengths differ.
    """
    return csv_lines([tuple(columns), *zip(*columns.values(), strict=True)])


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, with lines that end with a line feed.

    Args:
        rows: of cells. Texts are written as they are, "007" too. Floats are written in the fewest
            digits that read back as the same 64-bit number.
    """
    stream = io.StringIO()
    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)

    for row in rows:
        cells = [_cell(value) for value in row]
        # Python's writer does not quote a carriage return, which readers take for a line's end.
        writer = quoted if any("\r" in cell for cell in cells) else plain
        writer.writerow(cells)
    return stream.getvalue()


def _cell(value: object) -> str:
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)
