"""Sessions as requests: JSON and Arrow, as the documented clients write them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus import Session

Request = dict[str, Any]


def columns_of(session: Session) -> dict[str, list[str]]:
    """Return the column names of a tiny session, by modality."""
    return {
        modality: [f"{modality}_{index}" for index in range(values.shape[1])]
        for modality, values in session.features.items()
    }


def as_json(session: Session, columns: dict[str, list[str]]) -> Request:
    """Return a request of every frame; what is missing is null."""
    features = {
        modality: {
            "columns": columns[modality],
            "data": _rows(values, session.present[modality]),
        }
        for modality, values in session.features.items()
        if modality in columns
    }
    return {
        "session_id": session.session_id,
        "timestamps_ms": session.timestamps_ms.tolist(),
        "features": features,
    }


def as_arrow(request: Request) -> bytes:
    """Return the same request as Arrow: one stream per feature set."""
    sink = io.BytesIO()
    for name, sent in request["features"].items():
        batch = _record_batch(name, sent, request)
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return sink.getvalue()


def _rows(values: NDArray[np.float32], present: NDArray[np.bool_]) -> list[list[float | None]]:
    rows: list[list[float | None]] = values.astype(float).tolist()
    for index in np.flatnonzero(~present):
        rows[index] = [None] * values.shape[1]
    return rows


def _record_batch(name: str, sent: dict[str, Any], request: Request) -> pa.RecordBatch:
    values = np.array(sent["data"], dtype=np.float32)
    arrays = {column: values[:, index] for index, column in enumerate(sent["columns"])}
    if request.get("timestamps_ms") is not None:
        arrays["timestamp_ms"] = np.array(request["timestamps_ms"], dtype=np.int64)

    metadata = {"feature_set": name}
    if "session_id" in request:
        metadata["session_id"] = request["session_id"]
    return pa.record_batch(arrays).replace_schema_metadata(metadata)
