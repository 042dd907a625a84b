"""Requests and responses: their shapes and units, and their form as JSON."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import jiter
import numpy as np
import pydantic_core
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from pipeline.corpus import Resampling, Times
from serving.requests.request_error import RequestError
from serving.settings import Limits

Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Finite | None], FailFast()]
ROW: TypeAdapter[list[float | None]] = TypeAdapter(Row, config=ConfigDict(strict=True))
Series = Annotated[
    list[float | None], Field(description="One value per frame; null where there is none.")
]

JSON = "application/json"
ROWS_PER_FRAME = 16
"""A feature set with timestamps of its own has at most so many times the rows of a session."""
MAX_FEATURE_SETS = 64
MAX_FIELDS = 10_000
"""A request needs some hundred; names of columns that begin with a colon count, too."""
SESSION_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}")
SESSION_ID_MESSAGE = "1 to 255 characters that can be printed are taken."


class _Sent(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FeatureSetSent(_Sent):
    """One feature set: rows are frames.

    `null` is a missing value, a row of nulls or of zeros a missing frame.
    """

    columns: Annotated[list[str], FailFast()] = Field(description="Names, in any order.")
    data: Annotated[list[Row], FailFast()] = Field(
        description="One row per frame, or per own timestamp; one number per column."
    )
    timestamps_ms: list[Finite] | None = Field(
        None,
        fail_fast=True,
        description="One per row, ascending, at the feature set's own rate: the rows are put on "
        "frames as in training (see resampling in GET /v1/model). Default: the rows are frames.",
    )


class PredictionRequest(_Sent):
    """One session."""

    session_id: str | None = Field(
        None, pattern=rf"^{SESSION_ID.pattern}$", description="Given back as it came."
    )
    timestamps_ms: list[Finite] | None = Field(
        None,
        fail_fast=True,
        description="One per frame, ascending, at the model's rate; default: of the feature sets "
        "with timestamps of their own, else from 0.",
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
    """Which model predicted."""

    name: str
    version: str


class ModalityDifficulty(BaseModel):
    """How difficult the frames of one feature set are; null where it is missing."""

    error: Series
    percentile: Series


class BandSeries(BaseModel):
    """Where the label lies with the probability that GET /v1/model names, in the label's unit."""

    low: Series
    high: Series


class BandLevel(BaseModel):
    """What the bands of one target promise, and what they covered."""

    level: float = Field(
        description="Share of a new person's frames that they cover on average over people."
    )
    coverage: float | None = Field(
        description="Share of devel's frames that they covered; null where it is unknown."
    )


class PredictionResponse(BaseModel):
    """The prediction of one session, in the label's unit."""

    session_id: str | None
    model: ModelName
    timestamps_ms: list[float]
    predictions: dict[str, Series]
    bands: dict[str, BandSeries] = Field(
        description="Target -> its band; a target without a calibration has none."
    )
    difficulty: dict[str, ModalityDifficulty]
    weights: dict[str, dict[str, Series]] = Field(
        description="Target -> feature set -> how much its prediction is trusted, 0 to 1. They sum "
        "to 1, or are 0 where none has a prediction; a target whose fusion has no gate is absent."
    )
    warnings: list[Notice]


class Distillation(BaseModel):
    """The CCC on devel of distilled networks and of their ensemble; null where undefined."""

    is_kept: bool
    reason: str
    targets: dict[str, dict[str, dict[str, float | None]]]


class ModelResponse(BaseModel):
    """What is served."""

    name: str
    version: str
    targets: list[str]
    features: dict[str, list[str]]
    frame_rate_hz: float
    resampling: dict[str, Resampling] = Field(
        description="Feature set -> what a frame is of rows with timestamps of their own: the "
        "nearest one, the mean of those nearest to it, or mean and standard deviation. For the "
        "last, frames have twice the columns: those of rows, and the same with _std."
    )
    ccc: dict[str, float | None]
    between_ccc: dict[str, float | None]
    within_ccc: dict[str, float | None]
    bands: dict[str, BandLevel | None] = Field(
        description="Target -> what its bands promise; null where predictions have none."
    )
    limits: dict[str, float]
    inference: str
    distillation: Distillation | None
    card: str


