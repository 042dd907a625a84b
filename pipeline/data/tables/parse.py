"""Parses the bytes of one file of a feature set or a target into arrays. Knows no folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.tables.csv_columns import read_columns, split_header
from pipeline.data.tables.doubtful_columns import (
    clear_failed_rows,
    doubtful_traits,
    feature_positions,
    is_rising,
    to_numbers,
)
from pipeline.data.tables.file_lines import line_of_row
from pipeline.errors import InputError
from pipeline.preprocessing.bookkeeping import FileColumns, Kind, may_be_bookkeeping
from pipeline.preprocessing.cleaning import clean
from pipeline.preprocessing.columns import describe_set_aside, find_bookkeeping

SEGMENT_NAMES = ("segment_id", "subject_id")
"""The segment column's name in 2021, and in 2022 and 2023."""
LATEST_MS = 2.0**53
"""Beyond this a float no longer counts single milliseconds."""
NUM_QUOTED_COLUMNS = 4


@dataclass(frozen=True)
class FeatureTable:
    """One file of a feature set, cleaned.

    Attributes:
        columns: names of the features, as this file's header has them.
        timestamps_ms: shape (rows,), strictly ascending.
        segment_ids: shape (rows,), as written.
        values: shape (rows, columns), float32, finite; 0 where not present.
        present: shape (rows,); False for a row without a number, and for a row of zeros: that is
            how extractors write "no face", "no speech". In a set of one column a zero is a
            measurement.
        imputed: shape (rows,); how many of the row's cells were NaN or infinite. They are
            interpolated in time (see `preprocessing.cleaning`).
        num_zero_rows: how many rows are not present because they are zeros.
        num_failed_rows: how many more are not present because a column marks them as failed.
        set_aside: further columns, which are no features -> what they are.
        traits: of all columns that may be no features -> what their values are like (see
            `preprocessing.bookkeeping`).
    """

    columns: tuple[str, ...]
    timestamps_ms: NDArray[np.int64]
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    imputed: NDArray[np.int32]
    num_zero_rows: int
    num_failed_rows: int = 0
    set_aside: Mapping[str, Kind] = field(default_factory=dict)
    traits: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Return the number of rows, present or not."""
        return len(self.timestamps_ms)

    @property
    def file_columns(self) -> FileColumns:
        """Return all columns but the timestamp and the segment."""
        return FileColumns((*self.columns, *self.set_aside), self.traits, self.num_rows)

    @property
    def num_present_cells(self) -> int:
        """Return the number of cells in present rows."""
        return int(self.present.sum()) * len(self.columns)

    @property
    def num_imputed_cells(self) -> int:
        """Return the number of cells that were imputed, all of them in present rows."""
        return int(self.imputed.sum())


@dataclass(frozen=True)
class LabelTable:
    """One file of a target.

    Attributes:
        timestamps_ms: shape (rows,), strictly ascending.
        segment_ids: shape (rows,), as written; "" in a file without segments.
        values: shape (rows,), float64 in the label's own unit; NaN where unknown.
    """

    timestamps_ms: NDArray[np.int64]
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float64]


def parse_features(
    content: bytes, where: str, set_aside: Mapping[str, Kind] | None = None
) -> FeatureTable:
    """Parse and clean `timestamp,segment_id,<features...>`.

    Args:
        content: the file's bytes.
        where: how messages name the file.
        set_aside: the columns that are no features, as all files of the set decide; None to decide
            by this file alone.

    Raises:
        InputError: the bytes are no such table.
    """
    header, body = split_header(content, where, may_lack_name=True)
    time = _position(header, "timestamp", where)
    segment = _segment_position(header)
    if segment is None:
        raise InputError(
            f"{where}: the header {_quoted_start(header)} has neither 'segment_id' nor "
            "'subject_id'. Feature files are timestamp,segment_id,<features...>: add the column "
            "(1 in every row will do)."
        )
    position_of = feature_positions(header, (time, segment), where)

    texts = [
        name
        for name in position_of
        if may_be_bookkeeping(name) or (set_aside is not None and name in set_aside)
    ]
    types = {time: pa.float64(), segment: pa.string()}
    types |= {
        position: pa.string() if name in texts else pa.float32()
        for name, position in position_of.items()
    }
    cells = read_columns(header, body, types, where)
    timestamps_ms = _to_timestamps(cells[time], content, where)

    by_name = {name: cells[position] for name, position in position_of.items()}
    rising = [name for name in position_of if name not in texts and is_rising(by_name[name])]
    exact_types = {position_of[name]: pa.float64() for name in rising}
    exact_cells = read_columns(header, body, exact_types, where) if rising else {}
    doubtful = {name: to_numbers(by_name[name]) for name in texts}
    doubtful |= {name: to_numbers(exact_cells[position_of[name]]) for name in rising}
    traits = doubtful_traits(doubtful, texts, to_numbers(cells[time]), where)

    if set_aside is None:
        file = FileColumns(tuple(position_of), traits, len(timestamps_ms))
        set_aside = find_bookkeeping([file])
    aside = {name: set_aside[name] for name in position_of if name in set_aside}
    features = [name for name in position_of if name not in aside]
    if not features:
        raise InputError(
            f"{where}: the header {_quoted_start(header)} has no feature"
            f"{', but only ' if aside else ''}{describe_set_aside(aside)}. Export the file again."
        )

    # What only might have been no feature is a column of numbers after all.
    number_types = {position_of[name]: pa.float32() for name in features if name in texts}
    if number_types:
        cells |= read_columns(header, body, number_types, where)
    raw_RF = _stack([cells[position_of[name]] for name in features])  # R = rows, F = features
    num_failed = clear_failed_rows(raw_RF, doubtful, aside)
    cleaned = clean(timestamps_ms, raw_RF)
    return FeatureTable(
        columns=tuple(features),
        timestamps_ms=timestamps_ms,
        segment_ids=_to_segment_ids(cells[segment]),
        values=cleaned.values,
        present=cleaned.present,
        imputed=cleaned.num_imputed,
        num_zero_rows=cleaned.num_zero_rows,
        num_failed_rows=num_failed,
        set_aside=aside,
        traits=traits,
    )


def parse_labels(content: bytes, where: str) -> LabelTable:
    """Parse the columns `timestamp` and `value`, and a segment if there is one, in any order.

    Args:
        content: the file's bytes.
        where: how messages name the file.

    Raises:
        InputError: the bytes are no such table.
    """
    header, body = split_header(content, where)
    time = _position(header, "timestamp", where)
    value = _position(header, "value", where)
    segment = _segment_position(header)

    types = {time: pa.float64(), value: pa.float64()}
    if segment is not None:
        types[segment] = pa.string()
    cells = read_columns(header, body, types, where)

    values = np.array(cells[value].to_numpy(zero_copy_only=False), np.float64)
    infinite_rows = np.flatnonzero(np.isinf(values))
    if len(infinite_rows):
        line = line_of_row(content, int(infinite_rows[0]))
        raise InputError(
            f"{where}, line {line}, column {header[value]!r}: the label is infinite. Correct it, "
            "or leave the cell empty for unknown."
        )

    segment_ids = np.full(len(values), "", np.str_)
    if segment is not None:
        segment_ids = _to_segment_ids(cells[segment])
    return LabelTable(_to_timestamps(cells[time], content, where), segment_ids, values)


def _position(header: Sequence[str], name: str, where: str) -> int:
    names = [column.lower() for column in header]
    if name not in names:
        raise InputError(
            f"{where}: the header {_quoted_start(header)} has no column {name!r}. "
            "Name the column so."
        )
    return names.index(name)


def _stack(columns: Sequence[pa.Array]) -> NDArray[np.float32]:
    """Return columns as an array of shape (rows, columns)."""
    raw_FR = np.empty((len(columns), len(columns[0])), np.float32)
    for raw_R, column in zip(raw_FR, columns, strict=True):
        raw_R[:] = column.to_numpy(zero_copy_only=False)

    return np.ascontiguousarray(raw_FR.T)


def _segment_position(header: Sequence[str]) -> int | None:
    names = [column.lower() for column in header]
    return next((names.index(name) for name in SEGMENT_NAMES if name in names), None)


def _quoted_start(header: Sequence[str]) -> str:
    """Quote the first columns of a header that may have thousands."""
    start = ",".join(header[:NUM_QUOTED_COLUMNS])
    return repr(f"{start},..." if len(header) > NUM_QUOTED_COLUMNS else start)


def _to_segment_ids(cells: pa.Array) -> NDArray[np.str_]:
    return np.array([(cell or "").strip() for cell in cells.to_pylist()], np.str_)


def _to_timestamps(cells: pa.Array, content: bytes, where: str) -> NDArray[np.int64]:
    """Round to whole milliseconds, which must be strictly ascending."""
    exact_ms = cells.to_numpy(zero_copy_only=False)
    invalid_rows = np.flatnonzero(~(np.abs(exact_ms) < LATEST_MS))
    if len(invalid_rows):
        line = line_of_row(content, int(invalid_rows[0]))
        raise InputError(
            f"{where}, line {line}, column 'timestamp': no timestamp in ms. Complete the column."
        )

    timestamps_ms: NDArray[np.int64] = np.rint(exact_ms).astype(np.int64)
    not_ascending = np.flatnonzero(np.diff(timestamps_ms) <= 0)
    if len(not_ascending):
        row = int(not_ascending[0])
        mistake = _describe_order(exact_ms[row], exact_ms[row + 1])
        lines = f"lines {line_of_row(content, row)} and {line_of_row(content, row + 1)}"
        raise InputError(f"{where}, {lines}, column 'timestamp': they {mistake}.")

    return timestamps_ms


def _describe_order(first_ms: float, second_ms: float) -> str:
    """Describe two timestamps that are not a millisecond or more apart, in this order."""
    first, second = f"{first_ms:.15g}", f"{second_ms:.15g}"
    if first_ms == second_ms:
        return f"have the timestamp {first} twice. Keep one of them"
    if first_ms > second_ms:
        return f"go back from timestamp {first} to {second}. Sort the file by time"

    return f"have the timestamps {first} and {second}, in one millisecond. Write ms, not seconds"
