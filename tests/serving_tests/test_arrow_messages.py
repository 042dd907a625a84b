"""Arrow that stands for more than it is: refused by its heads, before anything is decoded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from serving.requests.arrow import MEDIA_TYPE, read_arrow
from serving.requests.decoding import decode
from serving.requests.request_error import RequestError
from serving.settings import Limits
from tests.serving_tests.arrow_bodies import (
    columns,
    metadata,
    stream,
    with_one_field_many_times,
    with_row_count,
    with_shared_buffers,
)


def _code(body: bytes, **limits: int) -> str:
    with pytest.raises(RequestError) as refused:
        decode(Limits(**limits), MEDIA_TYPE, body)
    return refused.value.code


@pytest.mark.parametrize("type_", [pa.int8(), pa.float32(), pa.float64(), pa.bool_(), pa.uint16()])
def test_columns_that_share_their_bytes_are_refused(type_: pa.DataType) -> None:
    good = stream(columns(64, pa.array([1] * 8).cast(type_)))
    width = max(1, type_.bit_width // 8)
    assert _code(with_shared_buffers(good, 4096, width)) == "shared_bytes"


def test_texts_that_share_their_bytes_are_refused() -> None:
    # Each column is checked to be UTF-8: 8192 times the same 16 MB would take minutes.
    good = stream(columns(64, pa.array(["a"] * 8)))
    assert _code(with_shared_buffers(good, 2**16, 4)) == "shared_bytes"


@pytest.mark.parametrize("name", ["long" * 5000, "x" * 10_000])
def test_names_that_share_their_bytes_are_refused(name: str) -> None:
    batch = columns(100).rename_columns([name, *(f"c{i}" for i in range(99))])
    assert _code(with_one_field_many_times(stream(batch))) == "shared_bytes"


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused(codec: str) -> None:
    sink = pa.BufferOutputStream()
    batch = columns(2, pa.array(np.zeros(100_000)))
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    assert _code(sink.getvalue().to_pybytes()) == "compressed"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1.0, 2.0]] * 8),
        pa.array([{"a": 1.0}] * 8),
        pa.array([[[[1]]]] * 8),
        pa.array(["a", "b"] * 4).dictionary_encode(),
        pa.array([[("a", 1)]] * 8, type=pa.map_(pa.string(), pa.int8())),
        pa.RunEndEncodedArray.from_arrays(pa.array([2**30], pa.int32()), pa.array([1.0])),
    ],
    ids=lambda values: str(values.type)[:20],
)
def test_nested_columns_are_refused_whatever_their_name(values: pa.Array) -> None:
    batch = pa.record_batch({"file name": values})
    assert _code(stream(batch)) == "wrong_type"


@pytest.mark.parametrize("num_rows", [2**27, 2**31, 2**62])
def test_columns_without_bytes_stand_for_no_more_numbers_than_others(num_rows: int) -> None:
    # "row" may be text or nothing, as no feature: it would become numbers all the same.
    body = stream(pa.record_batch({"row": pa.nulls(8)}))
    assert _code(with_row_count(body, num_rows)) == "too_many_numbers"


def test_numbers_of_all_feature_sets_count_together() -> None:
    body = stream(columns(10), "a") + stream(columns(10), "b")
    assert len(read_arrow(body, Limits(max_numbers=160)).feature_sets) == 2
    assert _code(body, max_numbers=159) == "too_many_numbers"


def test_more_than_one_record_batch_is_refused_and_none_is() -> None:
    assert _code(stream(columns(2), times=2)) == "one_batch"
    assert _code(stream(columns(2), times=5000)) == "one_batch"
    assert _code(stream(columns(2), times=0)) == "one_batch"


def test_too_many_feature_sets_columns_and_entries_of_metadata_are_refused() -> None:
    sets = b"".join(stream(columns(1), f"s{i}") for i in range(65))
    assert _code(sets) == "too_many_sets"
    assert _code(stream(columns(12)), max_columns=10) == "too_many_columns"
    wide = b"".join(stream(columns(10), f"s{i}") for i in range(5))
    assert _code(wide, max_columns=10) == "too_many_columns"
    batch = columns(1).replace_schema_metadata(metadata(2000))
    assert _code(stream(batch)) == "too_much_metadata"


def test_metadata_of_other_writers_is_taken() -> None:
    batch = columns(3).replace_schema_metadata({"pandas": '{"columns": []}', **metadata(50)})
    fields = [field.with_metadata(metadata(3)) for field in batch.schema]
    batch = pa.record_batch(batch.columns, schema=pa.schema(fields, batch.schema.metadata))
    assert set(read_arrow(stream(batch), Limits()).feature_sets) == {"face"}


def test_a_second_column_of_timestamps_is_refused() -> None:
    batch = columns(3).rename_columns(["timestamp_ms", "a", "timestamp_ms"])
    assert _code(stream(batch)) == "repeated_columns"


def test_what_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("serving.requests.arrow.read_arrow", exhaust)
    assert _code(b"") == "too_much_memory"


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"".join(stream(columns(8192), f"s{i}") for i in range(2)),
        lambda: stream(columns(8192), times=40),
        lambda: stream(columns(1).rename_columns(["n" * 15_000_000])),
    ],
    ids=["columns", "batches", "name"],
)
def test_the_heads_of_the_largest_bodies_are_read_in_seconds(make: Callable[[], bytes]) -> None:
    body, begin = make(), time.process_time()
    with contextlib.suppress(RequestError):
        decode(Limits(), MEDIA_TYPE, body)
    assert time.process_time() - begin < 5
