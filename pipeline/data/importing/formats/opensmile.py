"""Reads openSMILE's CSV files: name;frameTime;features, of frames or of windows.

Eyben, F. et al. (2010): openSMILE: the Munich versatile and fast open-source audio feature
extractor. ACM Multimedia, 1459-1462.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.data.importing.formats.recording import ReadOptions, Recording
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.text_tables.table_tracks import Roles, build_tracks
from pipeline.data.importing.text_tables.text import (
    Table,
    find_delimiter,
    normalised,
    read_table,
    to_numbers,
)
from pipeline.data.importing.text_tables.time_column import TimeAxis, find_time_column, read_times
from pipeline.errors import InputError

NAMES = ("name", "filename", "instancename")
"""Columns that name the recording of a row, letters only."""
COUNTERS = ("frameindex", "class", "emotion")
"""Columns beside the features, letters only: openSMILE's count of frames, and ARFF's class."""


def is_opensmile(file: SourceFile) -> bool:
    """Return whether the first line names openSMILE's own columns."""
    if not file.head_lines:
        return False

    delimiter = find_delimiter(file.head_lines) or ";"
    header = [normalised(name) for name in file.head_lines[0].split(delimiter)]
    has_time = "frametime" in header or "frameindex" in header
    return header[0] in ("name", "filename", "frameindex", "frametime") and (
        has_time or delimiter == ";"
    )


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read a file of frames, or of functionals over windows; each `name` is a session.

    Raises:
        InputError: it is no such table, or has one row per recording.
    """
    text = file.read_text()
    lines = [line for line in text.text.split("\n", 60)[:60] if line.strip()]
    table = read_table(text.text, file.where, delimiter=find_delimiter(lines) or ";")
    recording = read_frames(table, options, "opensmile")
    return replace(recording, notes=(*((text.note,) if text.note else ()), *recording.notes))


def read_frames(table: Table, options: ReadOptions, name: str) -> Recording:
    """Read the table of a CSV or an ARFF file of openSMILE.

    Raises:
        InputError: it has no times, or one row per recording.
    """
    letters = [normalised(column) for column in table.header]
    session = next((place for place, column in enumerate(letters) if column in NAMES), None)
    time = letters.index("frametime") if "frametime" in letters else None
    if options.time_column:
        time = find_time_column(table.header, options, table.where)

    axis = _times(table, time, session, options)
    beside = [place for place, column in enumerate(letters) if column in COUNTERS]
    return build_tracks(table, axis, Roles(time, session, set_aside=beside), options, name)


def _times(table: Table, time: int | None, session: int | None, options: ReadOptions) -> TimeAxis:
    rows = table.num_rows
    num_sessions = len(set(table.columns[session].to_pylist())) if session is not None else 1
    if rows == num_sessions:
        raise InputError(
            f"{table.where} has one row per recording ({rows}): functionals over all of it, which "
            "do not change over time. Extract them over windows (openSMILE: frameMode = fixed)."
        )
    if time is not None:
        return read_times(table, time, options, unit="s")
    index = next(
        (place for place, name in enumerate(table.header) if normalised(name) == "frameindex"), None
    )
    if options.rate_hz and index is not None:
        note = f"{table.header[index]!r}, {options.rate_hz:g} rows per second as given"
        return TimeAxis(to_numbers(table, index) / options.rate_hz, "session", note)
    if options.rate_hz and num_sessions == 1:
        note = f"counted, {options.rate_hz:g} rows per second as given"
        return TimeAxis(np.arange(rows, dtype=np.float64) / options.rate_hz, "session", note)
    raise InputError(
        f"{table.where} has no column 'frameTime'. Write it (openSMILE: timestampcsv 1), or pass "
        "its frames per second: --rate-hz 100."
    )


OPENSMILE = Format("opensmile", "openSMILE CSV", is_opensmile, read)
