"""Requests and responses as Arrow IPC streams: the compact form for long sessions.

A request is one stream per feature set, one after the other: a schema whose metadata has `feature_set` (and, in any
of them, `session_id`), float columns named as the model's, optionally a column `timestamp_ms`, one record batch. A
response is one stream of one record batch: `timestamp_ms`, the targets, `<modality>.error`, `<modality>.percentile`;
its schema's metadata `affectune` holds the rest as JSON.
"""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.request_error import RequestError, unfit
from serving.schema import (
    SESSION_ID,
    Answer,
    FeatureSet,
    SessionFeatures,
    check_size,
    shown,
    to_json,
)
from serving.settings import Limits

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
TIMESTAMP = "timestamp_ms"
MAX_SETS = 64
_CONTINUATION = b"\xff\xff\xff\xff"
# Arrow's Message.fbs: members of the union of headers; RecordBatch's fourth field.
_SCHEMA, _RECORD_BATCH, _COMPRESSION_FIELD = 1, 3, 3


def read_arrow(body: bytes, limits: Limits) -> SessionFeatures:
    """Read feature sets, one stream each.

    Raises:
        Refusal: 400 where it is not Arrow, 422 where it does not fit.
    """
    try:
        _refuse_compression(body)
        return _read(body, limits)
    except (
        pa.ArrowException,
        struct.error,
        IndexError,
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
    ):
        raise RequestError(
            400, "not_arrow", "The body is not a sequence of Arrow IPC streams."
        ) from None


def write_arrow(answer: Answer) -> bytes:
    """A response as one stream."""
    columns = {
        TIMESTAMP: pa.array(answer.timestamps_ms),
        **{t: pa.array(s) for t, s in answer.predictions.items()},
    }
    for modality, both in answer.difficulty.items():
        columns |= {f"{modality}.{name}": pa.array(series) for name, series in both.items()}
    rest = {
        "session_id": answer.session_id,
        "model": {"name": answer.name, "version": answer.version},
        "warnings": [notice.model_dump() for notice in answer.warnings],
    }
    batch = pa.record_batch(columns).replace_schema_metadata({"affectune": to_json(rest)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _read(body: bytes, limits: Limits) -> SessionFeatures:
    source = pa.BufferReader(body)
    sets: dict[str, FeatureSet] = {}
    session_id: str | None = None
    timestamps: NDArray[np.float64] | None = None
    while source.tell() < len(body):
        if len(sets) == MAX_SETS:
            raise unfit("too_many_sets", f"At most {MAX_SETS} feature sets are read.")
        reader = pa.ipc.open_stream(source)
        metadata = reader.schema.metadata or {}
        name = metadata.get(b"feature_set", b"").decode()
        if not name or name in sets:
            raise unfit(
                "missing_field",
                "Each stream's schema needs metadata 'feature_set', a name of its own.",
                "features",
            )
        where = f"features.{shown(name)}"
        check_size(0, len(reader.schema.names), where, limits)
        batches = list(reader)
        if len(batches) != 1:
            raise unfit(
                "one_batch", f"{len(batches)} record batches; write each feature set as one.", where
            )
        batches[0].validate(full=True)
        check_size(batches[0].num_rows, batches[0].num_columns, where, limits)
        sent_id = metadata.get(b"session_id")
        session_id = sent_id.decode() if sent_id is not None else session_id
        values, times = _columns(batches[0], where)
        if times is not None and timestamps is not None and not np.array_equal(times, timestamps):
            raise unfit("wrong_timestamps", f"{TIMESTAMP} differs between feature sets.", where)
        sets[name], timestamps = values, timestamps if times is None else times
    if session_id is not None and not SESSION_ID.fullmatch(session_id):
        raise unfit(
            "bad_session_id",
            "1 to 200 letters, digits, spaces and any of _ . : @ + - are taken.",
            "session_id",
        )
    return SessionFeatures(session_id, timestamps, sets)


def _columns(batch: pa.RecordBatch, where: str) -> tuple[FeatureSet, NDArray[np.float64] | None]:
    names, series, times = [], [], None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise unfit("wrong_type", "Every column must hold numbers.", f"{where}.{shown(name)}")
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if name == TIMESTAMP:
            times = numbers
        else:
            names.append(name)
            series.append(numbers)
    if times is not None and not np.isfinite(times).all():
        raise unfit("wrong_timestamps", "A timestamp is missing.", where)
    values = np.stack(series, axis=1) if series else np.empty((batch.num_rows, 0))
    return FeatureSet(tuple(names), values), times


def _refuse_compression(body: bytes) -> None:
    """Refuse compressed buffers before Arrow reads them: a few bytes could say that they are gigabytes."""
    at = 0
    while at + 8 <= len(body):
        if body[at : at + 4] != _CONTINUATION:
            raise pa.ArrowInvalid("no continuation marker: not written by a current Arrow")
        size = struct.unpack_from("<i", body, at + 4)[0]
        at += 8
        if size == 0:  # end of a stream: the next one may follow
            continue
        message = body[at : at + size]
        if size < 0 or len(message) < size:
            raise pa.ArrowInvalid("truncated")
        body_size, compressed = _message(message)
        if compressed:
            raise unfit(
                "compressed",
                "Compressed record batches are not read. Write the stream without compression.",
            )
        if body_size < 0:
            raise pa.ArrowInvalid("negative size")
        at += size + body_size


def _message(flat: bytes) -> tuple[int, bool]:
    """The body's size of one IPC message, and whether it is a record batch with a compression (flatbuffers)."""
    table = struct.unpack_from("<I", flat, 0)[0]
    kind = _field(flat, table, 1)
    header = _field(flat, table, 2)
    length = _field(flat, table, 3)
    size = struct.unpack_from("<q", flat, length)[0] if length else 0
    if not kind or not header or flat[kind] not in (_SCHEMA, _RECORD_BATCH):
        raise pa.ArrowInvalid("neither a schema nor a record batch")
    if flat[kind] == _SCHEMA:
        return size, False
    batch = header + struct.unpack_from("<I", flat, header)[0]
    return size, _field(flat, batch, _COMPRESSION_FIELD) != 0


def _field(flat: bytes, table: int, index: int) -> int:
    """Where a table's field lies; 0 where it has none."""
    layout = table - struct.unpack_from("<i", flat, table)[0]
    if 4 + 2 * index + 2 > struct.unpack_from("<H", flat, layout)[0]:
        return 0
    offset: int = struct.unpack_from("<H", flat, layout + 4 + 2 * index)[0]
    return table + offset if offset else 0