@dataclass(frozen=True)
class FeatureSet:
    """One feature set of a request.

    Attributes:
        columns: names.
        values: shape (rows, columns), NaN where missing.
        timestamps_ms: shape (rows,), of its own; None where rows are frames.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    timestamps_ms: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SessionFeatures:
    """One session as it was sent, as JSON or Arrow: readable, not yet compared with a model.

    Attributes:
        session_id: the client's name for it.
        timestamps_ms: shape (frames,), or None where none were sent.
        feature_sets: by name.
    """

    session_id: str | None
    timestamps_ms: NDArray[np.float64] | None
    feature_sets: Mapping[str, FeatureSet]

    @property
    def size_bytes(self) -> int:
        """The memory of its numbers."""
        times = [self.timestamps_ms, *(each.timestamps_ms for each in self.feature_sets.values())]
        values = [each.values for each in self.feature_sets.values()]
        return sum(array.nbytes for array in (*times, *values) if array is not None)


@dataclass(frozen=True)
class SessionResponse:
    """What one session gets, as JSON or Arrow; every series has shape (frames,).

    Attributes:
        session_id: the client's name for it.
        name, version: of the model.
        timestamps_ms: the frames.
        predictions: target -> series, in the label's unit.
        difficulty: modality -> "error" and "percentile" -> series, NaN where missing.
        weights: target -> modality -> how much its prediction is trusted, 0 to 1; a target whose
            fusion has no gate is absent.
        warnings: what to know about the prediction.
        bands: target -> "low" and "high" -> series; a target without a band is absent.
    """

    session_id: str | None
    name: str
    version: str
    timestamps_ms: Times
    predictions: Mapping[str, NDArray[np.float64]]
    difficulty: Mapping[str, Mapping[str, NDArray[np.float64]]]
    weights: Mapping[str, Mapping[str, NDArray[np.float64]]]
    warnings: tuple[Notice, ...]
    bands: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the bytes of a `PredictionResponse`; NaN is null."""
        return to_json(
            {
                "session_id": self.session_id,
                "model": {"name": self.name, "version": self.version},
                "timestamps_ms": self.timestamps_ms.tolist(),
                "predictions": _lists(self.predictions),
                "bands": {target: _lists(series) for target, series in self.bands.items()},
                "difficulty": {
                    modality: _lists(series) for modality, series in self.difficulty.items()
                },
                "weights": {target: _lists(series) for target, series in self.weights.items()},
                "warnings": [notice.model_dump() for notice in self.warnings],
            }
        )


def to_json(value: Any) -> bytes:
    """Return JSON bytes; a number that JSON does not have is null."""
    return pydantic_core.to_json(value, inf_nan_mode="null")


def read_json(body: bytes, limits: Limits) -> SessionFeatures:
    """Read a `PredictionRequest`.

    Raises:
        RequestError: 400 where it is not JSON, 422 where it does not fit.
    """
    body = _without_byte_order_mark(body)
    _raise_if_too_many_parts(body, limits)
    sent = _parse_json(body)
    del body

    rows_of_sets = _take_rows(sent)
    _raise_if_too_many_timestamps(sent, limits)
    try:
        request = PredictionRequest.model_validate(sent)
    except ValidationError as error:
        raise _request_error(error) from None

    num_numbers = sum(
        len(rows_of_sets[name]) * len(each.columns) for name, each in request.features.items()
    )
    raise_if_too_many_numbers(num_numbers, limits)
    timestamps_ms = None
    if request.timestamps_ms is not None:
        timestamps_ms = np.array(request.timestamps_ms, dtype=np.float64)

    feature_sets = {
        name: _to_feature_set(name, each, rows_of_sets[name], limits)
        for name, each in request.features.items()
    }
    return SessionFeatures(request.session_id, timestamps_ms, feature_sets)


