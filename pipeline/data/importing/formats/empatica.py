"""Reads what an Empatica E4 records: a folder of CSV files, one for each sensor.

Line 1 of a file is its start (seconds since 1970), line 2 its rate, except for the intervals
between heart beats, which have their own times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import ReadOptions, Recording, Track
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.text_tables.text import NUMBER, read_table, to_numbers
from pipeline.data.importing.text_tables.time_column import EPOCH_SECONDS
from pipeline.errors import InputError

SENSORS = {
    "ACC": (("acc_x", "acc_y", "acc_z"), "g"),
    "BVP": (("bvp",), ""),
    "EDA": (("eda",), "uS"),
    "HR": (("hr",), "1/min"),
    "IBI": (("ibi",), "s"),
    "TEMP": (("temp",), "degC"),
}
"""File -> its columns and their unit."""
ACC_PER_G = 64.0
TAGS = "TAGS"


def is_recording(files: Sequence[Path]) -> bool:
    """Return whether one of the files is of a sensor: an E4 writes one folder per session."""
    return any(
        file.stem.upper() in SENSORS and is_empatica(SourceFile(file, file.name)) for file in files
    )


def is_empatica(file: SourceFile) -> bool:
    """Return whether a file has the name of a sensor, and begins with a start."""
    lines = file.head_lines
    if file.path.stem.upper() not in SENSORS or not lines:
        return False

    first = lines[0].split(",")[0].strip()
    return re.fullmatch(NUMBER, first) is not None and _is_epoch(float(first))


def is_tags(file: SourceFile) -> bool:
    """Return whether a file is the list of button presses: times that belong to no frame."""
    return file.path.stem.upper() == TAGS


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read the file of one sensor, as a track of its own.

    Raises:
        InputError: it is no such file.
    """
    sensor = file.path.stem.upper()
    if sensor not in SENSORS:
        raise InputError(f"{file.where} has the name of no sensor of an E4: {', '.join(SENSORS)}.")
    lines = file.read_text().text.split("\n", 2)
    if not lines[0].strip():
        return Recording((), (f"{file.where} is empty.",))

    columns, unit = SENSORS[sensor]
    start_s = _read_start(lines[0].split(",")[0].strip(), file.where)
    if sensor == "IBI":
        times_s, values = _read_intervals("\n".join(lines[1:]), start_s, file.where)
        note = "seconds since the start in line 1"
    else:
        rate_hz = _read_rate(lines[1] if len(lines) > 1 else "", file.where)
        values = _read_numbers(lines[2] if len(lines) > 2 else "", columns, file.where, line=3)
        times_s = start_s + np.arange(len(values)) / rate_hz
        note = f"start in line 1, {rate_hz:g} Hz in line 2"
    if not len(values):
        return Recording((), (f"{file.where} has no rows.",))

    notes = []
    if sensor == "ACC":
        values = values / ACC_PER_G
        notes.append(f"{file.where}: read as 1/64 g, written in g.")
    units = dict.fromkeys(columns, unit) if unit else {}
    track = Track("", sensor.lower(), columns, times_s, values, "unix", units, note)
    return Recording((track,), tuple(notes))


def _read_start(cell: str, where: str) -> float:
    if not re.fullmatch(NUMBER, cell) or not _is_epoch(float(cell)):
        raise InputError(
            f"{where}, line 1: {cell!r} is no start in seconds since 1970. An E4's file begins so."
        )
    return float(cell)


def _read_rate(line: str, where: str) -> float:
    cells = [cell.strip() for cell in line.split(",")]
    numbers = {float(cell) for cell in cells if re.fullmatch(NUMBER, cell)}
    if len(numbers) != 1 or not 0 < min(numbers) <= 1000:
        raise InputError(f"{where}, line 2: {line!r} is no rate in Hz. The file may be cut off.")
    return numbers.pop()


def _read_intervals(
    lines: str, start_s: float, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = _read_numbers(lines, ("time", "interval"), where, line=2)
    unknown = np.flatnonzero(~np.isfinite(numbers[:, 0]))
    if len(unknown):
        raise InputError(f"{where}, line {int(unknown[0]) + 2}: there is no time.")

    backward = np.flatnonzero(np.diff(numbers[:, 0]) < 0)
    if len(backward):
        number = int(backward[0]) + 3
        raise InputError(f"{where}, line {number}: the time goes back. Export the file again.")
    return start_s + numbers[:, 0], numbers[:, 1:]


def _read_numbers(
    lines: str, columns: Sequence[str], where: str, *, line: int
) -> NDArray[np.float64]:
    if not lines.strip():
        return np.empty((0, len(columns)))

    table = read_table(lines, where, delimiter=",", header=columns, line=line, is_counted=True)
    values = [to_numbers(table, place, ".") for place in range(len(columns))]
    return np.stack(values, axis=1)


def _is_epoch(number: float) -> bool:
    return EPOCH_SECONDS[0] < number < EPOCH_SECONDS[1]


EMPATICA = Format("e4", "Empatica E4", is_empatica, read)
