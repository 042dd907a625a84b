"""A session as the model reads it: checked against the model, in its columns and its order.

Knows no prediction: what is doubtful about the features alone becomes a warning here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Times
from pipeline.model.fused_model import FusedModel
from pipeline.preprocessing.align import original_columns
from pipeline.preprocessing.cleaning import clean
from pipeline.preprocessing.columns import ColumnMistake, choose_columns, describe_set_aside
from pipeline.preprocessing.normalisation import CLIP, Normalisation
from pipeline.preprocessing.stuck import stuck_rows
from serving.requests.frames import (
    MAX_FRAMES,
    frame_timestamps,
    own_rows,
    rows_on_frames,
    with_common_timestamps,
)
from serving.requests.request_error import RequestError
from serving.requests.schema import FeatureSet, Notice, SessionFeatures, printable_name

PRINTABLE = re.compile(r"[\w .:()\[\]-]{0,64}", re.ASCII)
"""Names of columns from a request that may be in a message."""


@dataclass(frozen=True)
class ModelInput:
    """One session that fits the model.

    Attributes:
        timestamps_ms: shape (frames,), ascending.
        features: modality -> shape (frames, columns), in the model's order; NaN where missing, also
            because the sensor is stuck. A modality that was not sent is absent.
        warnings: what to know about the features.
    """

    timestamps_ms: Times
    features: Mapping[str, NDArray[np.float32]]
    warnings: tuple[Notice, ...]


def to_model_input(
    session: SessionFeatures, model: FusedModel, max_frames: int = MAX_FRAMES
) -> ModelInput:
    """Check a session against a model, and put it on frames.

    Args:
        session: as it was sent.
        model: what is to predict it.
        max_frames: that are answered.

    Raises:
        RequestError: 422, it does not fit.
    """
    _raise_if_not_read(session.feature_sets, model)
    session = with_common_timestamps(session, model.frame_period_ms)
    timestamps_ms, warnings = frame_timestamps(session, model.frame_period_ms, max_frames)

    features = {}
    has_number = False
    for modality in model.modalities:
        if modality not in session.feature_sets:
            warnings.append(_missing(modality, "The feature set is missing"))
            continue

        sent = session.feature_sets[modality]
        resampling = model.resampling_of_sets[modality]
        columns, rows_ms = model.columns[modality], timestamps_ms.astype(np.float64)
        if sent.timestamps_ms is not None:
            columns = original_columns(columns, resampling)
            rows_ms = sent.timestamps_ms
        set_aside = model.set_aside.get(modality, ())
        values, notices = _select_columns(modality, sent, columns, rows_ms, set_aside)
        warnings += notices
        if sent.timestamps_ms is not None:
            rows = own_rows(modality, sent.timestamps_ms, values)
            values, notices = rows_on_frames(
                modality, rows, timestamps_ms, model.frame_period_ms, resampling
            )
            warnings += notices
        has_number = has_number or bool(np.isfinite(values).any())
        warnings += _feature_warnings(modality, values, training_scale(model, modality))
        features[modality], notices = _without_stuck_rows(modality, values, timestamps_ms, model)
        warnings += notices

    if not has_number:
        raise RequestError.unprocessable("no_features", "No feature set has a number.", "features")
    return ModelInput(timestamps_ms, features, tuple(warnings))


def training_scale(model: FusedModel, modality: str) -> Normalisation | None:
    """Return how training scaled a modality's columns; None where that is not known by column."""
    stages = model.auto_encoders.get(modality, ())
    if not stages or len(stages[0].normalisation.mean) != len(model.columns[modality]):
        return None
    return stages[0].normalisation


def _raise_if_not_read(feature_sets: Mapping[str, FeatureSet], model: FusedModel) -> None:
    """Refuse names that the model does not know, and a request without any feature set."""
    known = ", ".join(model.columns)
    for name in feature_sets:
        if name not in model.columns:
            message = f"The model has no such feature set. It reads {known}."
            place = f"features.{printable_name(name)}"
            raise RequestError.unprocessable("unknown_feature_set", message, place)

    if not feature_sets:
        message = f"No feature set was sent; the model reads {known}."
        raise RequestError.unprocessable("no_features", message, "features")


