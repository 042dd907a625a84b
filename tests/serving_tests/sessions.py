"""Sessions as requests: JSON and Arrow, as the README's client writes them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus import Session

Request = dict[str, Any]


def columns_of(session: Session) -> dict[str, list[str]]:
    return {
        name: [f"{name}_{i}" for i in range(values.shape[1])]
        for name, values in session.features.items()
    }


def as_json(session: Session, columns: dict[str, list[str]]) -> Request:
    """A request of every frame; what is missing is null."""
    return {
        "session_id": session.session_id,
        "timestamps_ms": session.timestamps_ms.tolist(),
        "features": {
            name: {
                "columns": columns[name],
                "data": [
                    row if there else [None] * len(row)
                    for row, there in zip(
                        values.astype(float).tolist(), session.present[name], strict=True
                    )
                ],
            }
            for name, values in session.features.items()
            if name in columns
        },
    }


def as_arrow(request: Request) -> bytes:
    """The same as Arrow: one stream per feature set."""
    sink = io.BytesIO()
    for name, sent in request["features"].items():
        values = np.array(sent["data"], dtype=np.float32)
        arrays = {column: values[:, index] for index, column in enumerate(sent["columns"])}
        if request.get("timestamps_ms") is not None:
            arrays["timestamp_ms"] = np.array(request["timestamps_ms"], dtype=np.int64)
        batch = pa.record_batch(arrays).replace_schema_metadata(
            {"feature_set": name}
            | ({"session_id": request["session_id"]} if "session_id" in request else {})
        )
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return sink.getvalue()
