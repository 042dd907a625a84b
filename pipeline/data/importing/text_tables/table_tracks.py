"""Tracks from a table: which columns are measurements, and which sessions its rows are of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from pipeline.data.importing.formats.recording import ReadOptions, Recording, Track
from pipeline.data.importing.text_tables.bookkeeping_columns import (
    Rows,
    find_named,
    find_timed,
    marked_rows,
)
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
from pipeline.preprocessing.bookkeeping import Kind

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


_Group = tuple[str, str, Rows]
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
    recordings = [rows for _, _, rows in groups]
    others = {roles.time, roles.session, roles.rater, *roles.set_aside}
    kinds = find_named(table, axis, recordings, others, decimal)
    positions, notes = _choose_columns(table, roles, options, kinds)
    values = np.stack([to_numbers(table, place, decimal) for place in positions], axis=1)
    num_infinite = int(np.isinf(values).sum())
    if num_infinite:
        notes.append(f"{num_infinite} infinite cells are missing.")
    values[~np.isfinite(values)] = np.nan

    if not options.columns and not options.is_label:
        timed = find_timed(table, axis, recordings, positions, values)
        kept = [column for column, place in enumerate(positions) if place not in timed]
        positions, values = [positions[column] for column in kept], values[:, kept]
        if timed:
            titles = ", ".join(f"{table.header[place]!r} ({kind})" for place, kind in timed.items())
            notes.append(f"Set aside, since they count the rows or repeat the time: {titles}.")
    is_marked, note = marked_rows(table, kinds, decimal)
    values[is_marked] = np.nan
    notes += [note] if note else []

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
            f"people differently, such as '{people[0]}_{session}'; if they are raters, name the "
            "column 'rater'."
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
