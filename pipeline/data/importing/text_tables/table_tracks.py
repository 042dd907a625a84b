"""Tracks from a table: which columns are measurements, and which sessions its rows are of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import ReadOptions, Recording, Track
from pipeline.data.importing.text_tables.text import (
    Table,
    decimal_mark,
    is_empty,
    is_text,
    normalised,
    to_numbers,
)
from pipeline.data.importing.text_tables.time_column import TimeAxis, raise_unless_ascending
from pipeline.data.input_errors import quoted_list
from pipeline.errors import InputError

SESSION_NAMES = ("session", "sessionid", "instancename", "recording", "recordingid")
"""Names of columns that tell which session a row is of, letters only."""
RATER_NAMES = ("rater", "raterid", "annotator", "annotatorid", "coder", "coderid", "evaluator")
"""Names of columns that tell who rated, in a table with a row for each rating; letters only."""
BOOKKEEPING = frozenset({
    "", "unnamed0", "index", "row", "rownumber", "rowid", "id", "frame", "frames", "frameid",
    "frameindex", "framenumber", "framenr", "faceid", "sample", "sampleindex", "samplenumber",
    "nseq", "counter", "subjectid", "subject", "participantid", "participant", "speaker",
    "person", "personid", "confidence", "success", "segmentid",
})  # fmt: skip
"""Names of columns that count rows or judge them, letters only: nothing that a person did."""
UNSTATED_SESSIONS = ("unknown", "", "noname", "null", "none")
"""What openSMILE writes as the name where it was given none."""


@dataclass(frozen=True)
class Roles:
    """Which columns of a table are no measurements.

    Attributes:
        time: position of the column of times; None where `axis` has another source.
        session: position of the column that names the session; None where there is none.
        rater: position of the column that names who rated; None where there is none.
        set_aside: positions of further columns that are not read.
        is_missing: shape (rows,), True where a row is to be missing; None where none is.
    """

    time: int | None
    session: int | None = None
    rater: int | None = None
    set_aside: Collection[int] = field(default=())
    is_missing: NDArray[np.bool_] | None = None


def find_column_named(header: Sequence[str], names: Collection[str]) -> int | None:
    """Return the position of the first column with one of the names, letters only."""
    return next((place for place, name in enumerate(header) if normalised(name) in names), None)


def build_tracks(
    table: Table, axis: TimeAxis, roles: Roles, options: ReadOptions, name: str
) -> Recording:
    """Build one track for every session of a table.

    Columns of text, and those that count or judge rows, are set aside, unless a person named them.

    Args:
        table: the table.
        axis: its times.
        roles: which columns are no measurements.
        options: what a person says about the file.
        name: what the tracks may be called as a feature set.

    Raises:
        InputError: a cell is no number, no column is left, or the times of a session go back.
    """
    positions, notes = _choose_columns(table, roles, options)
    decimal = options.decimal or decimal_mark(table)
    values = np.stack([to_numbers(table, place, decimal) for place in positions], axis=1)
    num_infinite = int(np.isinf(values).sum())
    if num_infinite:
        notes.append(f"{num_infinite} infinite cells are missing.")
    values[~np.isfinite(values)] = np.nan

    num_marked = 0
    if roles.is_missing is not None:
        values[roles.is_missing] = np.nan
        num_marked = int(roles.is_missing.sum())

    tracks = []
    for session, rater, rows in _groups_of_rows(table, roles):
        where = table.where + "".join(f", {name!r}" for name in (session, rater) if name)
        raise_unless_ascending(axis.times_s[rows], where)
        marked = num_marked if roles.is_missing is None else int(roles.is_missing[rows].sum())
        tracks.append(
            Track(
                session=session,
                name=name,
                columns=tuple(table.header[place] for place in positions),
                times_s=axis.times_s[rows],
                values=values[rows],
                clock=axis.clock,
                time_note=axis.note,
                num_missing_rows=marked,
                rater=rater,
            )
        )
    return Recording(tuple(tracks), tuple(notes))


def _choose_columns(
    table: Table, roles: Roles, options: ReadOptions
) -> tuple[list[int], list[str]]:
    """Return the positions of the measurements, and what was set aside, as sentences."""
    others = {roles.time, roles.session, roles.rater, *roles.set_aside}
    if options.columns:
        unknown = [name for name in options.columns if name not in table.header]
        if unknown:
            raise InputError(
                f"{table.where}: there is no column {unknown[0]!r}. "
                f"It has {quoted_list(table.header)}."
            )
        return [table.header.index(name) for name in options.columns], []

    counters = {
        place
        for place, name in enumerate(table.header)
        if place not in others and normalised(name) in BOOKKEEPING
    }
    rest = [place for place in range(len(table.header)) if place not in others | counters]
    texts = [place for place in rest if is_text(table, place)]
    empty = [place for place in rest if is_empty(table, place)]
    chosen = [place for place in rest if place not in {*texts, *empty}]

    counting = sorted({*counters, *roles.set_aside})
    notes = [
        f"Set aside, since they {why}: {quoted_list([table.header[place] for place in places])}."
        for why, places in (
            ("count or judge rows", counting),
            ("are text", texts),
            ("have no number", empty),
        )
        if places
    ]
    if not chosen:
        raise InputError(
            f"{table.where} has no column of measurements. "
            + (" ".join(notes) or f"It has {quoted_list(table.header)}.")
        )
    return chosen, notes


def _groups_of_rows(table: Table, roles: Roles) -> list[tuple[str, str, slice | NDArray[np.intp]]]:
    """Return session, rater and rows of each recording, in the order of the file."""
    if roles.session is None and roles.rater is None:
        return [("", "", slice(None))]

    sessions = _names(table, roles.session)
    raters = _names(table, roles.rater)
    keys = list(zip(sessions, raters, strict=True))
    rows: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)

    groups: list[tuple[str, str, slice | NDArray[np.intp]]] = [
        (session_name(session), rater, np.array(places, np.intp))
        for (session, rater), places in rows.items()
    ]
    if len({group[:2] for group in groups}) < len(groups):
        raise InputError(
            f"{table.where}: different names are one session, such as {groups[0][0]!r}. Name the "
            "sessions without folders and endings."
        )
    return groups


def _names(table: Table, position: int | None) -> list[str]:
    if position is None:
        return [""] * table.num_rows
    return [cell or "" for cell in table.columns[position].to_pylist()]


def session_name(text: str) -> str:
    """Return the session of a stated name, which may be a path with an ending; "" for unknown."""
    name = text.strip().strip("'\"").strip()
    if name.lower() in UNSTATED_SESSIONS:
        return ""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in MEDIA_ENDINGS else path.name


MEDIA_ENDINGS = (".wav", ".mp3", ".mp4", ".avi", ".flac", ".ogg", ".m4a", ".mov", ".mkv", ".csv")
