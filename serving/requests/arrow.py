"""Requests and responses as Arrow IPC streams: the compact form for long sessions.

A request is one stream per feature set, one after the other. Each has a schema whose metadata has
`feature_set` (and, in any of them, `session_id`), float columns named as the model's, optionally a
column `timestamp_ms` (of its own: see `FeatureSet`), and one record batch.

A response is one stream of one record batch: `timestamp_ms`, the targets, `<target>.low` and
`<target>.high` of those with a band, `<modality>.error` and `<modality>.percentile`, and of those
targets whose fusion has a gate `<target>.weight.<modality>`. The metadata `affectune` of its schema
holds the rest as JSON.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.preprocessing.bookkeeping import may_be_bookkeeping, may_mark_rows, word_number
from serving.requests.arrow_messages import raise_if_too_much
from serving.requests.request_error import RequestError
from serving.requests.schema import (
    SESSION_ID,
    SESSION_ID_MESSAGE,
    FeatureSet,
    SessionFeatures,
    SessionResponse,
    printable_name,
    raise_if_too_large,
    to_json,
)
from serving.settings import Limits

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
TIMESTAMP = "timestamp_ms"

READ_ERRORS = (
    pa.ArrowException,
    struct.error,
    IndexError,
    OSError,
    ValueError,
    TypeError,
    OverflowError,
)
"""What Arrow and `struct` raise of bytes that are no stream."""


def read_arrow(body: bytes, limits: Limits) -> SessionFeatures:
    """Read feature sets, one stream each.

    Raises:
        RequestError: 400 where it is not Arrow, 422 where it does not fit.
        MemoryError: there is too little memory.
    """
    try:
        raise_if_too_much(body, limits)
        return _read_streams(body, limits)
    except pa.ArrowMemoryError:
        raise MemoryError from None
    except READ_ERRORS:
        message = "The body is not a sequence of Arrow IPC streams."
        raise RequestError(400, "not_arrow", message) from None


def write_arrow(response: SessionResponse) -> bytes:
    """Write a response as one stream.

    Raises:
        RequestError: 406, two columns would have the same name.
    """
    columns: dict[str, pa.Array] = {}
    for name, values in _named_series(response):
        if name in columns:
            # Names are those of a corpus's folders, which may have dots, too.
            message = (
                f"Two columns would be named {printable_name(name)!r}, by the names of the "
                "model's targets and feature sets. Ask for JSON."
            )
            raise RequestError(406, "ambiguous_columns", message)
        columns[name] = pa.array(values)

    metadata = {
        "session_id": response.session_id,
        "model": {"name": response.name, "version": response.version},
        "warnings": [notice.model_dump() for notice in response.warnings],
    }
    batch = pa.record_batch(columns).replace_schema_metadata({"affectune": to_json(metadata)})

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _named_series(response: SessionResponse) -> Iterator[tuple[str, NDArray[Any]]]:
    yield TIMESTAMP, response.timestamps_ms
    yield from response.predictions.items()
    for owner, series in (*response.bands.items(), *response.difficulty.items()):
        for name, values in series.items():
            yield f"{owner}.{name}", values
    for target, weights in response.weights.items():
        for modality, values in weights.items():
            yield f"{target}.weight.{modality}", values


def _read_streams(body: bytes, limits: Limits) -> SessionFeatures:
    source = pa.BufferReader(body)
    feature_sets: dict[str, FeatureSet] = {}
    session_id: str | None = None

    while source.tell() < len(body):
        reader = pa.ipc.open_stream(source)
        metadata = reader.schema.metadata or {}
        name = _feature_set_name(metadata, feature_sets)
        where = f"features.{printable_name(name)}"

        batch = _read_batch(reader, where, limits)
        if b"session_id" in metadata:
            session_id = metadata[b"session_id"].decode()
        feature_sets[name] = _columns(batch, where)

    if session_id is not None and not SESSION_ID.fullmatch(session_id):
        raise RequestError.unprocessable("bad_session_id", SESSION_ID_MESSAGE, "session_id")
    return SessionFeatures(session_id, None, feature_sets)


def _feature_set_name(metadata: dict[bytes, bytes], feature_sets: dict[str, FeatureSet]) -> str:
    name = metadata.get(b"feature_set", b"").decode()
    if not name or name in feature_sets:
        message = "Each stream's schema needs metadata 'feature_set', a name of its own."
        raise RequestError.unprocessable("missing_field", message, "features")
    return name


def _read_batch(reader: pa.RecordBatchStreamReader, where: str, limits: Limits) -> pa.RecordBatch:
    """Read the one record batch of a stream to the stream's end."""
    raise_if_too_large(0, len(reader.schema.names), where, limits)
    batches = list(reader)
    if len(batches) != 1:
        message = "No record batch; write each feature set as one."
        raise RequestError.unprocessable("one_batch", message, where)

    [batch] = batches
    batch.validate(full=True)
    has_timestamps = TIMESTAMP in batch.schema.names
    raise_if_too_large(
        batch.num_rows, batch.num_columns, where, limits, has_timestamps=has_timestamps
    )
    return batch


def _columns(batch: pa.RecordBatch, where: str) -> FeatureSet:
    """Return the columns of a record batch, with its timestamps where it has any."""
    names, columns = [], []
    timestamps_ms = None

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        numbers = _to_numbers(name, column, where)
        if name == TIMESTAMP and timestamps_ms is not None:
            message = f"Two columns are named {TIMESTAMP!r}."
            raise RequestError.unprocessable("repeated_columns", message, where)
        if name == TIMESTAMP:
            timestamps_ms = numbers
        else:
            names.append(name)
            columns.append(numbers)

    if timestamps_ms is not None and not np.isfinite(timestamps_ms).all():
        raise RequestError.unprocessable("wrong_timestamps", "A timestamp is missing.", where)

    values = np.stack(columns, axis=1) if columns else np.empty((batch.num_rows, 0))
    return FeatureSet(tuple(names), values, timestamps_ms)


def _to_numbers(name: str, column: pa.Array, where: str) -> NDArray[np.float64]:
    """Return a column as numbers. One that may be no feature, such as a file name, may be text."""
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not is_number and (name == TIMESTAMP or not may_be_bookkeeping(name)):
        place = f"{where}.{printable_name(name)}"
        raise RequestError.unprocessable("wrong_type", "Every column must hold numbers.", place)

    if is_number or pa.types.is_boolean(column.type):
        numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(
            zero_copy_only=False
        )
        return numbers
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if is_text and may_mark_rows(name):
        return np.array([word_number(cell) for cell in column.to_pylist()], np.float64)
    return np.full(len(column), np.nan)
