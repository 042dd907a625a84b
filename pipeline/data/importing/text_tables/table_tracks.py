"""Tracks from a table: which columns are measurements, and which sessions its rows are of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
from pipeline.data.records.record_table import names_any
from pipeline.errors import InputError
from pipeline.preprocessing.bookkeeping import (
    LOWEST_CONFIDENCE,
    FileColumns,
    Kind,
    column_traits,
    failed_rows,
    may_be_bookkeeping,
    named_columns,
    timed_columns,
)

SESSION_NAMES = ("session", "sessionid", "instancename", "recording", "recordingid")
"""Names of columns that tell which session a row is of, letters only."""
RATER_NAMES = ("rater", "raterid", "annotator", "annotatorid", "coder", "coderid", "evaluator")
"""Names of columns that tell who rated, in a table with a row for each rating; letters only."""
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
    """

    time: int | None
    session: int | None = None
    rater: int | None = None
    set_aside: Collection[int] = field(default=())


_Group = tuple[str, str, slice | NDArray[np.intp]]
"""Session, rater and rows of one recording."""


def find_column_named(header: Sequence[str], names: Collection[str]) -> int | None:
    """Return the position of the first column with one of the names, letters only."""
    return next((place for place, name in enumerate(header) if normalised(name) in names), None)


def build_tracks(
    table: Table, axis: TimeAxis, roles: Roles, options: ReadOptions, name: str
) -> Recording:
    """Build one track for every session of a table.

    Columns of text, and those that are no features (`preprocessing.bookkeeping`), are set aside,
    unless a person named them. Rows that `success` or `confidence` marks are missing.

    Args:
        table: the table.
        axis: its times.
        roles: which columns are no measurements.
        options: what a person says about the file.
        name: what the tracks may be called as a feature set.

    Raises:
        InputError: a cell is no number, no column is left, the times of a session go back, or a
            session is of several people.
    """
    groups = _groups_of_rows(table, roles)
    _raise_if_people_are_mixed(table, groups, roles)
    decimal = options.decimal or decimal_mark(table)
    kinds = _named_bookkeeping(table, axis, groups, roles, decimal)
    positions, notes = _choose_columns(table, roles, options, kinds)
    values = np.stack([to_numbers(table, place, decimal) for place in positions], axis=1)
    num_infinite = int(np.isinf(values).sum())
    if num_infinite:
        notes.append(f"{num_infinite} infinite cells are missing.")
    values[~np.isfinite(values)] = np.nan

    is_marked = _marked_rows(table, kinds, decimal)
    values[is_marked] = np.nan
    if is_marked.any():
        marks = quoted_list([table.header[place] for place in _marks(kinds)])
        notes.append(
            f"{int(is_marked.sum())} of {table.num_rows} rows are missing, by {marks} (success 0, "
            f"confidence below {LOWEST_CONFIDENCE})."
        )
    if not options.columns and not options.is_label:
        positions, values, more = _without_timed(table, axis, groups, positions, values)
        notes += more

    tracks = []
    for session, rater, rows in groups:
        where = table.where + "".join(f", {name!r}" for name in (session, rater) if name)
        raise_unless_ascending(axis.times_s[rows], where)
        tracks.append(
            Track(
                session=session,
                name=name,
                columns=tuple(table.header[place] for place in positions),
                times_s=axis.times_s[rows],
                values=values[rows],
                clock=axis.clock,
                time_note=axis.note,
                num_missing_rows=int(is_marked[rows].sum()),
                rater=rater,
            )
        )
    return Recording(tuple(tracks), tuple(notes))


def _named_bookkeeping(
    table: Table, axis: TimeAxis, groups: Sequence[_Group], roles: Roles, decimal: str
) -> dict[int, Kind]:
    """Return the positions of columns that are no features by their names, and what they are."""
    others = {roles.time, roles.session, roles.rater, *roles.set_aside}
    places = [place for place in range(len(table.header)) if place not in others]
    values = {
        place: _numbers_or_text(table, place, decimal)
        for place in places
        if may_be_bookkeeping(table.header[place])
    }
    names = [table.header[place] for place in places]
    files = [
        FileColumns(
            names,
            {
                table.header[place]: column_traits(column[rows], axis.times_s[rows] * 1000)
                for place, column in values.items()
            },
            len(axis.times_s[rows]),
        )
        for _, _, rows in groups
    ]
    found = named_columns(files)
    return {place: found[table.header[place]] for place in places if table.header[place] in found}


