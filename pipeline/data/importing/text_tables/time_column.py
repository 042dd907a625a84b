"""Finds the times of a table and their unit, or refuses to guess. Knows no formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import SECONDS, Clock, ReadOptions, TimeUnit
from pipeline.data.importing.text_tables.text import (
    Table,
    decimal_mark,
    is_text,
    normalised,
    to_numbers,
)
from pipeline.data.input_errors import quoted_list
from pipeline.errors import InputError

TIME_NAMES = (
    "timestamp", "timestamps", "time", "times", "frametime", "datetime", "date", "t", "ts", "ds",
    "unixtime", "unixtimestamp", "unix", "epoch", "elapsed", "elapsedtime", "zeit", "zeitstempel",
    "uhrzeit", "localtimestamp", "seconds", "milliseconds", "microseconds", "nanoseconds",
)  # fmt: skip
"""Names of columns of times, letters only; a unit may follow, as in time_ms."""
UNIT_NAMES: dict[TimeUnit, tuple[str, ...]] = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "millis", "millisecond", "milliseconds"),
    "us": ("us", "µs", "μs", "usec", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nanosecond", "nanoseconds"),
}
EPOCH_SECONDS = (8e8, 4e9)
"""Seconds since 1970 from 1995 to 2096: times of a recording with a clock."""
DAY_S = 86400.0
PERIODS_S = (0.0004, 30.0)
"""Rows of features and labels are at least and at most so far apart."""
LATEST_START_S = 3600.0
"""Times of the form 00:01:02 that begin later are those of a clock on the wall."""
LENGTHS_S = (5.0, 43200.0)
"""A session lasts at least and at most so long."""

OTHER_UNITS = re.compile(
    r"(?<![a-z])(min|mins|minutes?|h|hrs?|hours?|days?|frames?|samples?)(?![a-z])"
)
"""Words for units of time in a column's name that are not read."""
CLOCK_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([.,]\d+)?")
DOTTED_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})[ T](.+)")
SLASHED_DATE = re.compile(r"\d{1,4}/\d{1,2}/\d{1,4}")


@dataclass(frozen=True)
class TimeAxis:
    """The times of a table.

    Attributes:
        times_s: shape (rows,), in seconds of `clock`; finite, not yet ordered.
        clock: what they are counted from.
        note: how they were understood.
    """

    times_s: NDArray[np.float64]
    clock: Clock
    note: str


def find_time_column(header: Sequence[str], options: ReadOptions, where: str) -> int | None:
    """Return the position of the column of times; None where no name is one of a time.

    Raises:
        InputError: the column that a person named is not there, or two columns may be it.
    """
    if options.time_column:
        if options.time_column not in header:
            raise InputError(
                f"{where}: there is no column {options.time_column!r}. "
                f"It has {quoted_list(list(header))}."
            )
        return list(header).index(options.time_column)

    found = [position for position, name in enumerate(header) if _is_time_name(name)]
    if len(found) > 1:
        names = [header[position] for position in found]
        raise InputError(
            f"{where}: {quoted_list(names)} may all be the times. Name one with --time-column."
        )
    return found[0] if found else None


def _is_time_name(name: str) -> bool:
    text = normalised(name)
    units = [unit for names in UNIT_NAMES.values() for unit in names]
    return text in TIME_NAMES or any(
        text == f"{time}{unit}" for time in TIME_NAMES for unit in units
    )


def read_times(
    table: Table, position: int, options: ReadOptions, unit: TimeUnit | Literal[""] = ""
) -> TimeAxis:
    """Read the times of a table: numbers of any unit, dates with times, or times of the day.

    Args:
        table: the table.
        position: of the column of times.
        options: what a person says about it.
        unit: the unit that the format states; "" where it states none.

    Raises:
        InputError: a time is missing or no time, or the unit may be one or another.
    """
    name = table.header[position]
    cells = table.columns[position]
    if is_text(table, position):
        return _read_dates(table, position, options)

    numbers = to_numbers(table, position, options.decimal or decimal_mark(table))
    missing = np.flatnonzero(~np.isfinite(numbers))
    if len(missing):
        cell = cells[int(missing[0])].as_py()
        raise InputError(
            f"{table.where}, line {table.line_of(int(missing[0]))}, column {name!r}: {cell!r} is "
            "no time. Complete the column, or remove the row."
        )
    return to_time_axis(numbers, name, options.time_unit or unit, table.where)


