"""Arrow bodies whose heads do not tell the truth: good ones, with numbers changed there."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import numpy as np
import pyarrow as pa


def stream(batch: pa.RecordBatch, name: str = "face", *, times: int = 1) -> bytes:
    """Return a feature set as a stream, with its one record batch so many times."""
    sink = io.BytesIO()
    batch = batch.replace_schema_metadata({"feature_set": name, **(batch.schema.metadata or {})})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(times):
            writer.write_batch(batch)
    return sink.getvalue()


def columns(num_columns: int, values: pa.Array | None = None) -> pa.RecordBatch:
    """Return a record batch of so many equal columns."""
    array = pa.array(np.ones(8, np.int8)) if values is None else values
    return pa.record_batch([array] * num_columns, names=[f"c{i}" for i in range(num_columns)])


def with_shared_buffers(body: bytes, num_rows: int, width: int) -> bytes:
    """Return a stream whose columns all have the same bytes: so many rows, so many bytes each."""
    schema_size = 8 + struct.unpack_from("<i", body, 4)[0]
    size = struct.unpack_from("<i", body, schema_size + 4)[0]
    head = bytearray(body[schema_size + 8 : schema_size + 8 + size])

    message = struct.unpack_from("<I", head, 0)[0]
    batch = _target(head, _field(head, message, 2))
    num_bytes = num_rows * width
    struct.pack_into("<q", head, _field(head, message, 3), num_bytes)
    struct.pack_into("<q", head, _field(head, batch, 0), num_rows)
    for start in _elements(head, batch, 1):
        struct.pack_into("<qq", head, start, num_rows, 0)
    for start in _elements(head, batch, 2):
        has_bytes = struct.unpack_from("<q", head, start + 8)[0] > 0
        struct.pack_into("<qq", head, start, 0, num_bytes if has_bytes else 0)

    prefix = b"\xff\xff\xff\xff" + struct.pack("<i", size)
    return body[:schema_size] + prefix + bytes(head) + bytes(num_bytes) + prefix[:4] + bytes(4)


def with_one_field_many_times(body: bytes) -> bytes:
    """Return a stream whose columns are all the same table of its schema, the longest one."""
    size = struct.unpack_from("<i", body, 4)[0]
    head = bytearray(body[8 : 8 + size])
    schema = _target(head, _field(head, struct.unpack_from("<I", head, 0)[0], 2))
    places = [start for start in _vector(head, schema, 1, 4)]
    last = max(_target(head, place) for place in places)
    for place in places:
        struct.pack_into("<I", head, place, last - place)
    return body[:8] + bytes(head) + body[8 + size :]


def with_row_count(body: bytes, num_rows: int) -> bytes:
    """Return a stream whose record batch and columns claim so many rows."""
    schema_size = 8 + struct.unpack_from("<i", body, 4)[0]
    head = bytearray(body[schema_size + 8 :])
    batch = _target(head, _field(head, struct.unpack_from("<I", head, 0)[0], 2))
    struct.pack_into("<q", head, _field(head, batch, 0), num_rows)
    for start in _elements(head, batch, 1):
        struct.pack_into("<q", head, start, num_rows)
    return body[: schema_size + 8] + bytes(head)


def metadata(num_entries: int) -> Mapping[str, str]:
    """Return so many entries."""
    return {f"key{i}": "value" for i in range(num_entries)}


def _field(head: bytearray, table: int, number: int) -> int:
    vtable = table - struct.unpack_from("<i", head, table)[0]
    offset: int = struct.unpack_from("<H", head, vtable + 4 + 2 * number)[0]
    assert offset
    return table + offset


def _target(head: bytearray, place: int) -> int:
    offset: int = struct.unpack_from("<I", head, place)[0]
    return place + offset


def _vector(head: bytearray, table: int, number: int, size: int) -> range:
    start = _target(head, _field(head, table, number))
    return range(start + 4, start + 4 + size * struct.unpack_from("<I", head, start)[0], size)


def _elements(head: bytearray, table: int, number: int) -> range:
    return _vector(head, table, number, 16)
