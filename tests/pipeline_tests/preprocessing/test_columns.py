"""Columns are recognised by name in any order, by number where they are only numbered, else not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocessing.columns import (
    ColumnMistake,
    choose_columns,
    column_names,
    column_order,
    first_number,
    nearest_name,
    usual_columns,
)

NAMES = st.lists(st.text(min_size=1, max_size=4).map(str.strip), unique=True, min_size=1)


@given(NAMES, st.randoms(use_true_random=False))
def test_any_order_of_the_same_names_is_put_in_order(names: list[str], random: object) -> None:
    given_names = list(names)
    random.shuffle(given_names)  # type: ignore[attr-defined]
    order = column_order(names, given_names)
    assert [given_names[place] for place in order] == names


@given(st.integers(1, 30), st.sampled_from([0, 1]), st.sampled_from([0, 1]))
def test_numbered_columns_are_taken_by_their_number(count: int, one: int, other: int) -> None:
    expected = [str(one + number) for number in range(count)]
    given_names = [str(other + number) for number in reversed(range(count))]
    assert column_order(expected, given_names) == list(reversed(range(count)))


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["0"], 0),
        (["1"], 1),
        (["2", "0", "1"], 0),
        (["01", "02"], None),
        (["1", "3"], None),
        (["2", "3"], None),
        (["0", "1", "a"], None),
        (["-1", "0"], None),
        (["0.0", "1.0"], None),
    ],
)
def test_a_header_is_numbered_only_if_it_has_every_number(
    names: list[str], first: int | None
) -> None:
    assert first_number(names) == first


@pytest.mark.parametrize(
    ("expected", "given_names", "message"),
    [
        (
            ["eda", "hr"],
            ["EDA", "hr"],
            "column 'eda' is missing; column 'EDA' (nearest: 'eda') is unknown",
        ),
        (["0", "1"], ["0", "1", "2"], "column '2' is unknown"),
        (["0", "1"], ["01", "02"], "columns '0', '1' are missing; columns '01' (nearest: "),
        (["a", "b"], ["0", "1"], "columns 'a', 'b' are missing; columns '0', '1' are unknown"),
        (["a"], ["a", "a"], "two columns are named 'a' (pandas would name the second one 'a.1')"),
        (["a", "b"], ["a", "a.1"], "'a.1' (pandas names a second 'a' so)"),
        (["0", "x"], ["1", "x"], "numbers count from 0 or from 1 only where every column has one"),
        (list("abcde"), ["x"], "columns 'a', 'b', 'c' and 2 more are missing"),
    ],
)
def test_what_does_not_fit_is_named(
    expected: list[str], given_names: list[str], message: str
) -> None:
    with pytest.raises(ColumnMistake) as caught:
        column_order(expected, given_names)
    assert message in str(caught.value)


def test_labels_are_compared_without_blanks_around_them() -> None:
    assert column_names([" a", "b ", 0, np.int64(1)]) == ("a", "b", "0", "1")
    assert nearest_name("Pupil_Left", ["gaze_x", "pupil_left"]) == "pupil_left"


def test_the_usual_columns_are_those_of_most_files_in_their_most_usual_order() -> None:
    headers = [("a", "b"), ("b", "a"), ("b", "a"), ("x", "y"), ("x", "y")]
    assert usual_columns(headers) == ("b", "a")
    assert usual_columns([("1", "2"), ("0", "1"), ("0", "1"), ("a", "b")]) == ("0", "1")


def _choose(expected: list[str], table: dict[str, list[float]], known: tuple[str, ...] = ()) -> str:
    """Return the chosen names, and after a bar what was set aside, each with its kind."""
    names, columns = list(table), [np.array(values, np.float64) for values in table.values()]
    times = 500 * np.arange(len(columns[0]), dtype=np.float64)
    chosen = choose_columns(expected, names, lambda place: columns[place], times, known)
    kinds = [f"{name}={kind}" for name, kind in chosen.set_aside.items()]
    return " ".join([*(names[place] for place in chosen.positions), "|", *kinds])


def test_what_is_no_feature_is_set_aside_unless_the_model_reads_it() -> None:
    rows = [0.5, 2.0, 1.0]
    table = {"Unnamed: 0": [0.0, 1.0, 2.0], "b": rows, "frame": [4.0, 5.0, 6.0], "a": rows}
    assert _choose(["a", "b"], table) == "a b | Unnamed: 0=row number frame=frame number"
    assert _choose(["frame", "a", "b"], table) == "frame a b | Unnamed: 0=row number"


def test_columns_that_only_training_knew_to_be_none_are_set_aside() -> None:
    table = {"n": [7.0, 7.0], "a": [1.0, 2.0]}
    assert _choose(["a"], table, known=("n",)) == "a | n=no feature in training"
    with pytest.raises(ColumnMistake, match="column 'n' is unknown"):
        _choose(["a"], table)


def test_a_row_number_beside_numbered_columns_does_not_hide_their_numbers() -> None:
    rising = [float(number) for number in range(30)]
    table = {"": rising, "1": rising, "2": rising[::-1]}
    assert _choose(["0", "1"], table) == "1 2 | =row number"
