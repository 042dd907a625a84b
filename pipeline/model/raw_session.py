"""Raw features of one session, as a caller has them, to a session that a model can predict."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.corpus import Resampling, Session, Times
from pipeline.errors import InputError
from pipeline.model.timed_rows import TimedRows, frame_unit, make_frames, put_on_frames, row_unit
from pipeline.preprocessing.align import original_columns, whole_if_possible
from pipeline.preprocessing.bookkeeping import word_number
from pipeline.preprocessing.cleaning import clean
from pipeline.preprocessing.columns import ColumnMistake, choose_columns, describe_set_aside

Columns = Mapping[str, tuple[str, ...]]
"""Feature set -> names of its columns, in the order in which the model reads them."""
TIME_COLUMNS = ("timestamp", "timestamp_ms")
"""Names of the column of a table that has its own timestamps."""

logger = logging.getLogger(__name__)


def raw_session(
    features: Mapping[str, ArrayLike | pd.DataFrame],
    timestamps_ms: ArrayLike | None,
    columns: Columns,
    frame_period_ms: float,
    set_aside: Columns | None = None,
    resampling: Mapping[str, Resampling] | None = None,
) -> Session:
    """Check raw features against what a model reads, and clean them.

    Args:
        features: see `FusedModel.predict`.
        timestamps_ms: shape (frames,), ascending; None: those of the feature sets that have some,
            else from 0, a frame period apart.
        columns: what the model reads.
        frame_period_ms: distance of two frames.
        set_aside: feature set -> columns that were no features in training.
        resampling: feature set -> what a frame is of rows with timestamps of their own.

    Raises:
        InputError: an unknown modality, no modality at all, shapes, columns or timestamps that do
            not fit.
    """
    unknown = sorted(set(features) - set(columns))
    modalities = ", ".join(columns)
    if unknown:
        raise InputError(f"The model has no feature set {unknown[0]!r}; it reads {modalities}.")
    if not features:
        raise InputError(f"No features were given; the model reads {modalities}.")

    kinds: dict[str, Resampling] = {
        name: (resampling or {}).get(name, "nearest") for name in columns
    }
    known = set_aside or {}
    timed = {
        name: _timed_rows(
            name, values, original_columns(columns[name], kinds[name]), known.get(name, ())
        )
        for name, values in features.items()
        if isinstance(values, pd.DataFrame) and _time_column(values, columns[name])
    }
    for name in timed:
        _raise_if_other_unit(name, timed[name], timestamps_ms, frame_period_ms)

    untimed = {name: values for name, values in features.items() if name not in timed}
    if timestamps_ms is None and timed and not untimed:
        timestamps_ms = make_frames(timed, frame_period_ms)
    num_frames = _num_frames(untimed, timestamps_ms)
    timestamps = _timestamps(timestamps_ms, num_frames, frame_period_ms)
    arrays: dict[str, NDArray[np.float32]] = {}
    for modality, values in untimed.items():
        if isinstance(values, pd.DataFrame):
            values = _model_columns(
                modality, values, columns[modality], timestamps, known.get(modality, ())
            )
        arrays[modality] = _array(modality, values)
        _raise_if_other_shape(modality, arrays[modality], num_frames, len(columns[modality]))

    cleaned, present = {}, {}
    for modality, names in columns.items():
        if modality in timed:
            on_frames = put_on_frames(
                modality, timed[modality], timestamps, frame_period_ms, kinds[modality]
            )
            cleaned[modality], present[modality] = on_frames.values, on_frames.present
            continue

        raw = arrays.get(modality)
        if raw is None:
            raw = np.full((num_frames, len(names)), np.nan, dtype=np.float32)
        cleaned[modality], present[modality], _, _ = clean(timestamps, raw.copy())

    return Session(
        session_id="",
        subject="",
        partition="test",
        timestamps_ms=timestamps,
        segment_ids=np.full(num_frames, "1"),
        features=cleaned,
        present=present,
        labels={},
    )


def _time_column(table: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """Return the column of a table's own timestamps; "" where it has none."""
    for name in TIME_COLUMNS:
        if name in table.columns and name not in columns:
            return name
    return ""


