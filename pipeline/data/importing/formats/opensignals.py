"""Reads text files with a commented header: BioSPPy's Simple Text Format, and OpenSignals'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import Clock, ReadOptions, Recording
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.text_tables.table_tracks import Roles, build_tracks
from pipeline.data.importing.text_tables.text import (
    decimal_mark,
    normalised,
    read_table,
    to_numbers,
)
from pipeline.data.importing.text_tables.time_column import TimeAxis, parse_date
from pipeline.errors import InputError
from pipeline.storage.strict_json import parse_json

SIMPLE = "simple text format"
OPENSIGNALS = "opensignals text file format"
ENTRY = re.compile(r"#\s*(?P<key>[^:=]+?)\s*:=\s*(?P<value>.*)")
COUNTER = "nseq"


def is_opensignals(file: SourceFile) -> bool:
    """Return whether the first line names one of the two formats."""
    first = file.head_lines[0] if file.head_lines else ""
    return first.startswith("#") and first.lstrip("# ").strip().lower() in (SIMPLE, OPENSIGNALS)


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read a file of evenly spaced samples of one or several sensors.

    Raises:
        InputError: its header states no rate, or other columns than it has.
    """
    text = file.read_text()
    lines = text.text.lstrip("\n").split("\n")
    num_header = next(
        (index for index, line in enumerate(lines) if line.strip() and not line.startswith("#")),
        len(lines),
    )
    head, body = lines[:num_header], lines[num_header:]
    if not head:
        raise InputError(f"{file.where} has no header of lines with #. Export it again.")
    if not any(line.strip() for line in body):
        raise InputError(f"{file.where} has a header and no samples. Leave it out.")

    is_simple = head[0].lstrip("# ").strip().lower() == SIMPLE
    labels, rate_hz, start, units = (_read_simple if is_simple else _read_json)(head, file.where)
    delimiter = "\t" if "\t" in body[0] else " "
    width = len(body[0].split())
    if width == 1:
        delimiter = "\t"
    if width != len(labels):
        raise InputError(
            f"{file.where}: its header names {len(labels)} columns ({', '.join(labels)}), its rows "
            f"have {width}. Correct the header."
        )

    table = read_table(
        "\n".join(line.rstrip("\t ") for line in body),
        file.where,
        delimiter=delimiter,
        header=labels,
        line=num_header + 1,
        is_counted=True,
    )
    offset_s, clock = _parse_start(start, options, file.where)
    note = f"{rate_hz:g} Hz by the header" + (f", start {start}" if start else "")
    axis = TimeAxis(offset_s + np.arange(table.num_rows) / rate_hz, clock, note)
    counters = [place for place, name in enumerate(table.header) if normalised(name) == COUNTER]
    if counters:
        _raise_if_samples_are_lost(to_numbers(table, counters[0], decimal_mark(table)), file.where)

    recording = build_tracks(table, axis, Roles(None, set_aside=counters), options, "")
    tracks = tuple(
        replace(track, units={name: units[name] for name in track.columns if name in units})
        for track in recording.tracks
    )
    notes = [*recording.notes, *([text.note] if text.note else [])]
    if not units:
        notes.append("The header states no unit: the numbers are the converter's.")
    return Recording(tracks, tuple(notes))


Header = tuple[list[str], float, str, Mapping[str, str]]
"""Names of the columns, rate in Hz, start or "", and column -> unit."""


def _read_simple(head: list[str], where: str) -> Header:
    matches = [match for line in head if (match := ENTRY.fullmatch(line.strip()))]
    entries = {match["key"].lower(): match["value"].strip() for match in matches}
    rate = next((value for key, value in entries.items() if key.startswith("sampling rate")), "")
    if "labels" not in entries or not entries["labels"]:
        raise InputError(f"{where}: its header has no '# Labels:='. Add the names of the columns.")

    labels = [label.strip() for label in re.split(r"\t|,", entries["labels"])]
    stated = [unit.strip() for unit in re.split(r"\t|,", entries.get("units", "")) if unit.strip()]
    if len(stated) == 1:
        stated *= len(labels)
    units = dict(zip(labels, stated, strict=True)) if len(stated) == len(labels) else {}
    return labels, _to_rate(rate, where), entries.get("date", ""), units


def _read_json(head: list[str], where: str) -> Header:
    """Read the header of OpenSignals: a JSON object with one entry per device."""
    try:
        line = next(line for line in head if line.lstrip("# ").startswith("{"))
        devices = parse_json(line[1:].encode())
        [device] = devices.values()
        labels = [str(name) for name in device["column"]]
        rate_hz = _to_rate(str(device["sampling rate"]), where)
        day = re.sub(r"\b(\d)\b", r"0\1", str(device["date"]))
        start = f"{day} {str(device['time'])[:8]}"
    except (StopIteration, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: its header is not that of one device ({error}). Export each device alone."
        ) from None
    return labels, rate_hz, start, {}


def _to_rate(text: str, where: str) -> float:
    try:
        rate_hz = float(text)
    except ValueError:
        rate_hz = 0.0
    if not 0 < rate_hz < float("inf"):
        raise InputError(f"{where}: its header states the sampling rate {text!r}. Correct it.")
    return rate_hz


def _parse_start(start: str, options: ReadOptions, where: str) -> tuple[float, Clock]:
    if not start:
        return 0.0, "session"

    parsed = parse_date(start, options.timezone)
    if parsed is None:
        raise InputError(f"{where}: its header states the start {start!r}, which is no date.")
    return parsed


def _raise_if_samples_are_lost(counts: NDArray[np.float64], where: str) -> None:
    """Raise where the sequence numbers, which start again after 15 or 255, leave some out."""
    steps = np.diff(counts)
    lost = np.flatnonzero((steps != 1) & (counts[1:] != 0))
    if len(lost):
        raise InputError(
            f"{where}: samples were lost, first after row {int(lost[0]) + 1} (nSeq), so that the "
            "times of later ones are unknown. Cut the file there."
        )


FORMAT = Format("opensignals", "OpenSignals or Simple Text Format", is_opensignals, read)
