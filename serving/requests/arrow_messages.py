"""The headers of Arrow's messages, compared with the limits before Arrow reads the messages.

A few bytes can stand for gigabytes: compressed buffers, columns that share their bytes, columns
without bytes, nested ones. So this adds up what the headers declare. It reads no values.

Tables and the numbers of their fields are those of Arrow's `Message.fbs` and `Schema.fbs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from serving.requests.request_error import RequestError
from serving.requests.schema import MAX_FEATURE_SETS, printable_name, raise_if_too_many_numbers
from serving.settings import Limits

MANY_SETS = 4
"""All feature sets together have at most so many times the columns that one may have."""
ENTRIES_PER_COLUMN = 4
"""So many entries of metadata the columns of a schema may have on average; the schema, too."""
SPARE_ENTRIES = 1000
MIN_FIELD_BYTES = 24
"""What a column takes at least in a schema whose columns have bytes of their own."""

_CONTINUATION = b"\xff\xff\xff\xff"
_SCHEMA, _RECORD_BATCH = 1, 3
_MESSAGE_TYPE, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH, _MESSAGE_METADATA = 1, 2, 3, 4
_SCHEMA_FIELDS, _SCHEMA_METADATA = 1, 2
_FIELD_NAME, _FIELD_DICTIONARY, _FIELD_CHILDREN, _FIELD_METADATA = 0, 4, 5, 6
_BATCH_LENGTH, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3
_BUFFER = struct.Struct("<qq")


def raise_if_too_much(body: bytes, limits: Limits) -> None:
    """Compare what the messages of a sequence of streams declare with the limits.

    Raises:
        RequestError: 422, one is not read, or they stand for too much.
        ArrowInvalid, struct.error, IndexError: the body is not a sequence of messages.
    """
    num_streams = num_numbers = total_columns = 0
    num_columns: int | None = None  # of the stream's schema, once it came
    has_batch = False

    for message in _messages(body):
        if message is None:
            num_columns, has_batch = None, False
        elif message.type == _SCHEMA:
            num_streams += 1
            if num_streams > MAX_FEATURE_SETS:
                text = f"At most {MAX_FEATURE_SETS} feature sets are read."
                raise RequestError.unprocessable("too_many_sets", text)
            num_columns, has_batch = _num_columns(message, limits), False
            total_columns += num_columns
            if total_columns > MANY_SETS * limits.max_columns:
                raise _too_many_columns(total_columns, MANY_SETS * limits.max_columns)
        elif num_columns is None:
            raise pa.ArrowInvalid("a record batch without a schema")
        elif has_batch:
            text = "More than one record batch; write each feature set as one."
            raise RequestError.unprocessable("one_batch", text, "features")
        else:
            num_numbers += _num_rows(message) * num_columns
            raise_if_too_many_numbers(num_numbers, limits)
            has_batch = True


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer, which begins at an offset."""

    buffer: bytes
    start: int

    def place(self, field: int) -> int:
        """Return where a field lies; 0 where the table has none."""
        vtable = self.start - _unpack("<i", self.buffer, self.start)
        entry = 4 + 2 * field
        if entry + 2 > _unpack("<H", self.buffer, vtable):
            return 0
        offset = _unpack("<H", self.buffer, vtable + entry)
        return self.start + offset if offset else 0

    def number(self, field: int) -> int:
        """Return a 64-bit number; 0 where there is none."""
        place = self.place(field)
        return _unpack("<q", self.buffer, place) if place else 0

    def table(self, field: int) -> _Table:
        """Return a table that a field refers to; it must be there."""
        place = self.place(field)
        return _Table(self.buffer, place + _unpack("<I", self.buffer, place))

    def vector(self, field: int) -> tuple[int, int]:
        """Return where the elements of a vector, or of a text, begin, and how many there are."""
        place = self.place(field)
        if not place:
            return 0, 0
        place += _unpack("<I", self.buffer, place)
        return place + 4, _unpack("<I", self.buffer, place)

    def tables(self, field: int) -> Iterator[_Table]:
        """Iterate over the tables of a vector."""
        start, length = self.vector(field)
        for place in range(start, start + 4 * length, 4):
            yield _Table(self.buffer, place + _unpack("<I", self.buffer, place))


@dataclass(frozen=True)
class _Message:
    """The head of a schema or of a record batch.

    Attributes:
        type: which of the two.
        table: the table Message.
        body_size: bytes of its body.
    """

    type: int
    table: _Table
    body_size: int

    @property
    def header(self) -> _Table:
        """The schema, or the record batch."""
        return self.table.table(_MESSAGE_HEADER)


