"""Parses the bytes of one file of a feature set or a target into arrays. Knows no folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus import Times, TimeUnit
from pipeline.data.tables.csv_columns import read_columns, split_header
from pipeline.data.tables.doubtful_columns import (
    clear_failed_rows,
    doubtful_traits,
    feature_positions,
    is_monotonic,
    to_numbers,
)
from pipeline.data.tables.file_lines import line_of_row
from pipeline.data.tables.timestamps import parse_timestamps, read_table, to_ms, to_text
from pipeline.errors import InputError
from pipeline.preprocessing.bookkeeping import FileColumns, Kind, may_be_bookkeeping
from pipeline.preprocessing.cleaning import clean
from pipeline.preprocessing.columns import describe_set_aside, find_bookkeeping

SEGMENT_NAMES = ("segment_id", "subject_id")
"""The segment column's name in 2021, and in 2022 and 2023."""
NUM_QUOTED_COLUMNS = 4


@dataclass(frozen=True)
class FeatureTable:
    """One file of a feature set, cleaned.

    Attributes:
        columns: names of the features, as this file's header has them.
        timestamps: shape (rows,), strictly ascending, in the unit of the file.
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
        is_date_time: whether the file has dates and times; its unit is "ns" then, since 1970.
        unit: of the timestamps. A file alone does not tell: see `data.timeline.time_units`.
    """

    columns: tuple[str, ...]
    timestamps: Times
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    imputed: NDArray[np.int32]
    num_zero_rows: int
    num_failed_rows: int = 0
    set_aside: Mapping[str, Kind] = field(default_factory=dict)
    traits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_date_time: bool = False
    unit: TimeUnit = "ms"

    @cached_property
    def timestamps_ms(self) -> Times:
        """Return the timestamps in ms, shape (rows,)."""
        return to_ms(self.timestamps, self.unit)

    def timestamp_texts(self, rows: NDArray[np.intp]) -> NDArray[np.str_]:
        """Return the timestamps of some rows as text that reads to the same timestamps."""
        return to_text(self.timestamps[rows], is_date_time=self.is_date_time)

    @property
    def num_rows(self) -> int:
        """Return the number of rows, present or not."""
        return len(self.timestamps)

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
        timestamps: shape (rows,), strictly ascending, in the unit of the file.
        texts: shape (rows,), the timestamps as written.
        segment_ids: shape (rows,), as written; "" in a file without segments.
        values: shape (rows,), float64 in the label's own unit; NaN where unknown.
        is_date_time, unit: see `FeatureTable`.
    """

    timestamps: Times
    texts: NDArray[np.str_]
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float64]
    is_date_time: bool = False
    unit: TimeUnit = "ms"

    @cached_property
    def timestamps_ms(self) -> Times:
        """Return the timestamps in ms, shape (rows,)."""
        return to_ms(self.timestamps, self.unit)

    def timestamp_texts(self, rows: NDArray[np.intp]) -> NDArray[np.str_]:
        """Return the timestamps of some rows as written."""
        return self.texts[rows]


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
    types = {segment: pa.string()}
    types |= {
        position: pa.string() if name in texts else pa.float32()
        for name, position in position_of.items()
    }
    cells, times = read_table(header, body, time, types, where)
    timestamps, is_date_time = parse_timestamps(times, content, where)

    by_name = {name: cells[position] for name, position in position_of.items()}
    monotonic = [name for name in position_of if name not in texts and is_monotonic(by_name[name])]
    exact_types = {position_of[name]: pa.float64() for name in monotonic}
    exact_cells = read_columns(header, body, exact_types, where) if monotonic else {}
    doubtful = {name: to_numbers(by_name[name]) for name in texts}
    doubtful |= {name: to_numbers(exact_cells[position_of[name]]) for name in monotonic}
    traits = doubtful_traits(doubtful, texts, timestamps.astype(np.float64), where)

    if set_aside is None:
        file = FileColumns(tuple(position_of), traits, len(timestamps))
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
    cleaned = clean(timestamps, raw_RF)
    return FeatureTable(
        columns=tuple(features),
        timestamps=timestamps,
        segment_ids=_to_segment_ids(cells[segment]),
        values=cleaned.values,
        present=cleaned.present,
        imputed=cleaned.num_imputed,
        num_zero_rows=cleaned.num_zero_rows,
        num_failed_rows=num_failed,
        set_aside=aside,
        traits=traits,
        is_date_time=is_date_time,
        unit="ns" if is_date_time else "ms",
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

    types = {value: pa.float64()}
    if segment is not None:
        types[segment] = pa.string()
    cells, texts = read_table(header, body, time, types, where)

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

    timestamps, is_date_time = parse_timestamps(texts, content, where)
    unit: TimeUnit = "ns" if is_date_time else "ms"
    written = np.array(texts.to_pylist(), np.str_)
    return LabelTable(timestamps, written, segment_ids, values, is_date_time, unit)


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
