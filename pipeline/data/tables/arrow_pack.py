"""Tables of one feature set in one file that is mapped into memory, not read. Its name proves its bytes.

A pack is an uncompressed Arrow IPC file with one record batch per table; what is not an array lies in the
schema's metadata. Packs are never changed once they have their name.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from pipeline.data.tables.parse import FeatureTable

FORMAT = 1  # Raised when `parse_features` gives another table for the same bytes, or a pack another layout.


def write_pack(folder: Path, tables: Mapping[str, FeatureTable]) -> str:
    """Writes tables with the same number of columns.

    Args:
        folder: where packs are.
        tables: content's hash -> table.

    Returns:
        The pack's name in the folder.

    Raises:
        OSError: it cannot be written.
    """
    headers = sorted({table.columns for table in tables.values()})
    about = {
        "format": FORMAT,
        "headers": headers,
        "tables": [
            {
                "content": content,
                "header": headers.index(table.columns),
                "num_zero_rows": table.num_zero_rows,
            }
            for content, table in sorted(tables.items())
        ],
    }
    schema = pa.schema(
        [
            ("timestamps_ms", pa.int64()),
            ("segment_ids", pa.string()),
            ("present", pa.uint8()),
            ("imputed", pa.int32()),
            ("values", pa.list_(pa.float32(), len(headers[0]))),
        ],
        metadata={"affectune": json.dumps(about)},
    )

    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, schema) as writer:
            for _, table in sorted(tables.items()):
                writer.write_batch(_batch(table, schema))

    return replace_file(
        folder, write, lambda path: f"{FORMAT}-{zlib.crc32(_mapped(path)):08x}.arrow"
    ).name


def read_pack(path: Path) -> dict[str, FeatureTable]:
    """Content's hash -> table; the values are views of the mapped file, read-only.

    Raises:
        OSError: there is no such file.
        ValueError: it is damaged, or of another format.
    """
    buffer = _mapped(path)
    format_, _, checksum = path.stem.partition("-")
    if format_ != str(FORMAT) or checksum != f"{zlib.crc32(buffer):08x}":
        raise ValueError("its bytes are not what was written")
    reader = pa.ipc.open_file(pa.BufferReader(buffer))
    about = json.loads(reader.schema.metadata[b"affectune"])
    headers = [tuple(header) for header in about["headers"]]
    return {
        entry["content"]: _table(
            reader.get_batch(index), headers[entry["header"]], entry["num_zero_rows"]
        )
        for index, entry in enumerate(about["tables"])
    }


def replace_file(
    folder: Path, write: Callable[[BinaryIO], object], name: Callable[[Path], str]
) -> Path:
    """Writes a file under a temporary name, flushes it to the disk, and only then gives it its name.

    Args:
        folder: made where it does not exist, for its owner only.
        write: fills the file.
        name: the finished file's temporary path -> its name in the folder.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        target = folder / name(Path(temporary))
        os.replace(temporary, target)
        return target
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mapped(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as source:
        return source.read_buffer()


def _batch(table: FeatureTable, schema: pa.Schema) -> pa.RecordBatch:
    width = table.values.shape[1]
    arrays = [
        pa.array(table.timestamps_ms),
        pa.array(table.segment_ids.tolist(), pa.string()),
        pa.array(table.present.view(np.uint8)),
        pa.array(table.imputed),
        pa.FixedSizeListArray.from_arrays(pa.array(table.values.reshape(-1)), width),
    ]
    return pa.record_batch(arrays, schema=schema)


def _table(batch: pa.RecordBatch, columns: tuple[str, ...], num_zero_rows: int) -> FeatureTable:
    return FeatureTable(
        columns=columns,
        timestamps_ms=batch.column(0).to_numpy(),
        segment_ids=np.array(batch.column(1).to_pylist(), np.str_),
        values=batch.column(4).flatten().to_numpy().reshape(batch.num_rows, len(columns)),
        present=batch.column(2).to_numpy().view(np.bool_),
        imputed=batch.column(3).to_numpy(),
        num_zero_rows=num_zero_rows,
    )
