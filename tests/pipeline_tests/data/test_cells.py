"""Cells of feature and label files: blanks are missing, and a mistake has its line and column."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.tables.csv_columns import MISSING
from pipeline.data.tables.file_lines import line_of_row
from pipeline.data.tables.parse import FeatureTable, parse_features, parse_labels
from pipeline.errors import InputError

HEADER = "timestamp,segment_id,a,b"


def features(*lines: str, header: str = HEADER, end: str = "\n") -> FeatureTable:
    """Parse a feature file of these lines."""
    return parse_features(end.join([header, *lines, ""]).encode(), "f.csv")


def message_of(*lines: str, header: str = HEADER) -> str:
    """Parse a feature file that has a mistake, and return the error's message."""
    with pytest.raises(InputError) as caught:
        features(*lines, header=header)
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 400
    return message


@pytest.mark.parametrize("blank", [*MISSING, " ", "   ", " NaN ", "\t", "Nan", "nAn", '" "', '"-"'])
def test_a_blank_cell_is_a_missing_value(blank: str) -> None:
    """It is interpolated in features, and unknown as a label."""
    table = features("0,1,1,5", f"500,1,{blank},6", "1000,1,3,7")
    assert table.values.tolist() == [[1, 5], [2, 6], [3, 7]]
    assert table.imputed.tolist() == [0, 1, 0]

    content = f"timestamp,value\n0,0.5\n500,{blank}\n1000,-0.5\n".encode()
    assert np.array_equal(
        parse_labels(content, "l.csv").values, [0.5, np.nan, -0.5], equal_nan=True
    )


def test_blank_cells_change_no_other_number() -> None:
    """A file that needs the slow way is read to the same bytes where its cells are the same."""
    random = np.random.default_rng(0)
    rows = [
        f"{500 * row},1,{first!r},{second!r}"
        for row, (first, second) in enumerate(random.normal(size=(50, 2)).tolist())
    ]
    quick, slow = features(*rows, "90000,1,nan,1"), features(*rows, "90000,1, - ,1")

    assert quick.values.tobytes() == slow.values.tobytes()
    assert quick.segment_ids.tolist() == slow.segment_ids.tolist()


@pytest.mark.parametrize("text", ["x", "1.2.3", "1 2", "12%", "0x10", "no"])
def test_any_other_text_is_a_mistake_with_its_line_and_column(text: str) -> None:
    message = message_of("0,1,1,5", "", "   ", '500,"1\n\n2",1,6', f"1000,1,?,{text}")

    assert message.startswith(f"f.csv, line 8, column 'b': {text!r} is no number")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["0,1,1,5", "", "inf,1,1,5"], "line 4, column 'timestamp': no timestamp in ms"),
        (["0,1,1,5", '500,"a\nb",1,5', ",1,1,5"], "line 5, column 'timestamp': no timestamp"),
        (["0,1,1,5", "", "0,1,1,5"], "lines 2 and 4, column 'timestamp': they have the timestamp"),
        (["", "9,1,1,5", '5,"a\n",1,5'], "lines 3 and 4, column 'timestamp': they go back"),
        (["0,1,1,5", "", "500,1,1"], "line 4: 3 cells, but the header has 4"),
    ],
)
def test_mistakes_in_rows_have_the_lines_of_the_file(lines: list[str], expected: str) -> None:
    assert expected in message_of(*lines)


def test_an_infinite_label_has_its_line_and_column() -> None:
    for lines, line in (("0,1\n\n500,-inf\n", 4), ("0,1\r\n500,inf\r\n", 3)):
        with pytest.raises(InputError, match=f"l.csv, line {line}, column 'Value': the label is"):
            parse_labels(f"timestamp,Value\n{lines}".encode(), "l.csv")