def printable_name(name: str) -> str:
    """Return a name from a request if it is short and harmless enough for a message, else "?"."""
    is_harmless = name.isprintable() and not set(name) & set("<>&\"'`")
    return name if 0 < len(name) <= 100 and is_harmless else "?"


def raise_if_too_large(
    num_rows: int, num_columns: int, where: str, limits: Limits, *, has_timestamps: bool = False
) -> None:
    """Compare the size of a feature set with the limits.

    Args:
        num_rows: frames, or rows with timestamps of their own, of which there may be more.
        num_columns: its columns.
        where: how the error names it.
        limits: the limits.
        has_timestamps: whether it has timestamps of its own.

    Raises:
        RequestError: 422, it has too many rows or columns.
    """
    max_rows = limits.max_frames * (ROWS_PER_FRAME if has_timestamps else 1)
    if num_rows > max_rows:
        kind = "rows" if has_timestamps else "frames"
        message = f"{num_rows} {kind}; at most {max_rows} are answered. Cut the session."
        raise RequestError.unprocessable("too_many_frames", message, where)

    if num_columns > limits.max_columns:
        message = f"{num_columns} columns; at most {limits.max_columns} are read."
        raise RequestError.unprocessable("too_many_columns", message, where)


def raise_if_too_many_numbers(num_numbers: int, limits: Limits) -> None:
    """Compare how many numbers a request has, all feature sets together, with the limits.

    Raises:
        RequestError: 422, they would take too much memory.
    """
    if num_numbers > limits.max_numbers:
        message = f"{num_numbers} numbers; at most {limits.max_numbers} are read. Cut the session."
        raise RequestError.unprocessable("too_many_numbers", message, "features")


def _without_byte_order_mark(body: bytes) -> bytes:
    """Return a body without the mark that editors and Windows write before UTF-8."""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RequestError(400, "not_json", "The body is UTF-16. Send JSON as UTF-8.")
    return body.removeprefix(codecs.BOM_UTF8)


def _raise_if_too_many_parts(body: bytes, limits: Limits) -> None:
    """Bound the time and the memory of parsing before it begins.

    A parser needs some hundred bytes for every list, and "[]," is three; each unknown field would
    get an error of its own. A small body must not take long or fill the memory.
    """
    if body.count(b"[") + body.count(b"{") > ROWS_PER_FRAME * limits.max_frames + 1000:
        message = f"More lists than {limits.max_frames} frames can need."
        raise RequestError.unprocessable("too_many_frames", message, "features")

    ends_of_names = re.finditer(rb'"[ \t\r\n]*:', body)
    if any(number == MAX_FIELDS for number, _ in enumerate(ends_of_names)):
        message = f"More than {MAX_FIELDS} fields. See /openapi.json."
        raise RequestError.unprocessable("too_many_fields", message)


def _parse_json(body: bytes) -> Any:
    try:
        return jiter.from_json(body, cache_mode="keys", catch_duplicate_keys=True)
    except ValueError as error:
        cause = str(error)

    if repeated := _REPEATED.fullmatch(cause):
        name, place = repeated.groups()
        message = f"The field {printable_name(name)!r} is there twice ({place}): send it once."
        raise RequestError.unprocessable("repeated_field", message)
    message = f"The body is not JSON: {cause}. NaN and Infinity are not: use null."
    raise RequestError(400, "not_json", message)


