"""Times of tables: their unit is known, or they are refused; dates, clocks and their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import SECONDS, ReadOptions, TimeUnit
from pipeline.data.importing.text_tables.text import read_table
from pipeline.data.importing.text_tables.time_column import (
    TimeAxis,
    find_time_column,
    parse_date,
    read_times,
    to_time_axis,
    unit_in_name,
)
from pipeline.errors import InputError

UNITS: list[TimeUnit] = ["s", "ms", "us", "ns"]


def axis_or_none(numbers: NDArray[np.float64]) -> TimeAxis | None:
    """Return the times, or None where they are refused because of their unit."""
    try:
        return to_time_axis(numbers, "timestamp", "", "x")
    except InputError as error:
        if "--time-unit" not in str(error):
            raise
    return None


@given(
    st.sampled_from(UNITS),
    st.sampled_from([0.001, 0.01, 1 / 30, 0.04, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]),
    st.integers(2, 3000),
)
def test_a_unit_is_never_guessed_wrong(unit: TimeUnit, period_s: float, num_rows: int) -> None:
    times_s = np.arange(num_rows) * period_s
    numbers = np.asarray(times_s / SECONDS[unit], np.float64)
    axis = axis_or_none(numbers)
    if axis is None:
        return

    # A recording of a few rows may be of any length; a usual one is read as what it is.
    if times_s[-1] > 30:
        np.testing.assert_allclose(axis.times_s, times_s, rtol=1e-9)


@pytest.mark.parametrize(
    ("period", "num_rows", "unit"),
    [(0.04, 7501, "s"), (40, 7501, "ms"), (500, 600, "ms"), (1, 300, "s"), (33333, 9000, "us")],
)
def test_usual_recordings_need_no_unit(period: float, num_rows: int, unit: TimeUnit) -> None:
    numbers: NDArray[np.float64] = np.arange(num_rows, dtype=np.float64) * period
    axis = to_time_axis(numbers, "timestamp", "", "x")
    assert axis.times_s[1] == pytest.approx(period * SECONDS[unit])


@pytest.mark.parametrize(
    ("start", "unit"),
    [(1.56e9, "s"), (1.56e12, "ms"), (1.56e15, "us"), (1.56e18, "ns")],
)
def test_times_since_1970_are_recognised_by_their_size(start: float, unit: TimeUnit) -> None:
    numbers = np.asarray(start + np.arange(5) * 0.5 / SECONDS[unit], np.float64)
    axis = to_time_axis(numbers, "timestamp", "", "x")
    assert axis.clock == "unix"
    assert axis.times_s[0] == pytest.approx(1.56e9)
    assert np.diff(axis.times_s) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("Time(sec)", "s"), ("time_ms", "ms"), ("timestamp [µs]", "us"), ("t_ns", "ns"),
        ("timeMs", "ms"), ("milliseconds", "ms"), ("timestamp", ""), ("t", ""), ("s", ""),
    ],
)  # fmt: skip
def test_a_unit_in_the_name_counts(name: str, unit: str) -> None:
    assert unit_in_name(name) == unit


@pytest.mark.parametrize("name", ["time (min)", "time_hours", "timeFrames", "time [samples]"])
def test_units_that_are_not_read_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="are not read"):
        to_time_axis(np.arange(100) / 60, name, "", "x")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0.0, 1.0, 2.0], "s or ms"),
        ([45000.5, 45000.5000116], "--time-unit"),
        ([20230612140503, 20230612140504], "dates without dashes"),
    ],
)
def test_times_of_an_unclear_unit_are_refused(numbers: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_time_axis(np.array(numbers), "timestamp", "", "x")


@pytest.mark.parametrize(
    ("text", "seconds", "clock"),
    [
        ("2023-06-12 14:05:03.5+02:00", 1686571503.5, "unix"),
        ("2023-06-12T12:05:03,500Z", 1686571503.5, "unix"),
        ("2023-06-12 12:05:03", 1686571503, "local"),
        ("12.06.2023 12:05:03,25", 1686571503.25, "local"),
        ("00:01:02.5", 62.5, "session"),
    ],
)
def test_dates_with_times_are_read(text: str, seconds: float, clock: str) -> None:
    assert parse_date(text, "") == (seconds, clock)


def test_a_time_zone_puts_dates_on_the_clock_of_all() -> None:
    assert parse_date("2023-06-12 14:05:03", "Europe/Berlin") == (1686571503, "unix")
    with pytest.raises(InputError, match="no time zone 'Europe/Bern'"):
        parse_date("2023-06-12 14:05:03", "Europe/Bern")


@pytest.mark.parametrize("cell", ["06/12/2023 14:05:03", "yesterday", "2023-06-12"])
def test_a_date_that_may_be_two_is_refused_with_its_line(cell: str) -> None:
    lines = f"timestamp,a\n2023-06-12 14:05:02,1\n{cell},2\n"
    table = read_table(lines, "x.csv", delimiter=",")
    with pytest.raises(InputError, match=r"x\.csv, line 3, column 'timestamp'.*is no time"):
        read_times(table, 0, ReadOptions())


def test_two_columns_of_times_are_not_chosen_from() -> None:
    with pytest.raises(InputError, match="'time', 'frameTime' may all be the times"):
        find_time_column(["time", "frameTime", "a"], ReadOptions(), "x")

    named = ReadOptions(time_column="frameTime")
    assert find_time_column(["time", "frameTime", "a"], named, "x") == 1
