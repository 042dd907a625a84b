"""What a reader understood of a file: tracks of numbers over time. Knows no file and no layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.input_errors import quoted_list
from pipeline.errors import InputError

Clock = Literal["session", "unix", "local", "lsl", "device"]
"""What times are counted from: the session's start; 1970 in UTC; 1970 in a time zone that the file
does not name; the start of the computer that recorded (XDF); or a moment that nobody states."""
TimeUnit = Literal["s", "ms", "us", "ns"]
SECONDS: Mapping[TimeUnit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Unit of time -> its length in seconds."""


@dataclass(frozen=True)
class ReadOptions:
    """What a person says about files that do not say it themselves.

    Attributes:
        columns: the columns to read, by name; empty for all that are measurements.
        time_column: the column that holds the times; "" where it is recognised by its name.
        time_unit: the unit of the times; "" where the format, the column's name or the distance of
            the rows says it.
        rate_hz: rows per second, of a table without times.
        decimal: "," or "." where numbers can be read both ways.
        face: the face to read where a file has several (OpenFace).
        timezone: IANA name of the time zone of date-times that state none, such as Europe/Berlin.
        is_label: whether the columns are labels, which may also rise in step with the time.
    """

    columns: tuple[str, ...] = ()
    time_column: str = ""
    time_unit: TimeUnit | Literal[""] = ""
    rate_hz: float | None = None
    decimal: Literal["", ",", "."] = ""
    face: int | None = None
    timezone: str = ""
    is_label: bool = False


@dataclass(frozen=True)
class Track:
    """Columns that share their times.

    Attributes:
        session: the session that the file states; "" where it states none.
        name: what the track may be called as a feature set; "" where the format suggests nothing.
        columns: names of the columns, unique.
        times_s: shape (rows,), finite, in seconds of `clock`.
        values: shape (rows, columns); NaN where missing.
        clock: what the times are counted from.
        units: column -> unit, where the file states it.
        time_note: how the times were understood, such as "frameTime, in s".
        num_missing_rows: rows that the file itself marks as unusable, and that are NaN here.
        rater: the rater that the file states; "" where it states none.
    """

    session: str
    name: str
    columns: tuple[str, ...]
    times_s: NDArray[np.float64]
    values: NDArray[np.float64]
    clock: Clock = "session"
    units: Mapping[str, str] = field(default_factory=dict)
    time_note: str = ""
    num_missing_rows: int = 0
    rater: str = ""

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.times_s)

    @property
    def rate_hz(self) -> float:
        """Return the rows per second, by the median distance of two; NaN with fewer than two."""
        steps_s = np.diff(self.times_s)
        step_s = float(np.median(steps_s)) if len(steps_s) else np.nan
        return 1 / step_s if step_s > 0 else np.nan

    def select(self, columns: Sequence[str]) -> Track:
        """Return the track with those of its columns that are named, in the order named."""
        chosen = [name for name in columns if name in self.columns]
        positions = [self.columns.index(name) for name in chosen]
        return replace(self, columns=tuple(chosen), values=self.values[:, positions])


@dataclass(frozen=True)
class Recording:
    """All tracks of a file or folder, and sentences about what was set aside or found odd."""

    tracks: tuple[Track, ...]
    notes: tuple[str, ...] = ()

    def select(self, columns: Sequence[str], where: str) -> Recording:
        """Return only the named columns, and the tracks that have one; all if none is named.

        Raises:
            InputError: no track has one of the names.
        """
        if not columns:
            return self

        available = [name for track in self.tracks for name in track.columns]
        unknown = [name for name in columns if name not in available]
        if unknown:
            raise InputError(
                f"{where}: there is no column {unknown[0]!r}. It has {quoted_list(available)}."
            )
        chosen = [track.select(columns) for track in self.tracks]
        return replace(self, tracks=tuple(track for track in chosen if track.columns))
