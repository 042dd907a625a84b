"""The file in a study's folder that says how far its journal was sent, and to which run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from pipeline.credentials.masking import masked_uri
from pipeline.storage.json_record import read_record

TRACKING = "tracking.json"
"""Name of the file."""


def recorded_run(folder: Path) -> tuple[str, str] | None:
    """Return the ids of the experiment and the run that a study was last recorded in, if any.

    Args:
        folder: of the study.
    """
    record = read_record(folder / TRACKING) or {}
    experiment_id, run_id = record.get("experiment_id"), record.get("run_id")
    if not isinstance(experiment_id, str) or not isinstance(run_id, str):
        return None
    return experiment_id, run_id


def read_position(folder: Path, uri: str) -> int:
    """Return how far the journal has been sent to a server; 0 where that is not known."""
    record = read_record(folder / TRACKING) or {}
    position = record.get("position")
    is_same_server = record.get("uri") == masked_uri(uri)
    return position if is_same_server and isinstance(position, int) else 0


def write_position(
    folder: Path, uri: str, position: int, experiment_id: str, run_id: str | None
) -> None:
    """Write the position, without a sync: from an older one, the same rows are sent twice."""
    record = {
        "uri": masked_uri(uri),
        "position": position,
        "experiment_id": experiment_id,
        "run_id": run_id,
    }
    temporary = folder / f".{TRACKING}.tmp"
    with contextlib.suppress(IsADirectoryError):  # then the next process sends all of it again
        temporary.write_text(json.dumps(record, indent=1))
        temporary.replace(folder / TRACKING)
