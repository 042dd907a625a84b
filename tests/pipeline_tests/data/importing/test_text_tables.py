"""Tables of text of any encoding, delimiter and decimal mark, and what is refused."""

from __future__ import annotations

import codecs

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.importing.text_tables.text import (
    decimal_mark,
    decode_text,
    find_delimiter,
    read_table,
    to_numbers,
)
from pipeline.errors import InputError

LINES = "time;Größe;µS\n0,5;1;2\n"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (LINES.encode("utf-8-sig"), ""),
        (codecs.BOM_UTF16_LE + LINES.encode("utf-16-le"), "UTF-16"),
        (codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"), "UTF-16"),
        (LINES.encode("utf-16-le"), "without a byte order mark"),
        (LINES.encode("utf-16-be"), "without a byte order mark"),
        (LINES.encode("cp1252"), "Windows-1252"),
        (LINES.replace("\n", "\r\n").encode(), ""),
        (LINES.replace("\n", "\r").encode(), ""),
    ],
)
def test_a_text_is_the_same_in_every_encoding(content: bytes, note: str) -> None:
    text = decode_text(content, "x.csv")
    assert text.text == LINES
    assert note in text.note


def read_all(text: str, delimiter: str) -> list[list[float]]:
    """Return the numbers of all columns."""
    table = read_table(text, "x", delimiter=delimiter)
    decimal = decimal_mark(table)
    return [to_numbers(table, place, decimal).tolist() for place in range(len(table.header))]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputError, match=r"x\.csv is no text file"):
        decode_text(bytes(range(256)) * 20, "x.csv")


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a;b", "1,5;2,5", "3,5;4,5"], ";"),
        (["a\tb", "1,5\t2,5"], "\t"),
        (["a,b", "1,2"], ","),
        (['"a;b",c', "1,2"], ","),
        (["a|b|c", "1|2|3"], "|"),
        (["a   b", "1 2", "3     4"], " "),
        (["one", "1", "2"], ""),
    ],
)
def test_a_delimiter_divides_every_line_alike(lines: list[str], delimiter: str) -> None:
    assert find_delimiter(lines) == delimiter


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=2, max_size=8),
    st.sampled_from([(";", ","), ("\t", ","), (",", "."), (";", "."), ("|", ".")]),
)
def test_numbers_come_back_whatever_divides_them(
    numbers: list[float], marks: tuple[str, str]
) -> None:
    delimiter, decimal = marks
    rows = [f"{number!r}".replace(".", decimal) for number in numbers]
    # A second column proves the decimal comma where the first alone would not.
    text = "\n".join([f"a{delimiter}b", *(f"{row}{delimiter}0{decimal}5" for row in rows)])
    table = read_table(text, "x", delimiter=delimiter)

    read = to_numbers(table, 0, decimal_mark(table))
    np.testing.assert_array_equal(read, numbers)


@pytest.mark.parametrize(
    ("text", "delimiter", "message"),
    [
        ("a,b\n1,2\n3,4,5\n", ",", "x, line 3: 3 cells between commas, but the header has 2"),
        ("a,b\n\n1,2\n3\n", ",", "x, line 4: 1 cell between"),
        ("a;b\n1,5;2\n2,5;x\n", ";", r"x, line 3, column 'b': 'x' is no number"),
        ("a;b\n1,5;2\n2.5;3\n", ";", r"line 3, column 'a': '2\.5' has a point"),
        ("a;b\n1.234,5;2\n", ";", "is no number"),
        ("a\tb\n1,234\t2\n", "\t", r"'1,234' may be a fraction or a thousand"),
        ("a,a\n1,2\n", ",", "2 columns are named 'a'"),
        ("a,b\n", ",", "x has no rows"),
    ],
)
def test_a_cell_that_is_not_understood_is_named(text: str, delimiter: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_all(text, delimiter)


def test_a_person_can_say_that_a_comma_is_a_decimal_mark() -> None:
    table = read_table("a\tb\n1,234\t2\n", "x", delimiter="\t")
    assert to_numbers(table, 0, ",").tolist() == [1.234]


def test_missing_cells_of_many_programs_are_missing() -> None:
    cells = ["?", "NaN", "", "#N/A", "null", "-nan(ind)", "5"]
    table = read_table("a,b\n" + "\n".join(f"{cell},1" for cell in cells), "x", delimiter=",")
    read = to_numbers(table, 0)
    assert np.isnan(read[:-1]).all()
    assert read[-1] == 5
