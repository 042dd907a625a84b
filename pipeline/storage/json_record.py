"""Small JSON files beside results: what is damaged is as good as not there, and never an error."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 1024**2
"""No record is longer."""


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a file holds.

    Returns:
        None where there is no such file, or it is damaged, or too long, or no file at all.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        record = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError):
        return None
    return record if isinstance(record, dict) else None