def _messages(body: bytes) -> Iterator[_Message | None]:
    """Iterate over the heads of a body's messages; None is the end of a stream."""
    offset = 0
    while offset + 8 <= len(body):
        if body[offset : offset + 4] != _CONTINUATION:
            raise pa.ArrowInvalid("no continuation marker: not written by a current Arrow")

        size = _unpack("<i", body, offset + 4)
        offset += 8
        if size == 0:
            yield None
            continue

        head = body[offset : offset + size]
        if size < 0 or len(head) < size:
            raise pa.ArrowInvalid("truncated")
        message = _parse_message(head)
        yield message
        offset += size + message.body_size


def _parse_message(head: bytes) -> _Message:
    table = _Table(head, _unpack("<I", head, 0))
    place = table.place(_MESSAGE_TYPE)
    if not place or not table.place(_MESSAGE_HEADER) or head[place] not in (_SCHEMA, _RECORD_BATCH):
        raise pa.ArrowInvalid("neither a schema nor a record batch")

    body_size = table.number(_MESSAGE_BODY_LENGTH)
    if body_size < 0:
        raise pa.ArrowInvalid("negative size")
    return _Message(head[place], table, body_size)


def _num_columns(message: _Message, limits: Limits) -> int:
    """Return how many columns a schema has, all of them plain."""
    schema = message.header
    _, num_columns = schema.vector(_SCHEMA_FIELDS)
    if num_columns > limits.max_columns + 1:  # its timestamps are one more
        raise _too_many_columns(num_columns, limits.max_columns)

    # Names and metadata that refer to the same bytes again and again would be copied each time.
    most_entries = ENTRIES_PER_COLUMN * num_columns + SPARE_ENTRIES
    num_entries = num_bytes = 0
    holders = [(message.table, _MESSAGE_METADATA), (schema, _SCHEMA_METADATA)]
    for column in schema.tables(_SCHEMA_FIELDS):
        _raise_if_nested(column)
        num_bytes += MIN_FIELD_BYTES + column.vector(_FIELD_NAME)[1]
        holders.append((column, _FIELD_METADATA))

    for table, field in holders:
        num_entries += table.vector(field)[1]
        if num_entries > most_entries:
            text = f"More than {most_entries} entries of metadata. Write the columns alone."
            raise RequestError.unprocessable("too_much_metadata", text, "features")
        num_bytes += sum(each.vector(0)[1] + each.vector(1)[1] for each in table.tables(field))
    if num_bytes > len(message.table.buffer):
        raise _shared()
    return num_columns


def _raise_if_nested(column: _Table) -> None:
    _, num_children = column.vector(_FIELD_CHILDREN)
    if num_children or column.place(_FIELD_DICTIONARY):
        start, length = column.vector(_FIELD_NAME)
        name = column.buffer[start : start + length].decode("utf-8", "replace")
        text = "Every column must hold numbers: nested ones and dictionaries are not read."
        raise RequestError.unprocessable("wrong_type", text, f"features.?.{printable_name(name)}")


def _num_rows(message: _Message) -> int:
    """Return how many rows a record batch has, each of whose buffers has bytes of its own."""
    batch = message.header
    if batch.place(_BATCH_COMPRESSION):
        raise RequestError.unprocessable(
            "compressed",
            "Compressed record batches are not read. Write the stream without compression.",
        )

    start, num_buffers = batch.vector(_BATCH_BUFFERS)
    buffers = message.table.buffer[start : start + _BUFFER.size * num_buffers]
    sizes = [size for _, size in _BUFFER.iter_unpack(buffers)]
    if len(sizes) < num_buffers or min(sizes, default=0) < 0:
        raise pa.ArrowInvalid("no buffers")
    if sum(sizes) > message.body_size:
        raise _shared()

    num_rows = batch.number(_BATCH_LENGTH)
    if num_rows < 0:
        raise pa.ArrowInvalid("negative number of rows")
    return num_rows


def _too_many_columns(num_columns: int, limit: int) -> RequestError:
    text = f"{num_columns} columns; at most {limit} are read."
    return RequestError.unprocessable("too_many_columns", text, "features")


def _shared() -> RequestError:
    text = "Columns, names or metadata share their bytes: write each one's own."
    return RequestError.unprocessable("shared_bytes", text, "features")


def _unpack(format_: str, buffer: bytes, place: int) -> int:
    number: int = struct.unpack_from(format_, buffer, place)[0]
    return number
