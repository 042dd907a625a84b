"""Reads OpenFace's CSV files: one row per frame and face, with a confidence and a success.

Baltrusaitis, T. et al. (2018): OpenFace 2.0: Facial behavior analysis toolkit. FG 2018, 59-66.
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
    read_table,
    to_numbers,
)
from pipeline.data.importing.text_tables.time_column import read_times
from pipeline.errors import InputError

SIGNATURE = ("timestamp", "confidence", "success")


def is_openface(file: SourceFile) -> bool:
    """Return whether the first line has OpenFace's columns beside its features."""
    header = [name.strip() for name in file.head_lines[0].split(",")] if file.head_lines else []
    return all(name in header for name in SIGNATURE)


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read one face of a file; rows in which it was not found are missing.

    Raises:
        InputError: it is no such table, or has several faces and none is chosen.
    """
    text = file.read_text()
    lines = [line for line in text.text.split("\n", 60)[:60] if line.strip()]
    table = read_table(text.text, file.where, delimiter=find_delimiter(lines) or ",")
    absent = [name for name in SIGNATURE if name not in table.header]
    if absent:
        raise InputError(f"{file.where} is not of OpenFace: it has no column {absent[0]!r}.")

    time = table.header.index("timestamp")
    table, notes = _choose_face(table, options)
    axis = read_times(table, time, options, unit="s")
    recording = build_tracks(table, axis, Roles(time), options, "openface")
    return replace(recording, notes=(*notes, *recording.notes))


def _choose_face(table: Table, options: ReadOptions) -> tuple[Table, list[str]]:
    """Return only the rows of one face."""
    if "face_id" not in table.header:
        if options.face is not None:
            raise InputError(f"{table.where} has no column 'face_id': leave --face out.")
        return table, []

    faces = to_numbers(table, table.header.index("face_id"))
    known = sorted({int(face) for face in faces[np.isfinite(faces)]})
    if options.face is None and len(known) > 1:
        counts = ", ".join(f"{face} in {int((faces == face).sum())} rows" for face in known[:4])
        raise InputError(
            f"{table.where} has {len(known)} faces: {counts}. Name one: --face {known[0]}."
        )
    face = known[0] if options.face is None else options.face
    if face not in known:
        raise InputError(f"{table.where} has no face {face}. It has {known[:8]}.")

    rows = np.flatnonzero(faces == face)
    columns = tuple(column.take(rows) for column in table.columns)
    return replace(table, columns=columns), [f"Face {face}, of {len(known)}."]


OPENFACE = Format("openface", "OpenFace CSV", is_openface, read)
