"""No word of somebody else reaches a terminal as a command to it, whatever prints it."""

from __future__ import annotations

import io
import logging
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.names import printable_lines, printable_word
from pipeline.terminal import Console, PrintableFormatter, cells, note, print_error, title

OBEYED = (
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b31m",
    "\r",
    "\b\b",
    "\x7f",
    "\u202eexe",
    "\u2066",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\xad",
    "\U000e0041",
    "\x85",
    "\u2028",
    "\x00",
)
words = st.lists(st.one_of(st.sampled_from(OBEYED), st.text(max_size=5)), max_size=8).map("".join)

PRINTS: dict[str, Callable[[Console, str], None]] = {
    "text": lambda console, word: console.print(Text(word), soft_wrap=True),
    "markup": lambda console, word: console.print(f"[red]Of[/] {escape(word)}"),
    "plain": lambda console, word: console.print(word, markup=False, highlight=False),
    "note": lambda console, word: console.print(note(word)),
    "table": lambda console, word: console.print(table(word)),
    "panel": lambda console, word: console.print(Panel(Text(word), title=Text(word))),
    "object": lambda console, word: console.print([word], {word: 1}),
    "log": lambda console, word: console.log(word, markup=False),
    "rule": lambda console, word: console.rule(Text(word)),
}


def table(word: str) -> Table:
    """Return a table with a word everywhere."""
    made = Table(title=title(word), caption=Text(word))
    made.add_column(*cells([word]))
    made.add_row(*cells([word]))
    return made


def unseen(text: str) -> set[str]:
    """Return the characters in a text that are none to look at, lines apart."""
    categories = ("Cc", "Cf", "Cs", "Zl", "Zp")
    visible_marks = range(0x600, 0x606), range(0x6DD, 0x6DE), range(0x70F, 0x710)
    return {
        character
        for character in text
        if unicodedata.category(character) in categories
        and character not in "\n\t"
        and not any(ord(character) in marks for marks in visible_marks)
        # Of scripts that few read, and that are no marks of direction.
        and not 0x890 <= ord(character) <= 0x8E2
        and not 0x110BD <= ord(character) <= 0x1D17A
    }


@pytest.mark.parametrize("kind", PRINTS)
@given(words)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_whatever_is_printed_a_terminal_obeys_none_of_it(kind: str, word: str) -> None:
    output = io.StringIO()
    PRINTS[kind](Console(file=output, width=60), word)
    assert not unseen(output.getvalue())


def test_what_a_terminal_would_obey_is_seen() -> None:
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=True, color_system="standard")
    console.print("[red]a\x1b[2Jb[/]", "c\x07d", Text("e\u202ef"), highlight=False)
    assert "a\\x1b[2Jb" in output.getvalue()
    assert "c\\x07d" in output.getvalue()
    assert "e\\u202ef" in output.getvalue()
    assert output.getvalue().startswith("\x1b[31m")  # rich's own colours are


@given(words)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_word_stays_one_line_and_what_is_ordinary_stays(word: str) -> None:
    shown = printable_word(word)
    assert not unseen(shown)
    assert len(shown.splitlines()) <= 1
    assert printable_word(shown) == shown
    assert printable_lines("héllo 声 \U0001f600\n\tx") == "héllo 声 \U0001f600\n\tx"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("no 'a\nError: gone\r\x1b[1A'")
    assert capsys.readouterr().err == "Error: no 'a\\nError: gone\\r\\x1b[1A'\n"


def test_a_log_record_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "of %s", ("a\nb\x1bc",), None)
    assert PrintableFormatter().format(record) == "of a\\nb\\x1bc"