def test_lines_of_rows_are_those_that_an_editor_shows() -> None:
    content = '\ufeffa,b\r\n\r\n1,"x\r\ny"\r\n\r\n2,z\r\n'.encode()

    assert [line_of_row(content, row) for row in (0, 1)] == [3, 6]


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        (HEADER + ",", ["0,1,1,5,", "500,1,2,6,"]),
        (HEADER + ", ", ["0,1,1,5, ", "", "500,1,2,6,"]),
        (HEADER + ",,,", ["0,1,1,5,,,", "500,1,2,6,,,"]),
        (HEADER + ",", ["0,1,1,5", "500,1,2,6"]),
        (HEADER, ["0,1,1,5,", "500,1,2,6,"]),
        (HEADER + ",", ['0,"1",1,"5",', "500,1,2,6,"]),
    ],
)
def test_commas_at_the_end_of_lines_are_no_column(header: str, lines: list[str]) -> None:
    for end in ("\n", "\r\n"):
        table = features(*lines, header=header, end=end)
        assert table.columns == ("a", "b")
        assert table.values.tolist() == [[1, 5], [2, 6]]


def test_empty_cells_before_a_comma_at_the_end_stay_missing() -> None:
    table = features("0,1,1,5,", "500,1,2,,", "1000,1,3,7,", header=HEADER + ",")

    assert table.values.tolist() == [[1, 5], [2, 6], [3, 7]]
    assert table.imputed.tolist() == [0, 1, 0]


def test_a_column_without_a_name_that_has_cells_is_still_refused() -> None:
    message = message_of("0,1,1,5,", "500,1,2,6,8", header=HEADER + ",")

    assert "column 5 has no name" in message


@pytest.mark.parametrize(
    ("header", "lines", "expected"),
    [
        (HEADER, ['0,1,"0,5",1', '500,1,"0,6",1'], "line 2, column 'a': '0,5' has a decimal comma"),
        (HEADER, ['0,1,1,"-,5e3"'], "column 'b': '-,5e3' has a decimal comma"),
        (HEADER, ["0,1,0,5,0,7", "500,1,1,1,0,2"], "line 2: 6 cells, but the header has 4"),
        (HEADER.replace(",", ";"), ["0;1;0,5;0,7"], "It is separated by semicolons."),
        (HEADER.replace(",", "\t"), ["0\t1\t0.5\t0.7"], "It is separated by tabs."),
        (";".join(map(str, range(9999))), ["1;2"], "It is separated by semicolons."),
    ],
)
def test_decimal_commas_and_other_delimiters_are_named_with_the_command_that_converts_them(
    header: str, lines: list[str], expected: str
) -> None:
    message = message_of(*lines, header=header)

    assert expected in message
    assert "affectune corpus import SOURCE OUT" in message


@pytest.mark.parametrize("cell", ["0:00.5", "12:30", "00:01:59,25"])
def test_times_of_day_are_named_as_such(cell: str) -> None:
    place = f"line 2, column 'timestamp': '{cell}' is a time of day. Write seconds or ms"
    assert place in message_of(f'"{cell}",1,1,1')


@pytest.mark.parametrize("cell", ["31.05.2024 12:00:00", "05/31/2024 12:00", "soon"])
def test_what_is_no_timestamp_is_told_what_is(cell: str) -> None:
    message = message_of(f"{cell},1,1,1")
    assert f"line 2, column 'timestamp': '{cell}' is no number and no date." in message
    assert "2024-05-31 12:00:00" in message
    assert "leave it empty" not in message


@pytest.mark.parametrize("marks", [("yes", "No"), ("TRUE", "false"), ("y", "n"), ("t", "F")])
def test_words_mark_rows_as_missing(marks: tuple[str, str]) -> None:
    lines = "".join(f"{500 * row},1,{mark},{row + 1},2\n" for row, mark in enumerate(marks))
    table = parse_features(f"timestamp,segment_id,success,a,b\n{lines}".encode(), "f.csv")
    assert table.present.tolist() == [True, False]


def test_a_header_may_have_blanks_before_quotes() -> None:
    table = parse_features(b'"timestamp", "segment_id", "a, b"\n0,1,3\n500,1,4\n', "f.csv")
    assert table.columns == ("a, b",)
