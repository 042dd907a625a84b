"""When sessions began, on the clocks of what was imported, so that later imports fit.

metadata/origins.csv has a line for each session and clock: session,clock,start_s,start.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import Clock, Track
from pipeline.data.importing.text_tables.time_column import parse_date
from pipeline.errors import InputError

ORIGINS_FILE = "metadata/origins.csv"
HEADER = ("session", "clock", "start_s", "start")
CLOCK_TITLES: Mapping[Clock, str] = {
    "session": "the session's start",
    "unix": "1970 (UTC)",
    "local": "1970 in a time zone that the file does not state",
    "lsl": "the start of the recording computer (LSL)",
    "device": "a moment that the file does not state",
}

LONGEST_S = 43200.0
"""No row is farther from the start of its session."""

Origins = dict[tuple[str, Clock], float]
"""Session and clock -> when the session began, in seconds of the clock."""


def parse_origins(content: bytes, where: str) -> Origins:
    """Parse what `write_origins` writes.

    Raises:
        InputError: the file was changed to something else.
    """
    origins: Origins = {}
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    for row in rows:
        if not row or row[0] == HEADER[0]:
            continue
        try:
            session, clock, start_s = row[:3]
            if clock not in get_args(Clock):
                raise ValueError(clock)
            origins[session, clock] = float(start_s)  # type: ignore[index]
        except ValueError:
            raise InputError(
                f"{where}, line {rows.line_num}: {','.join(row)!r} is not "
                f"{','.join(HEADER)}. Correct the line, or import into a new folder."
            ) from None
    return origins


def format_origins(origins: Mapping[tuple[str, Clock], float]) -> str:
    """Return the file's content."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for (session, clock), start_s in sorted(origins.items()):
        writer.writerow([session, clock, repr(start_s), describe_start(clock, start_s)])
    return text.getvalue()


def describe_start(clock: Clock, start_s: float) -> str:
    """Return a start as a date; "" where the clock knows none."""
    if clock not in ("unix", "local"):
        return ""
    zone = "Z" if clock == "unix" else ""
    return datetime.fromtimestamp(start_s, UTC).replace(tzinfo=None).isoformat() + zone


def parse_start(text: str, timezone: str) -> tuple[float, Clock | None]:
    """Parse `--start`: seconds on the clock of the source, or a date with a time.

    Returns:
        The start, and its clock; None for plain seconds.

    Raises:
        InputError: it is neither.
    """
    try:
        return float(text), None
    except ValueError:
        parsed = parse_date(text, timezone)
    if parsed is None or parsed[1] == "session":
        raise InputError(
            f"--start {text!r} is neither seconds nor a date such as 2024-12-31T23:59:59."
        )
    return parsed


def find_origin(
    session: str,
    clock: Clock,
    tracks: Sequence[Track],
    origins: Mapping[tuple[str, Clock], float],
    start: tuple[float, Clock | None] | None,
    *,
    has_files: bool,
) -> tuple[float, list[str]]:
    """Return when a session began on a clock.

    That is what an earlier import found or a person says; else the first row of all tracks.

    Args:
        session: the session.
        clock: not "session".
        tracks: of the session, all on this clock.
        origins: what is known already.
        start: what a person says; None where they say nothing.
        has_files: whether the corpus has files of the session already.

    Raises:
        InputError: the session's start is known on another clock only, or as another time.
    """
    known = origins.get((session, clock))
    if start is not None:
        stated_s, stated_clock = start
        if stated_clock not in (None, clock):
            raise InputError(
                f"Session {session!r}: its times count from {CLOCK_TITLES[clock]}, but --start is "
                f"a date. {_advice(clock, str(stated_clock))}"
            )
        if known is not None and known != stated_s:
            raise InputError(
                f"Session {session!r} began at {known!r} s by {ORIGINS_FILE}, and not at "
                f"{stated_s!r} s. Its files count from there: leave --start out, or import all of "
                "them into a new folder."
            )
        return stated_s, []
    if known is not None:
        first_s = min(float(track.times_s[0]) for track in tracks)
        if abs(first_s - known) > LONGEST_S:
            raise InputError(
                f"Session {session!r}: its first row would be {(first_s - known) / 3600:.1f} hours "
                f"after the start of the session ({ORIGINS_FILE}). It may be another session, or "
                "another clock: name the session (--session), or say when it began (--start) in a "
                "new folder."
            )
        return known, []

    others = [other for name, other in origins if name == session]
    if others:
        raise InputError(
            f"Session {session!r} began at a time counted from {CLOCK_TITLES[others[0]]} "
            f"({ORIGINS_FILE}); these times count from {CLOCK_TITLES[clock]}. "
            f"{_advice(clock, others[0])}"
        )
    first_s = min(float(track.times_s[0]) for track in tracks)
    notes = []
    if has_files:
        notes.append(
            f"Session {session!r}: its first row is taken as the start of the session, from which "
            "the files that are there count. If it began at another time, say when: --start."
        )
    return first_s, notes


def _advice(clock: str, other: str) -> str:
    if {clock, other} == {"local", "unix"}:
        return "Name the time zone: --timezone Europe/Berlin."
    return "Say when the session began on the clock of these files: --start SECONDS."


def to_session_ms(track: Track, origin_s: float) -> NDArray[np.float64]:
    """Return the times of a track in ms from the session's start, not yet rounded."""
    return (track.times_s - origin_s) * 1000


def clocks_of(tracks: Iterable[Track]) -> list[Clock]:
    """Return the clocks of tracks but that of the session, each once."""
    return list(dict.fromkeys(track.clock for track in tracks if track.clock != "session"))
