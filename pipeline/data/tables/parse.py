"""Parses the bytes of one file of a feature set or a target into arrays. Knows no folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus import Times
from pipeline.data.tables.csv_columns import split_header
from pipeline.data.tables.timestamps import TimeUnit, parse_timestamps, read_table, to_ms, to_text
from pipeline.errors import InputError
from pipeline.preprocessing.cleaning import clean

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
        is_date_time: whether the file has dates and times; its unit is "ns" then, since 1970.
        unit: of the timestamps. A file alone does not tell: see `data.time_units`.
    """

    columns: tuple[str, ...]
    timestamps: Times
    segment_ids: NDArray[np.str_]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    imputed: NDArray[np.int32]
    num_zero_rows: int
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


def parse_features(content: bytes, where: str) -> FeatureTable:
    """Parse and clean `timestamp,segment_id,<features...>`.

    The features are read by position, because headers differ within one feature set.

    Args:
        content: the file's bytes.
        where: how messages name the file.

    Raises:
        InputError: the bytes are no such table.
    """
    header, body = split_header(content, where)
    time = _position(header, "timestamp", where)
    segment = _segment_position(header)
    if segment is None:
        raise InputError(
            f"{where}: the header {_quoted_start(header)} has neither 'segment_id' nor "
            "'subject_id'. Feature files are timestamp,segment_id,<features...>: add the column "
            "(1 in every row will do)."
        )
    features = [position for position in range(len(header)) if position not in (time, segment)]
    if not features:
        raise InputError(
            f"{where}: the header {_quoted_start(header)} has no feature. Export the file again."
        )

    types = {segment: pa.string()} | dict.fromkeys(features, pa.float32())
    cells, texts = read_table(header, body, time, types, where)
    raw_FR = np.empty((len(features), len(texts)), np.float32)  # F = features, R = rows
    for raw_R, position in zip(raw_FR, features, strict=True):
        raw_R[:] = cells[position].to_numpy(zero_copy_only=False)

    timestamps, is_date_time = parse_timestamps(texts, where)
    cleaned = clean(timestamps, np.ascontiguousarray(raw_FR.T))
    return FeatureTable(
        columns=tuple(header[position] for position in features),
        timestamps=timestamps,
        segment_ids=_to_segment_ids(cells[segment]),
        values=cleaned.values,
        present=cleaned.present,
        imputed=cleaned.num_imputed,
        num_zero_rows=cleaned.num_zero_rows,
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
        raise InputError(
            f"{where}: the label of row {infinite_rows[0] + 1} is infinite. Correct it, or write "
            "NaN for unknown."
        )

    segment_ids = np.full(len(values), "", np.str_)
    if segment is not None:
        segment_ids = _to_segment_ids(cells[segment])

    timestamps, is_date_time = parse_timestamps(texts, where)
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


def _segment_position(header: Sequence[str]) -> int | None:
    names = [column.lower() for column in header]
    return next((names.index(name) for name in SEGMENT_NAMES if name in names), None)


def _quoted_start(header: Sequence[str]) -> str:
    """Quote the first columns of a header that may have thousands."""
    start = ",".join(header[:NUM_QUOTED_COLUMNS])
    return repr(f"{start},..." if len(header) > NUM_QUOTED_COLUMNS else start)


def _to_segment_ids(cells: pa.Array) -> NDArray[np.str_]:
    return np.array([(cell or "").strip() for cell in cells.to_pylist()], np.str_)
