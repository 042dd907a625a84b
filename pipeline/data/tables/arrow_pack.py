"""Feature tables in one file that is mapped into memory. Its name has a checksum of its bytes.

A pack is an uncompressed Arrow IPC file with one record batch per table; what is not an array lies
in the schema's metadata. Packs are never changed once they have their name.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from pipeline.data.tables.parse import FeatureTable
from pipeline.storage.atomic_file import flush_and_rename, temporary_file

FORMAT = 3
"""Raised when `parse_features` gives another table for the same bytes, or a pack another layout."""
OWNER_ONLY = 0o600
METADATA_KEY = "affectune"


def write_pack(folder: Path, tables: Mapping[str, FeatureTable]) -> str:
    """Write a pack of tables with the same number of columns, for its owner only.

    Args:
        folder: where packs are; it must exist.
        tables: sha256 of a file's content -> its table.

    Returns:
        The pack's name in the folder.

    Raises:
        OSError: it cannot be written.
    """
    schema = _schema(tables)

    with temporary_file(folder, mode=OWNER_ONLY) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for _, table in sorted(tables.items()):
                writer.write_batch(_to_batch(table, schema))

        name = f"{FORMAT}-{_checksum(_map(temporary))}.arrow"
        flush_and_rename(temporary, folder / name)

    return name


def read_pack(path: Path) -> dict[str, FeatureTable]:
    """Read a pack.

    Returns:
        Sha256 of a file's content -> its table. The values are read-only views of the mapped pack.

    Raises:
        OSError: there is no such file.
        ValueError: it is damaged, or of another format.
    """
    buffer = _map(path)
    pack_format, _, checksum = path.stem.partition("-")
    if pack_format != str(FORMAT):
        raise ValueError("another version of Affectune wrote it")
    if checksum != _checksum(buffer):
        raise ValueError("its bytes are not what was written")

    reader = pa.ipc.open_file(pa.BufferReader(buffer))
    metadata = json.loads(reader.schema.metadata[METADATA_KEY.encode()])
    headers = [tuple(header) for header in metadata["headers"]]

    tables = {}
    for index, entry in enumerate(metadata["tables"]):
        tables[entry["content"]] = _from_batch(
            reader.get_batch(index), headers[entry["header"]], entry
        )
    return tables


def _schema(tables: Mapping[str, FeatureTable]) -> pa.Schema:
    headers = sorted({table.columns for table in tables.values()})
    entries = [
        {
            "content": sha256,
            "header": headers.index(table.columns),
            "num_zero_rows": table.num_zero_rows,
            "num_failed_rows": table.num_failed_rows,
            "set_aside": dict(table.set_aside),
            "traits": {name: sorted(traits) for name, traits in table.traits.items()},
            "is_whole": table.timestamps.dtype == np.int64,
            "is_date_time": table.is_date_time,
            "unit": table.unit,
        }
        for sha256, table in sorted(tables.items())
    ]
    metadata = {"format": FORMAT, "headers": headers, "tables": entries}

    return pa.schema(
        [
            # 64 bits, of an integer or of a float: `is_whole` tells.
            ("timestamps", pa.int64()),
            ("segment_ids", pa.string()),
            ("present", pa.uint8()),
            ("imputed", pa.int32()),
            ("values", pa.list_(pa.float32(), len(headers[0]))),
        ],
        metadata={METADATA_KEY: json.dumps(metadata)},
    )


def _to_batch(table: FeatureTable, schema: pa.Schema) -> pa.RecordBatch:
    width = table.values.shape[1]
    arrays = [
        pa.array(table.timestamps.view(np.int64)),
        pa.array(table.segment_ids.tolist(), pa.string()),
        pa.array(table.present.view(np.uint8)),
        pa.array(table.imputed),
        pa.FixedSizeListArray.from_arrays(pa.array(table.values.reshape(-1)), width),
    ]
    return pa.record_batch(arrays, schema=schema)


def _from_batch(
    batch: pa.RecordBatch, columns: tuple[str, ...], entry: Mapping[str, Any]
) -> FeatureTable:
    timestamps, segment_ids, present, imputed, values = batch.columns
    return FeatureTable(
        columns=columns,
        timestamps=timestamps.to_numpy().view(np.int64 if entry["is_whole"] else np.float64),
        segment_ids=np.array(segment_ids.to_pylist(), np.str_),
        values=values.flatten().to_numpy().reshape(batch.num_rows, len(columns)),
        present=present.to_numpy().view(np.bool_),
        imputed=imputed.to_numpy(),
        num_zero_rows=entry["num_zero_rows"],
        num_failed_rows=entry["num_failed_rows"],
        set_aside=entry["set_aside"],
        traits={name: frozenset(traits) for name, traits in entry["traits"].items()},
        is_date_time=entry["is_date_time"],
        unit=entry["unit"],
    )


def _map(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as source:
        return source.read_buffer()


def _checksum(buffer: pa.Buffer) -> str:
    return f"{zlib.crc32(buffer):08x}"
