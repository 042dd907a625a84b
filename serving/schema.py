"""Requests and responses as JSON: shapes, units, limits. What does not fit is refused with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from serving.request_error import RequestError, unfit
from serving.settings import Limits

Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Finite | None], FailFast()]
Series = Annotated[
    list[float | None], Field(description="One value per frame; null where there is none.")
]
SESSION_ID = re.compile(r"[\w .:@+-]{1,200}")


class _Sent(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FeatureSetSent(_Sent):
    """One feature set: rows are frames. `null` is a missing value, a row of nulls or of zeros a missing frame."""

    columns: Annotated[list[str], FailFast()] = Field(description="Names, in any order.")
    data: Annotated[list[Row], FailFast()] = Field(
        description="One row per frame, one number per column."
    )


class PredictionRequest(_Sent):
    """One session."""

    session_id: str | None = Field(
        None, pattern=rf"^{SESSION_ID.pattern}$", description="Given back as it came."
    )
    timestamps_ms: list[Finite] | None = Field(
        None,
        fail_fast=True,
        description="One per frame, ascending, at the model's rate; default: from 0.",
    )
    features: dict[str, FeatureSetSent] = Field(
        description="Feature set -> its frames; see GET /v1/model."
    )


class Notice(BaseModel):
    """Something to know about a prediction, or about why there is none."""

    code: str
    message: str
    where: str


class Error(BaseModel):
    """Every response that is not 200."""

    error: Notice


class ModelName(BaseModel):
    name: str
    version: str


class ModalityDifficulty(BaseModel):
    """How hard the frames of one feature set are; null where it is missing."""

    error: Series
    percentile: Series


class PredictionResponse(BaseModel):
    """What the model says of one session; predictions are in the label's unit."""

    session_id: str | None
    model: ModelName
    timestamps_ms: list[int]
    predictions: dict[str, Series]
    difficulty: dict[str, ModalityDifficulty]
    warnings: list[Notice]


class ModelResponse(BaseModel):
    """What is served."""

    name: str
    version: str
    targets: list[str]
    features: dict[str, list[str]]
    frame_rate_hz: float
    ccc: dict[str, float | None]
    limits: dict[str, float]
    card: str


@dataclass(frozen=True)
class FeatureSet:
    """Columns by name, and values of shape (frames, columns), float64, NaN where missing."""

    columns: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class SessionFeatures:
    """One session as it was sent, whatever the form: readable, not yet compared with a model."""

    session_id: str | None
    timestamps_ms: NDArray[np.float64] | None
    sets: Mapping[str, FeatureSet]


@dataclass(frozen=True)
class Answer:
    """What is said of one session; series have shape (frames,)."""

    session_id: str | None
    name: str
    version: str
    timestamps_ms: NDArray[np.int64]
    predictions: Mapping[str, NDArray[np.float64]]
    difficulty: Mapping[str, Mapping[str, NDArray[np.float64]]]
    warnings: tuple[Notice, ...]

    def to_json(self) -> bytes:
        """As `PredictionResponse`; NaN is null."""
        return to_json(
            {
                "session_id": self.session_id,
                "model": {"name": self.name, "version": self.version},
                "timestamps_ms": self.timestamps_ms.tolist(),
                "predictions": {
                    target: series.tolist() for target, series in self.predictions.items()
                },
                "difficulty": {
                    modality: {name: series.tolist() for name, series in both.items()}
                    for modality, both in self.difficulty.items()
                },
                "warnings": [notice.model_dump() for notice in self.warnings],
            }
        )


def to_json(value: Any) -> bytes:
    """JSON bytes; a number that JSON cannot say is null."""
    return pydantic_core.to_json(value, inf_nan_mode="null")


def read_json(body: bytes, limits: Limits) -> SessionFeatures:
    """Read a `PredictionRequest`.

    Raises:
        Refusal: 400 where it is not JSON, 422 where it does not fit.
    """
    # Every list costs a reader of JSON some hundred bytes, and "[]," is three: a small body must not fill the memory.
    if body.count(b"[") + body.count(b"{") > 16 * limits.max_frames + 1000:
        raise unfit(
            "too_many_frames", f"More lists than {limits.max_frames} frames can need.", "features"
        )
    try:
        sent = PredictionRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    except RecursionError:
        raise RequestError(400, "not_json", "The body is nested too deeply.") from None
    timestamps = (
        None if sent.timestamps_ms is None else np.array(sent.timestamps_ms, dtype=np.float64)
    )
    sets = {
        name: _feature_set(name, feature_set, limits) for name, feature_set in sent.features.items()
    }
    return SessionFeatures(sent.session_id, timestamps, sets)


def check_size(frames: int, columns: int, where: str, limits: Limits) -> None:
    """Refuse a feature set that is too large.

    Raises:
        Refusal: 422.
    """
    if frames > limits.max_frames:
        raise unfit(
            "too_many_frames",
            f"{frames} frames; at most {limits.max_frames} are answered. Cut the session.",
            where,
        )
    if columns > limits.max_columns:
        raise unfit(
            "too_many_columns", f"{columns} columns; at most {limits.max_columns} are read.", where
        )


def _feature_set(name: str, sent: FeatureSetSent, limits: Limits) -> FeatureSet:
    where = f"features.{shown(name)}"
    check_size(len(sent.data), len(sent.columns), where, limits)
    width = len(sent.columns)
    for index, row in enumerate(sent.data):
        if len(row) != width:
            raise unfit(
                "ragged_rows",
                f"A row has {len(row)} numbers, but there are {width} columns.",
                f"{where}.data[{index}]",
            )
    values = np.array(sent.data, dtype=np.float64).reshape(len(sent.data), width)
    return FeatureSet(tuple(sent.columns), values)


def shown(name: str) -> str:
    """A name that came from outside, short and harmless enough for a message; else a place holder."""
    return name if re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) else "?"


def _refusal(error: ValidationError) -> RequestError:
    """The first mistake, without the input that it is about."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        message = first["msg"].removeprefix("Invalid JSON: ")
        return RequestError(
            400, "not_json", f"The body is not JSON: {message}. NaN and Infinity are not: use null."
        )
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{shown(part)}"
        for part in first["loc"]
        if part not in _UNIONS
    ).lstrip(".")
    code, message = _MISTAKES.get(first["type"], ("wrong_type", f"{first['msg']}."))
    return unfit(code, message, where)


_UNIONS = ("constrained-float", "float", "none", "nullable")
_MISTAKES = {
    "extra_forbidden": ("unknown_field", "There is no such field. Remove it."),
    "missing": ("missing_field", "This field is needed."),
    "finite_number": (
        "not_finite",
        "NaN and infinite numbers are not taken: use null for a missing value.",
    ),
    "string_pattern_mismatch": (
        "bad_session_id",
        "1 to 200 letters, digits, spaces and any of _ . : @ + - are taken.",
    ),
}
