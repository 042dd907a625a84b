"""Raw features of one session, as a caller has them, to a session that a model can predict."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.corpus import Session
from pipeline.errors import InputError
from pipeline.preprocessing.cleaning import clean
from pipeline.preprocessing.columns import ColumnMistake, choose_columns, describe_set_aside

Columns = Mapping[str, tuple[str, ...]]
"""Feature set -> names of its columns, in the order in which the model reads them."""

logger = logging.getLogger(__name__)


def raw_session(
    features: Mapping[str, ArrayLike | pd.DataFrame],
    timestamps_ms: ArrayLike | None,
    columns: Columns,
    frame_period_ms: float,
    set_aside: Columns | None = None,
) -> Session:
    """Check raw features against what a model reads, and clean them.

    Args:
        features: see `FusedModel.predict`.
        timestamps_ms: shape (frames,), ascending; None: from 0, a frame period apart.
        columns: what the model reads.
        frame_period_ms: distance of two frames.
        set_aside: feature set -> columns that were no features in training.

    Raises:
        InputError: an unknown modality, no modality at all, shapes or columns that do not fit.
    """
    unknown = sorted(set(features) - set(columns))
    unknown = sorted(set(features) - set(columns))
    modalities = ", ".join(columns)
    if unknown:
        raise InputError(f"The model has no feature set {unknown[0]!r}; it reads {modalities}.")
    if not features:
        raise InputError(f"No features were given; the model reads {modalities}.")

    num_frames = _num_frames(*next(iter(features.items())))
    timestamps = _timestamps(timestamps_ms, num_frames, frame_period_ms)
    arrays: dict[str, NDArray[np.float32]] = {}
    for modality, values in features.items():
        if isinstance(values, pd.DataFrame):
            known = (set_aside or {}).get(modality, ())
            values = _model_columns(modality, values, columns[modality], timestamps, known)
        arrays[modality] = _array(modality, values)
        _raise_if_other_shape(modality, arrays[modality], num_frames, len(columns[modality]))

    cleaned, present = {}, {}
    for modality, names in columns.items():
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


def _num_frames(modality: str, values: ArrayLike | pd.DataFrame) -> int:
    return len(values) if isinstance(values, pd.DataFrame) else len(_array(modality, values))


def _model_columns(
    modality: str,
    table: pd.DataFrame,
    columns: tuple[str, ...],
    timestamps_ms: NDArray[np.int64],
    known: Collection[str],
) -> NDArray[np.float32]:
    """Return the model's columns of a table in the model's order; NaN in rows marked as failed."""
    if len(table) != len(timestamps_ms):
        return _array(modality, table)  # of another shape, which is refused

    def values(place: int) -> NDArray[np.float64]:
        numbers = pd.to_numeric(table.iloc[:, place], errors="coerce")
        return np.asarray(numbers, np.float64)

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


def _timestamps(
    timestamps_ms: ArrayLike | None, num_frames: int, frame_period_ms: float
) -> NDArray[np.int64]:
    if timestamps_ms is None:
        timestamps_ms = np.round(np.arange(num_frames) * frame_period_ms)

    timestamps = np.asarray(timestamps_ms, dtype=np.int64)
    has_steps_back = np.any(np.diff(timestamps) <= 0)
    if timestamps.shape != (num_frames,) or not num_frames or has_steps_back:
        raise InputError(
            f"timestamps_ms must be {num_frames} ascending numbers, one per frame, "
            "and at least one."
        )
    return timestamps