def _take_rows(sent: Any) -> dict[str, list[Any]]:
    """Take the rows out of a parsed request, by feature set.

    They are checked one by one, as they become arrays: together they would need the memory twice.

    Raises:
        RequestError: 422, there are too many feature sets.
    """
    features = sent.get("features") if isinstance(sent, dict) else None
    if not isinstance(features, dict):
        return {}
    if len(features) > MAX_FEATURE_SETS:
        message = f"At most {MAX_FEATURE_SETS} feature sets are read."
        raise RequestError.unprocessable("too_many_sets", message, "features")

    rows_of_sets = {}
    for name, each in features.items():
        if isinstance(each, dict) and isinstance(each.get("data"), list):
            rows_of_sets[name] = each["data"]
            each["data"] = []
    return rows_of_sets


def _raise_if_too_many_timestamps(sent: Any, limits: Limits) -> None:
    """Refuse more timestamps than there may be rows, before they are checked one by one."""
    if not isinstance(sent, dict):
        return
    features = sent.get("features")
    sets = features if isinstance(features, dict) else {}
    for name, each in [("", sent), *sets.items()]:
        times = each.get("timestamps_ms") if isinstance(each, dict) else None
        if isinstance(times, list):
            where = f"features.{printable_name(name)}" if name else "timestamps_ms"
            raise_if_too_large(len(times), 0, where, limits, has_timestamps=True)


def _to_feature_set(name: str, sent: FeatureSetSent, rows: list[Any], limits: Limits) -> FeatureSet:
    where = f"features.{printable_name(name)}"
    num_columns = len(sent.columns)
    has_timestamps = sent.timestamps_ms is not None
    raise_if_too_large(len(rows), num_columns, where, limits, has_timestamps=has_timestamps)

    values = _to_numbers(rows, num_columns, f"{where}.data")
    timestamps_ms = np.array(sent.timestamps_ms, dtype=np.float64) if has_timestamps else None
    return FeatureSet(tuple(sent.columns), values, timestamps_ms)


def _to_numbers(rows: list[Any], num_columns: int, where: str) -> NDArray[np.float64]:
    """Return rows as an array, NaN where there is null; `rows` is emptied meanwhile."""
    for index, row in enumerate(rows):
        if isinstance(row, list) and len(row) != num_columns:
            message = f"A row has {len(row)} numbers, but there are {num_columns} columns."
            raise RequestError.unprocessable("ragged_rows", message, f"{where}[{index}]")

    values = np.empty((len(rows), num_columns))
    for index, row in enumerate(rows):
        try:
            values[index] = ROW.validate_python(row)
        except ValidationError as error:
            raise _request_error(error, f"{where}[{index}]") from None
        rows[index] = None
    return values


def _request_error(error: ValidationError, where: str = "") -> RequestError:
    """Return the first mistake below a place, without the input that it is about."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    code, message = _MISTAKES.get(first["type"], ("wrong_type", f"{first['msg']}."))
    return RequestError.unprocessable(code, message, f"{where}{_place(first['loc'])}".lstrip("."))


def _place(location: tuple[int | str, ...]) -> str:
    """Return pydantic's location as it is written in an error: features.face.data[7]."""
    parts = [part for part in location if part not in _UNIONS]
    written = [
        f"[{part}]" if isinstance(part, int) else f".{printable_name(part)}" for part in parts
    ]
    return "".join(written)


def _lists(series: Mapping[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in series.items()}


_REPEATED = re.compile(r'Detected duplicate key "(.*)" at (line \d+ column \d+)', re.DOTALL)
"""What jiter says of a doubled key."""

_UNIONS = ("constrained-float", "float", "none", "nullable")
"""What pydantic adds to a location: a branch of a union, not a place in the request."""

_MISTAKES = {
    "extra_forbidden": ("unknown_field", "There is no such field. Remove it."),
    "missing": ("missing_field", "This field is needed."),
    "finite_number": (
        "not_finite",
        "NaN and infinite numbers are not taken: use null for a missing value.",
    ),
    "string_pattern_mismatch": ("bad_session_id", SESSION_ID_MESSAGE),
}
"""Pydantic's type of a mistake -> our code and message."""
