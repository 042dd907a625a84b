"""Raw features of one session, as a caller has them, to a session that a model can predict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.corpus import Session
from pipeline.errors import InputError
from pipeline.preprocessing.cleaning import clean

Columns = Mapping[str, tuple[str, ...]]
"""Feature set -> names of its columns, in the order in which the model reads them."""


def raw_session(
    features: Mapping[str, ArrayLike | pd.DataFrame],
    timestamps_ms: ArrayLike | None,
    columns: Columns,
    frame_period_ms: float,
) -> Session:
    """Check raw features against what a model reads, and clean them.

    Args:
        features: see `FusedModel.predict`.
        timestamps_ms: shape (frames,), ascending; None: from 0, a frame period apart.
        columns: what the model reads.
        frame_period_ms: distance of two frames.

    Raises:
        InputError: an unknown modality, no modality at all, shapes or columns that do not fit.
    """
    unknown = sorted(set(features) - set(columns))
    known = ", ".join(columns)
    if unknown:
        raise InputError(f"The model has no feature set {unknown[0]!r}; it reads {known}.")
    if not features:
        raise InputError(f"No features were given; the model reads {known}.")

    arrays = {name: _array(name, values, columns[name]) for name, values in features.items()}
    num_frames = len(next(iter(arrays.values())))
    for modality, values in arrays.items():
        _raise_if_other_shape(modality, values, num_frames, len(columns[modality]))
    timestamps = _timestamps(timestamps_ms, num_frames, frame_period_ms)

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


def _array(
    modality: str, values: ArrayLike | pd.DataFrame, columns: tuple[str, ...]
) -> NDArray[np.float32]:
    if isinstance(values, pd.DataFrame):
        values = values.rename(columns=str)
        missing = [column for column in columns if column not in values.columns]
        if missing:
            raise InputError(
                f"{modality!r} has no column {missing[0]!r}; "
                f"{len(missing)} of the model's are missing."
            )
        values = values.loc[:, list(columns)]

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
