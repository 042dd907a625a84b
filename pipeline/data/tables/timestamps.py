"""Reads the timestamps of a file as they are given: numbers of any unit, or dates and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.corpus import Times, TimeUnit
from pipeline.data.tables.csv_columns import MISSING, read_columns
from pipeline.data.tables.file_lines import line_of_row
from pipeline.errors import InputError
from pipeline.preprocessing.align import whole_if_possible

MS_PER_UNIT: Mapping[TimeUnit, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
UNITS_PER_MS: Mapping[TimeUnit, int] = {"s": 0, "ms": 1, "us": 1_000, "ns": 1_000_000}
"""How many whole units a millisecond has; 0 where it has none."""
LATEST = 2.0**53
"""Beyond this a float no longer counts single units. Whole numbers may go further."""
WHOLE = r"^-?([0-9]{1,18}|[1-8][0-9]{18})$"
"""Whole numbers that 64 bits hold."""
DATE_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"
KEPT_DECIMALS = 3
"""Of a millisecond, where seconds become milliseconds: 0.007 s is 7 ms, and not a bit more."""


def read_table(
    header: Sequence[str], body: bytes, time: int, types: Mapping[int, pa.DataType], where: str
) -> tuple[dict[int, pa.Array], pa.Array]:
    """Read some columns, and the column of timestamps as text.

    Args:
        header, body, where: see `read_columns`.
        time: position of the timestamps.
        types: position -> type of the other columns.

    Returns:
        Position -> column, and the stripped text of every timestamp, as an array of Arrow.

    Raises:
        InputError: as `read_columns`.
    """
    cells = read_columns(header, body, {time: pa.string(), **types}, where)
    texts = pc.utf8_trim_whitespace(cells.pop(time))
    if not _is_date_time(texts):
        numbers = pc.if_else(pc.is_in(texts, pa.array(MISSING)), "0", texts)
        try:
            pc.cast(numbers, pa.float64())
        except pa.ArrowInvalid:
            # Read again as numbers: that names the cell.
            read_columns(header, body, {time: pa.float64()}, where)
            raise InputError(f"{where}: a timestamp is no number. Correct the column.") from None
    return cells, texts


def parse_timestamps(texts: pa.Array, content: bytes, where: str) -> tuple[Times, bool]:
    """Parse the timestamps of a file, which must be strictly ascending.

    Args:
        texts: shape (rows,), at least one.
        content: the file's bytes, for messages.
        where: how messages name the file.

    Returns:
        Timestamps in the unit of the file, and whether they are dates and times: then they are
        nanoseconds since 1970.

    Raises:
        InputError: a timestamp is missing, no number, or not after the one before it.
    """
    is_date_time = _is_date_time(texts)
    times = (_parse_date_times if is_date_time else _parse_numbers)(texts, content, where)

    not_ascending = np.flatnonzero(np.diff(times) <= 0)
    if len(not_ascending):
        row = int(not_ascending[0])
        first, second = texts[row].as_py(), texts[row + 1].as_py()
        mistake = _describe_order(first, second, bool(times[row] == times[row + 1]))
        lines = f"lines {line_of_row(content, row)} and {line_of_row(content, row + 1)}"
        raise InputError(f"{where}, {lines}, column 'timestamp': they {mistake}.")
    return times, is_date_time


def to_ms(times: Times, unit: TimeUnit) -> Times:
    """Return timestamps in ms, strictly ascending as before; integers where all are whole."""
    if unit == "ms":
        return times

    num_per_ms = UNITS_PER_MS[unit]
    if num_per_ms and times.dtype == np.int64:
        whole, rest = np.divmod(times, num_per_ms)
        return whole + rest / num_per_ms if rest.any() else whole

    exact_ms = times.astype(np.float64) * MS_PER_UNIT[unit]
    rounded_ms: NDArray[np.float64] = np.round(exact_ms, KEPT_DECIMALS)
    if (np.diff(rounded_ms) <= 0).any():
        return whole_if_possible(exact_ms)
    return whole_if_possible(rounded_ms)


def from_ms(times_ms: Times, unit: TimeUnit) -> Times:
    """Return timestamps in a unit, from ms."""
    if unit == "ms":
        return times_ms
    if unit == "s":
        return whole_if_possible(times_ms / MS_PER_UNIT["s"])
    return np.rint(times_ms * UNITS_PER_MS[unit]).astype(np.int64)


def to_text(times: Times, *, is_date_time: bool) -> NDArray[np.str_]:
    """Return timestamps of a file as text that reads to the same timestamps."""
    if is_date_time:
        return np.datetime_as_string(times.astype("datetime64[ns]"))
    return np.array([str(time) for time in times.tolist()], np.str_)


def _parse_numbers(cells: pa.Array, content: bytes, where: str) -> Times:
    is_missing = pc.is_in(cells, pa.array(MISSING)).to_numpy(zero_copy_only=False)
    if is_missing.any():
        _raise_if_invalid(is_missing, content, where)
    if pc.all(pc.match_substring_regex(cells, WHOLE)).as_py():
        whole: NDArray[np.int64] = pc.cast(cells, pa.int64()).to_numpy(zero_copy_only=False)
        return whole

    times = pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False)
    _raise_if_invalid(~(np.abs(times) < LATEST), content, where)
    return whole_if_possible(times)


def _is_date_time(texts: pa.Array) -> bool:
    return len(texts) > 0 and bool(pc.match_substring_regex(texts[0:1], DATE_TIME)[0].as_py())


def _parse_date_times(texts: pa.Array, content: bytes, where: str) -> NDArray[np.int64]:
    times = pd.to_datetime(
        pd.Series(texts.to_pylist()), format="ISO8601", errors="coerce", utc=True
    )
    _raise_if_invalid(times.isna().to_numpy(), content, where)
    nanoseconds: NDArray[np.int64] = (
        times.dt.tz_localize(None).to_numpy("datetime64[ns]").astype(np.int64)
    )
    return nanoseconds


def _raise_if_invalid(is_invalid: NDArray[np.bool_], content: bytes, where: str) -> None:
    rows = np.flatnonzero(is_invalid)
    if len(rows):
        line = line_of_row(content, int(rows[0]))
        raise InputError(
            f"{where}, line {line}, column 'timestamp': no timestamp in ms or another unit. "
            "Complete the column."
        )


def _describe_order(first: str, second: str, is_equal: bool) -> str:
    """Describe two timestamps that do not ascend."""
    if is_equal:
        return f"have the timestamp {first} twice. Keep one of them"
    return f"go back from timestamp {first} to {second}. Sort the file by time"