def _timed_rows(
    modality: str, table: pd.DataFrame, columns: tuple[str, ...], known: Collection[str]
) -> TimedRows:
    name = _time_column(table, columns)
    times = np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=np.float64)
    if not len(times) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise InputError(
            f"{modality!r}: the column {name!r} must have ascending numbers of ms, and at least "
            "one. Sort the rows, or drop the column where rows are frames."
        )

    values = _model_columns(modality, table.drop(columns=name), columns, times, known)
    _raise_if_other_shape(modality, values, len(times), len(columns))
    return TimedRows(whole_if_possible(times), values)


def _raise_if_other_unit(
    modality: str, rows: TimedRows, timestamps_ms: ArrayLike | None, frame_period_ms: float
) -> None:
    length_ms = None
    if timestamps_ms is not None:
        frames_ms = np.asarray(timestamps_ms, dtype=np.float64)
        length_ms = float(np.ptp(frames_ms)) if frames_ms.size else None
    unit = row_unit(rows.timestamps_ms.astype(np.float64), frame_period_ms, length_ms)
    if unit:
        first, last = rows.timestamps_ms[0], rows.timestamps_ms[-1]
        raise InputError(
            f"{modality!r}: its timestamps, {first} to {last}, look like {unit}. Give ms."
        )


def _num_frames(
    features: Mapping[str, ArrayLike | pd.DataFrame], timestamps_ms: ArrayLike | None
) -> int:
    for modality, values in features.items():
        return len(values) if isinstance(values, pd.DataFrame) else len(_array(modality, values))
    return len(np.asarray(timestamps_ms))


def _model_columns(
    modality: str,
    table: pd.DataFrame,
    columns: tuple[str, ...],
    timestamps_ms: Times,
    known: Collection[str],
) -> NDArray[np.float32]:
    """Return the model's columns of a table in the model's order; NaN in rows marked as failed."""
    if len(table) != len(timestamps_ms):
        return _array(modality, table)  # of another shape, which is refused

    def values(place: int) -> NDArray[np.float64]:
        cells = table.iloc[:, place]
        numbers = np.array(pd.to_numeric(cells, errors="coerce"), np.float64)
        for row in np.flatnonzero(np.isnan(numbers)):
            numbers[row] = word_number(cells.iloc[row])
        return numbers

    try:
        chosen = choose_columns(
            columns, table.columns, values, timestamps_ms.astype(np.float64), known
        )
    except ColumnMistake as mistake:
        raise InputError(
            f"{modality!r}: {mistake}. Name the columns as the model does, in any order; an array "
            "is read by position."
        ) from None

    if chosen.set_aside:
        names = describe_set_aside(chosen.set_aside)
        logger.warning("%r: set aside, as no features: %s.", modality, names)
    selected = _array(modality, table.iloc[:, chosen.positions])
    return np.where(chosen.is_failed[:, None], np.float32("nan"), selected)


def _array(modality: str, values: ArrayLike | pd.DataFrame) -> NDArray[np.float32]:
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{modality!r} is not an array of numbers: {error}.") from error


def _raise_if_other_shape(
    modality: str, values: NDArray[np.float32], num_frames: int, num_columns: int
) -> None:
    if values.ndim != 2 or values.shape != (num_frames, num_columns):
        raise InputError(
            f"{modality!r} has shape {values.shape}; it must be ({num_frames} frames, "
            f"{num_columns} columns)."
        )


def _timestamps(timestamps_ms: ArrayLike | None, num_frames: int, frame_period_ms: float) -> Times:
    if timestamps_ms is None:
        timestamps_ms = np.round(np.arange(num_frames) * frame_period_ms)

    exact = np.asarray(timestamps_ms, dtype=np.float64)
    if exact.shape == (num_frames,) and (unit := frame_unit(exact, frame_period_ms)):
        start = ", ".join(f"{time:g}" for time in exact[:3])
        raise InputError(f"timestamps_ms look like {unit} ({start}, ...): give ms.")

    has_steps_back = np.any(~(np.diff(exact) > 0))
    if exact.shape != (num_frames,) or not num_frames or has_steps_back:
        raise InputError(
            f"timestamps_ms must be {num_frames} ascending numbers, one per frame, "
            "and at least one."
        )
    return whole_if_possible(exact)
