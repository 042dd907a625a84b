"""What is written as CSV reads back the same, with Python's reader and with pandas."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.storage.csv_text import csv_lines, csv_text

texts = st.text(st.sampled_from("ab07,;\"\n\r\t \\'é") | st.characters(codec="utf-8"))
cells = texts.filter(lambda text: "\0" not in text)


@given(st.lists(st.lists(cells, min_size=2, max_size=4), min_size=1))
@example([["007", "a,b"], ['say "x"', "two\nlines"], ["\r", "=1+1"]])
def test_texts_read_back_as_they_were(rows: list[list[str]]) -> None:
    assert list(csv.reader(io.StringIO(csv_lines(rows), newline=""))) == rows


@given(st.lists(st.floats(), min_size=1), st.sampled_from([np.float32, np.float64]))
def test_numbers_read_back_exactly(numbers: list[float], dtype: type[np.floating]) -> None:
    with np.errstate(over="ignore"):
        values = np.array(numbers).astype(dtype)
    text = csv_text({"timestamp": np.arange(len(values)), "value": values})

    table = pd.read_csv(io.StringIO(text))
    np.testing.assert_array_equal(table["value"].to_numpy(np.float64), values.astype(np.float64))
    np.testing.assert_array_equal(table["timestamp"], np.arange(len(values)))
    read = [float(row["value"]) for row in csv.DictReader(io.StringIO(text))]
    np.testing.assert_array_equal(read, values.astype(np.float64))


def test_ordinary_cells_have_no_quotes() -> None:
    text = csv_text({"timestamp": [0, 500], "value": [0.5, -1e-9], "segment_id": ["1", "02"]})
    assert text == "timestamp,value,segment_id\n0,0.5,1\n500,-1e-09,02\n"


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        csv_text({"a": [1], "b": [1, 2]})
