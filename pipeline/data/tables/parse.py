"""The bytes of one file of a feature set or of a target -> arrays. A pure function of the bytes: knows no folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.tables.csv_columns import read_columns, split_header
from pipeline.errors import InputError
from pipeline.preprocessing.cleaning import clean

SEGMENT_NAMES = ("segment_id", "subject_id")  # 2021; 2022 and 2023
LATEST_MS = 2.0**53  # beyond this a float no longer counts single milliseconds


@dataclass(frozen=True)
class FeatureTable:
    """One file of a feature set, cleaned.

    Attributes:
        columns: names of the features, as this file's header has them.
        timestamps_ms: shape (rows,), strictly ascending.
        segment_ids: shape (rows,), as written.
        values: shape (rows, columns), float32, finite; 0 where not present.
        present: shape (rows,); False for a row without a number, and for a row of zeros: that is how extractors
            write "no face", "no speech". In a set of one column a zero is a measurement.
        imputed: shape (rows,), how many of the row's cells were NaN or infinite: interpolated in time between
            the nearest present rows that have the value (at the edges the nearest; 0 if no row has it).
        num_zero_rows: how many rows are not present because they are zeros.
    """

    columns: tuple[str, ...]
    timestamps_ms: NDArray[np.int64]
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    imputed: NDArray[np.int32]
    num_zero_rows: int

    @property
    def num_rows(self) -> int:
        return len(self.timestamps_ms)

    @property
    def num_present_cells(self) -> int:
        return int(self.present.sum()) * len(self.columns)

    @property
    def num_imputed_cells(self) -> int:
        return int(self.imputed.sum())


@dataclass(frozen=True)
class LabelTable:
    """One file of a target: `values` are float64 in the label's own unit, NaN where unknown."""

    timestamps_ms: NDArray[np.int64]
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float64]


def parse_features(content: bytes, where: str) -> FeatureTable:
    """Reads `timestamp,segment_id,<features...>`; the features by position, as headers differ within one set.

    Args:
        content: the file's bytes.
        where: how messages name the file.

    Raises:
        InputError: the bytes are no such table.
    """
    header, body = split_header(content, where)
    time, segment = _position(header, "timestamp", where), _segment_position(header)
    if segment is None:
        raise InputError(
            f"{where}: the header {_shown(header)} has neither 'segment_id' nor 'subject_id'. "
            "Feature files are timestamp,segment_id,<features...>: add the column (1 in every row will do)."
        )
    positions = [index for index in range(len(header)) if index not in (time, segment)]
    if not positions:
        raise InputError(
            f"{where}: the header {_shown(header)} has no feature. Export the file again."
        )
    types = {time: pa.float64(), segment: pa.string()} | dict.fromkeys(positions, pa.float32())
    cells = read_columns(header, body, types, where)
    values_FR = np.empty((len(positions), len(cells[time])), np.float32)  # F = features, R = rows
    for values_R, index in zip(values_FR, positions, strict=True):
        values_R[:] = cells[index].to_numpy(zero_copy_only=False)
    timestamps_ms = _timestamps(cells[time], where)
    values, present, imputed, num_zero_rows = clean(
        timestamps_ms, np.ascontiguousarray(values_FR.T)
    )
    columns = tuple(header[index] for index in positions)
    segments = _segments(cells[segment])
    return FeatureTable(columns, timestamps_ms, segments, values, present, imputed, num_zero_rows)


def parse_labels(content: bytes, where: str) -> LabelTable:
    """Reads the columns `timestamp` and `value`, and a segment where there is one, in any order.

    Raises:
        InputError: the bytes are no such table.
    """
    header, body = split_header(content, where)
    time, value, segment = (
        _position(header, "timestamp", where),
        _position(header, "value", where),
        _segment_position(header),
    )
    types = {time: pa.float64(), value: pa.float64()} | (
        {} if segment is None else {segment: pa.string()}
    )
    cells = read_columns(header, body, types, where)
    values = np.array(cells[value].to_numpy(zero_copy_only=False), np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InputError(
            f"{where}: the label of row {infinite[0] + 1} is infinite. Correct it, or write NaN for unknown."
        )
    segments = np.full(len(values), "", np.str_) if segment is None else _segments(cells[segment])
    return LabelTable(_timestamps(cells[time], where), segments, values)


def _position(header: Sequence[str], name: str, where: str) -> int:
    names = [column.lower() for column in header]
    if name not in names:
        raise InputError(
            f"{where}: the header {_shown(header)} has no column {name!r}. Name the column so."
        )
    return names.index(name)


def _segment_position(header: Sequence[str]) -> int | None:
    names = [column.lower() for column in header]
    return next((names.index(name) for name in SEGMENT_NAMES if name in names), None)


def _shown(header: Sequence[str]) -> str:
    return repr(",".join(header[:4]) + (",..." if len(header) > 4 else ""))


def _segments(cells: pa.Array) -> NDArray[np.str_]:
    return np.array([(cell or "").strip() for cell in cells.to_pylist()], np.str_)


def _timestamps(cells: pa.Array, where: str) -> NDArray[np.int64]:
    """Whole milliseconds, strictly ascending."""
    exact = cells.to_numpy(zero_copy_only=False)
    unknown = np.flatnonzero(~(np.abs(exact) < LATEST_MS))
    if len(unknown):
        raise InputError(
            f"{where}: row {unknown[0] + 1} has no timestamp in ms. Complete the column."
        )
    rounded: NDArray[np.int64] = np.rint(exact).astype(np.int64)
    wrong = np.flatnonzero(np.diff(rounded) <= 0)
    if len(wrong):
        row = int(wrong[0])
        first, second = (f"{time:.15g}" for time in exact[row : row + 2])
        if exact[row] == exact[row + 1]:
            mistake = f"have the timestamp {first} twice. Keep one of them"
        elif exact[row] > exact[row + 1]:
            mistake = f"go back from timestamp {first} to {second}. Sort the file by time"
        else:
            mistake = f"have the timestamps {first} and {second}, in one millisecond. Write ms, not seconds"
        raise InputError(f"{where}: rows {row + 1} and {row + 2} {mistake}.")
    return rounded
