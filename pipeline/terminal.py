"""What is printed for people: names as they are, whatever rich or a terminal would read into them.

Everything that a command prints passes `Console`; JSON is escaped by its own rules.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import rich.console
from rich.segment import Segment
from rich.text import Text

from pipeline.credentials.masking import masked
from pipeline.names import printable_lines, printable_word


class Console(rich.console.Console):
    """rich's console, which shows what a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text with markup as it is shown."""
        # Before rich reads it: some control characters it would leave out without a word.
        return super().render_str(printable_lines(text), **options)

    def render(
        self, renderable: Any, options: rich.console.ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield the pieces of whatever is printed: the one way to the terminal."""
        for segment in super().render(renderable, options):
            if segment.control:  # rich's own, such as those of a table that is drawn anew
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


class PrintableFormatter(logging.Formatter):
    """Log records for a terminal: one line each, but for a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = printable_word(masked(record.message))
        return super().formatMessage(record)


def print_error(message: str) -> None:
    """Print what a command ends with, as one line on standard error."""
    text = Text.assemble(("Error:", "red"), f" {printable_word(masked(message))}")
    Console(stderr=True).print(text, soft_wrap=True, highlight=False)


def note(text: str) -> Text:
    """Return a note for a person."""
    return Text.assemble(("Note:", "yellow"), f" {printable_word(masked(text))}")


def title(text: str) -> Text:
    """Return the title of a table."""
    return Text(printable_word(text), style="table.title")


def cells(row: Iterable[str]) -> list[Text]:
    """Return the cells of a table's row, or its headings; they may have several lines."""
    return [Text(printable_lines(cell)) for cell in row]
