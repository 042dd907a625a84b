"""Says on which line of its file a row of a table is. Knows no columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator


def numbered_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the rows that are not blank: the line that each begins on, and its cells.

    Lines count from 1, as an editor counts them: blank ones count, and a quoted cell may go over
    several.

    Raises:
        csv.Error: the text is no CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    last_line = 0

    for cells in reader:
        if cells and (len(cells) > 1 or cells[0].strip()):
            yield last_line + 1, cells
        last_line = reader.line_num


def line_of_row(content: bytes, row: int) -> int:
    """Return the line on which a row begins.

    This is slow, and meant for messages about a file that is known to be wrong.

    Args:
        content: the file's bytes.
        row: from 0; below the header, which is the first row that is not blank.
    """
    rows = numbered_rows(content.decode("utf-8-sig", errors="replace"))
    return next((line for number, (line, _) in enumerate(rows) if number == row + 1), 0)