def _select_columns(
    modality: str,
    sent: FeatureSet,
    columns: Sequence[str],
    timestamps_ms: NDArray[np.float64],
    set_aside: Collection[str],
) -> tuple[NDArray[np.float32], list[Notice]]:
    """Return the model's columns in the model's order, and a warning of what is no feature."""
    where = f"features.{modality}"
    try:
        chosen = choose_columns(
            columns,
            sent.columns,
            lambda place: sent.values[:, place],
            timestamps_ms,
            set_aside,
        )
    except ColumnMistake as mistake:
        clause = mistake.describe(_quote)
        message = f"{clause[0].upper()}{clause[1:]}. GET /v1/model has the names."
        place = f"{where}.columns"
        raise RequestError.unprocessable(_code(mistake), message, place) from None

    with np.errstate(over="ignore"):
        values = sent.values[:, chosen.positions].astype(np.float32)
    if np.isinf(values).any():
        raise RequestError.unprocessable("not_finite", "A number is too large for 32 bits.", where)

    values[chosen.is_failed] = np.nan
    if not chosen.set_aside:
        return values, []
    message = f"Set aside, as no features: {describe_set_aside(chosen.set_aside, _quote)}."
    if num_failed := int(chosen.is_failed.sum()):
        message += f" They mark {num_failed} of {len(values)} frames as missing."
    return values, [Notice(code="columns_set_aside", message=message, where=f"{where}.columns")]


def _quote(name: str) -> str:
    """Return a name from a request in quotes, if it may be in a message."""
    return repr(name if PRINTABLE.fullmatch(name) else "?")


def _code(mistake: ColumnMistake) -> str:
    if mistake.doubled is not None:
        return "repeated_columns"
    return "missing_columns" if mistake.missing else "unknown_columns"


def _feature_warnings(
    modality: str, values: NDArray[np.float32], scale: Normalisation | None
) -> list[Notice]:
    """Return warnings of missing frames and cells, and of values outside the training range."""
    where = f"features.{modality}"
    known = np.isfinite(values)
    # As in a corpus: a frame of zeros is missing, unless the feature set has a single column.
    present = (known & (values != 0)).any(axis=1) if values.shape[1] > 1 else known.any(axis=1)
    if not present.any():
        return [_missing(modality, "Every frame is missing")]

    warnings = []
    if num_missing := int((~present).sum()):
        frames = f"{num_missing} of {len(values)} frames are missing"
        warnings.append(_missing(modality, frames))

    if num_imputed := int((~known[present]).sum()):
        message = f"{num_imputed} missing values were interpolated in time."
        warnings.append(Notice(code="imputed_values", message=message, where=where))

    if scale is not None and (num_outside := _num_outside(values[present], scale)):
        message = (
            f"{num_outside} values are more than {CLIP:g} standard deviations "
            "from the training mean, and are clipped."
        )
        warnings.append(Notice(code="outside_training_range", message=message, where=where))
    return warnings


def _without_stuck_rows(
    modality: str, values: NDArray[np.float32], timestamps_ms: Times, model: FusedModel
) -> tuple[NDArray[np.float32], list[Notice]]:
    """Return the values with NaN in the rows of a stuck sensor, and a warning of it.

    The model does the same, but of a long session it reads a chunk at a time.
    """
    limit = model.max_held_frames.get(modality)
    if limit is None:
        return values, []

    cleaned = clean(timestamps_ms, values.copy())
    stuck = stuck_rows(cleaned.values, cleaned.present, limit)
    if not stuck.any():
        return values, []

    is_known = cleaned.present & ~stuck
    seconds = limit * model.frame_period_ms / 1000
    frames = f"{stuck.sum()} of {len(values)} frames repeat the same row for longer than"
    notice = _missing(
        modality, f"{frames} {seconds:g} s, as of a stuck sensor", code="stuck_sensor"
    )
    return np.where(is_known[:, None], cleaned.values, np.float32("nan")), [notice]


def _num_outside(values: NDArray[np.float32], scale: Normalisation) -> int:
    """Return how many values the normalisation clips."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = (values - scale.mean) / scale.std
        return int((np.abs(z) > CLIP).sum())


def _missing(modality: str, cause: str, code: str = "missing_modality") -> Notice:
    message = (
        f"{cause}: read as the training mean and counted as hardest. Predictions may be less "
        "reliable."
    )
    return Notice(code=code, message=message, where=f"features.{modality}")