def to_time_axis(
    numbers: NDArray[np.float64], name: str, unit: TimeUnit | Literal[""], where: str
) -> TimeAxis:
    """Turn numbers into times.

    Args:
        numbers: shape (rows,), finite.
        name: the column's name, which may have a unit.
        unit: the unit, where it is known; else "".
        where: how messages name the file.

    Raises:
        InputError: the unit is neither known nor in the name, and the numbers may be of several.
    """
    other = OTHER_UNITS.search(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if other and not unit:
        raise InputError(
            f"{where}: the times {name!r} are in {other[0]}, which are not read. Write s or ms."
        )
    if len(numbers) and not unit and 1.9e13 < numbers[0] < 2.1e13:
        raise InputError(
            f"{where}: the times {name!r} look like dates without dashes ({numbers[0]:.0f}). "
            "Write 2024-12-31 23:59:59."
        )
    reason = "as stated" if unit else "by its name"
    unit = unit or unit_in_name(name)
    if not unit:
        unit, reason = _infer_unit(numbers, name, where)

    times_s = numbers * SECONDS[unit]
    clock: Clock = "session"
    if len(times_s) and EPOCH_SECONDS[0] < times_s[0] < EPOCH_SECONDS[1]:
        clock, reason = "unix", f"{reason}, since 1970"
    elif len(times_s) and times_s[0] > DAY_S:
        clock, reason = "device", f"{reason}, from a start that the file does not state"
    return TimeAxis(times_s, clock, f"{name!r} in {unit} ({reason})")


def unit_in_name(name: str) -> TimeUnit | Literal[""]:
    """Return the unit that a column's name has: "Time(sec)" or "time_ms"; "" where it has none."""
    words = re.split(r"[^a-zµμ]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    words = [word for word in words if word]
    bracketed = re.findall(r"[(\[]\s*(\S+?)\s*[)\]]", name.lower())
    if len(words) < 2 and not bracketed and normalised(name) not in TIME_NAMES[-4:]:
        return ""  # a column that is only called "s" or "t" says nothing

    for word in (*bracketed, *reversed(words)):
        for unit, names in UNIT_NAMES.items():
            if word in names:
                return unit
    return ""


def _infer_unit(numbers: NDArray[np.float64], name: str, where: str) -> tuple[TimeUnit, str]:
    """Return the only unit that makes a plausible recording of the numbers, and why."""
    for unit, seconds in SECONDS.items():
        if len(numbers) and EPOCH_SECONDS[0] < numbers[0] * seconds < EPOCH_SECONDS[1]:
            return unit, "by its size"

    steps = np.diff(np.unique(numbers))
    step = float(np.median(steps)) if len(steps) else 0.0
    length = float(np.ptp(numbers)) if len(numbers) else 0.0
    plausible: list[TimeUnit] = [
        unit
        for unit, seconds in SECONDS.items()
        if PERIODS_S[0] <= step * seconds <= PERIODS_S[1] and length * seconds <= LENGTHS_S[1]
    ]
    if len(plausible) > 1:
        plausible = [unit for unit in plausible if length * SECONDS[unit] >= LENGTHS_S[0]]
    if len(plausible) == 1:
        return plausible[0], f"by the distance of its rows, {step:g}"

    advice = "they may be s or ms. Say which"
    if not plausible:
        advice = (
            "that is no recording in s or ms. Write the times in s or ms, or say which they are"
        )
    raise InputError(
        f"{where}: the times {name!r} go from {numbers.min():.15g} to {numbers.max():.15g}, "
        f"{step:g} apart: {advice}: --time-unit s (or ms, us, ns)."
    )


def _read_dates(table: Table, position: int, options: ReadOptions) -> TimeAxis:
    """Read dates with times, or times of the day."""
    name = table.header[position]
    times_s = np.empty(table.num_rows)
    clocks: set[Clock] = set()
    for row, cell in enumerate(table.columns[position].to_pylist()):
        where = f"{table.where}, line {{}}, column {name!r}"
        parsed = parse_date(cell, options.timezone)
        if parsed is None:
            advice = (
                "Write dates as 2024-12-31 23:59:59.5: with slashes nobody can tell day and month."
                if SLASHED_DATE.match(cell)
                else "Write 2024-12-31 23:59:59.5, or a number; a row without a time must go."
            )
            line = table.line_of(row)
            raise InputError(f"{where.format(line)}: {cell!r} is no time. {advice}")
        times_s[row] = parsed[0]
        clocks.add(parsed[1])

    if len(clocks) > 1:
        raise InputError(
            f"{table.where}, column {name!r}: some times have a date or a time zone, others not. "
            "Write all alike."
        )
    clock = clocks.pop()
    if clock == "session" and times_s[0] >= LATEST_START_S:
        # The time of the day: a recording that begins at 14:05:03 is not 14 hours long.
        return TimeAxis(times_s, "device", f"{name!r} as times of a day")
    return TimeAxis(times_s, clock, f"{name!r} as dates and times")


def parse_date(text: str, timezone: str) -> tuple[float, Clock] | None:
    """Parse a date with a time, or a time of the day.

    Args:
        text: such as "2023-06-12 14:05:03.902+02:00", "12.06.2023 14:05:03" or "00:01:02.5".
        timezone: IANA name of the zone of dates that state none; "" where it is unknown.

    Returns:
        Seconds and what they are counted from; None where the text is neither.
    """
    match = CLOCK_TIME.fullmatch(text)
    if match:
        hours, minutes, seconds, fraction = match.groups()
        of_a_second = float((fraction or ".0").replace(",", "."))
        return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + of_a_second, "session"

    match = DOTTED_DATE.fullmatch(text)
    if match:
        day, month, year, time = match.groups()
        text = f"{year}-{int(month):02}-{int(day):02} {time}"
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    if len(text) < len("2024-12-31 00:00"):
        return None  # a date without a time

    if moment.tzinfo is None and timezone:
        moment = moment.replace(tzinfo=find_zone(timezone))
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp(), "local"
    return moment.timestamp(), "unix"


def find_zone(name: str) -> ZoneInfo:
    """Return the time zone with a name.

    Raises:
        InputError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"There is no time zone {name!r}. Name one such as Europe/Berlin or UTC."
        ) from None


def raise_unless_ascending(times_s: NDArray[np.float64], where: str) -> None:
    """Raise where a time is before the one above it. Equal times are left to resampling.

    Raises:
        InputError: the times go back.
    """
    backward = np.flatnonzero(np.diff(times_s) < 0)
    if len(backward):
        row = int(backward[0])
        raise InputError(
            f"{where}: rows {row + 1} and {row + 2} go back in time, from {times_s[row]:.15g} s to "
            f"{times_s[row + 1]:.15g} s. Sort the file by time; several recordings in one file "
            "need a column 'session'."
        )
