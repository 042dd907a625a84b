"""The columns of a feature file that may be no features: their names, their values, their marks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.preprocessing.bookkeeping import (
    TIMED,
    Kind,
    column_traits,
    failed_rows,
    is_timestamp,
    word_number,
)
from pipeline.preprocessing.columns import ColumnMistake, raise_if_doubled

LARGE = 1e6
"""Above it a 32-bit number may not tell neighbouring rows apart."""


def feature_positions(header: Sequence[str], others: Collection[int], where: str) -> dict[str, int]:
    """Return name -> position of the columns that may be features.

    A second timestamp gets the name that pandas would give it.

    Args:
        header: names of all columns.
        others: positions of the timestamp and the segment.
        where: how messages name the file.

    Raises:
        InputError: two columns have the same name.
    """
    names = {}
    num_timestamps = 0
    for position, name in enumerate(header):
        if position in others:
            continue
        if is_timestamp(name) and "." not in name:
            num_timestamps += 1
            name = f"{name}.{num_timestamps}"
        names[position] = name

    try:
        raise_if_doubled(list(names.values()))
    except ColumnMistake as mistake:
        raise InputError(f"{where}: {mistake}. Give every column a name of its own.") from None
    return {name: position for position, name in names.items()}


def to_numbers(cells: pa.Array) -> NDArray[np.float64]:
    """Return numbers or texts as numbers, shape (rows,): NaN for what is none."""
    if not pa.types.is_string(cells.type):
        numbers: NDArray[np.float64] = cells.to_numpy(zero_copy_only=False)
        return numbers
    return np.array([_to_number(cell) for cell in cells.to_pylist()], np.float64)


def is_monotonic(cells: pa.Array) -> bool:
    """Return whether a column may count the rows or repeat the timestamps, up or down."""
    values = cells.to_numpy(zero_copy_only=False)
    if values[-1] < values[0]:
        return bool((np.diff(values) <= 0).all())
    # Seconds since 1970 are all the same in 32 bits.
    may_rise = values[-1] > values[0] or values[0] > LARGE
    return bool(may_rise and (np.diff(values) >= 0).all())


def doubtful_traits(
    columns: Mapping[str, NDArray[np.float64]],
    named: Collection[str],
    timestamps_ms: NDArray[np.float64],
    where: str,
) -> dict[str, frozenset[str]]:
    """Return what the values of columns are like, of those that may be no features.

    Args:
        columns: name -> values, shape (rows,).
        named: those of them that may be no features whatever their values are.
        timestamps_ms: shape (rows,), in any unit.
        where: how messages name the file.

    Raises:
        InputError: a second column "timestamp" is no time: which of the two is meant?
    """
    traits: dict[str, frozenset[str]] = {}
    for name, values in columns.items():
        found = column_traits(values, timestamps_ms)
        if name in named or found & TIMED:
            traits[name] = frozenset(found)
        if is_timestamp(name) and "ascends" not in found:
            raise InputError(
                f"{where}: the second column 'timestamp' does not ascend, so it is no time. Rename "
                "the column, or remove it."
            )
    return traits


def clear_failed_rows(
    raw: NDArray[np.float32], columns: Mapping[str, NDArray[np.float64]], kinds: Mapping[str, Kind]
) -> int:
    """Clear the rows, in place, that a column marks as failed; return how many had a signal.

    Args:
        raw: the features, shape (rows, columns); NaN afterwards in these rows.
        columns: name -> values, shape (rows,).
        kinds: those of them that are no features -> what they are.
    """
    if not kinds:
        return 0

    is_signal = np.isfinite(raw)
    if raw.shape[1] > 1:
        is_signal &= raw != 0
    is_failed = failed_rows({name: columns[name] for name in kinds}, kinds)
    is_failed &= is_signal.any(axis=1)
    raw[is_failed] = np.nan
    return int(is_failed.sum())


def _to_number(text: str | None) -> float:
    try:
        return float((text or "").strip())
    except ValueError:
        return word_number(text)
