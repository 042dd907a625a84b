"""Names in a terminal: shown as they are, whatever rich would read into brackets and colons."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from pipeline.credentials.masking import masked


def note(text: str) -> Text:
    """Return a note for a person."""
    return Text.assemble(("Note:", "yellow"), f" {masked(text)}")


def title(text: str) -> Text:
    """Return the title of a table."""
    return Text(text, style="table.title")


def cells(row: Iterable[str]) -> list[Text]:
    """Return the cells of a table's row, or its headings."""
    return [Text(cell) for cell in row]