def _numbers_or_text(table: Table, place: int, decimal: str) -> NDArray[np.float64]:
    """Return a column as numbers; NaN where it has a cell of text, such as an id."""
    try:
        return to_numbers(table, place, decimal)
    except InputError:
        return np.full(table.num_rows, np.nan)


def _marks(kinds: Mapping[int, Kind]) -> list[int]:
    return [place for place, kind in kinds.items() if kind == "marks missing rows"]


def _marked_rows(table: Table, kinds: Mapping[int, Kind], decimal: str) -> NDArray[np.bool_]:
    """Return the rows that a column marks as missing, or says nothing about; shape (rows,)."""
    marks = {
        table.header[place]: np.nan_to_num(to_numbers(table, place, decimal))
        for place in _marks(kinds)
    }
    if not marks:
        return np.zeros(table.num_rows, np.bool_)
    return failed_rows(marks, {table.header[place]: kind for place, kind in kinds.items()})


def _without_timed(
    table: Table,
    axis: TimeAxis,
    groups: Sequence[_Group],
    positions: list[int],
    values: NDArray[np.float64],
) -> tuple[list[int], NDArray[np.float64], list[str]]:
    """Leave out columns that count the rows or repeat the times, unless that leaves none."""
    # Features that never fall are rare, and only they need a closer look.
    ascends = np.all(
        [(np.diff(values[rows], axis=0) >= 0).all(axis=0) for _, _, rows in groups], axis=0
    )
    names = [table.header[place] for place in positions]
    files = [
        FileColumns(
            names,
            {
                names[column]: column_traits(values[rows, column], axis.times_s[rows] * 1000)
                for column in np.flatnonzero(ascends)
            },
            len(axis.times_s[rows]),
        )
        for _, _, rows in groups
    ]
    found = timed_columns(files)
    kept = [column for column, name in enumerate(names) if name not in found]
    if not kept or len(kept) == len(names):
        return positions, values, []

    titles = ", ".join(f"{name!r} ({kind})" for name, kind in found.items())
    note = f"Set aside, since their values count the rows or repeat the time: {titles}."
    return [positions[column] for column in kept], values[:, kept], [note]


def _choose_columns(
    table: Table, roles: Roles, options: ReadOptions, kinds: Mapping[int, Kind]
) -> tuple[list[int], list[str]]:
    """Return the positions of the measurements, and what was set aside, as sentences."""
    if options.columns:
        unknown = [name for name in options.columns if name not in table.header]
        if unknown:
            raise InputError(
                f"{table.where}: there is no column {unknown[0]!r}. "
                f"It has {quoted_list(table.header)}."
            )
        return [table.header.index(name) for name in options.columns], []

    others = {roles.time, roles.session, roles.rater, *roles.set_aside, *kinds}
    rest = [place for place in range(len(table.header)) if place not in others]
    texts = [place for place in rest if is_text(table, place)]
    empty = [place for place in rest if is_empty(table, place)]
    chosen = [place for place in rest if place not in {*texts, *empty}]

    counting = sorted({*kinds, *roles.set_aside})
    notes = [
        f"Set aside, since they {why}: {quoted_list([table.header[place] for place in places])}."
        for why, places in (
            ("number, name, time or judge rows", counting),
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


def _raise_if_people_are_mixed(table: Table, groups: Sequence[_Group], roles: Roles) -> None:
    """Raise where the rows of one session are of several people, as a column says."""
    place = next(
        (
            place
            for place, name in enumerate(table.header)
            # In a dialogue the speaker changes from row to row.
            if names_any((name,), ("participant",)) and not normalised(name).startswith("speaker")
        ),
        None,
    )
    if place is None:
        return

    cells = np.array(_names(table, place), np.object_)
    for session, _, rows in groups:
        people = sorted({str(cell) for cell in cells[rows] if cell})
        if len(people) < 2:
            continue
        who = f"{len(people)} people by its column {table.header[place]!r}: {quoted_list(people)}"
        if roles.session is None:
            raise InputError(
                f"{table.where} has rows of {who}. Add a column 'session' that tells their "
                "recordings apart; if they are raters, name the column 'rater'."
            )
        raise InputError(
            f"{table.where}: session {session!r} has rows of {who}. Name the sessions of different "
            f"people differently, such as '{people[0]}_{session}'."
        )


def _groups_of_rows(table: Table, roles: Roles) -> list[_Group]:
    """Return session, rater and rows of each recording, in the order of the file."""
    if roles.session is None and roles.rater is None:
        return [("", "", slice(None))]

    sessions = _names(table, roles.session)
    raters = _names(table, roles.rater)
    keys = list(zip(sessions, raters, strict=True))
    rows: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)

    groups: list[_Group] = [
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
