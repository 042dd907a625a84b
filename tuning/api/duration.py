"""A time as people write it, such as 90m, in seconds."""

from __future__ import annotations

import re
from math import inf

from pipeline.errors import InputError

UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_seconds(option: str, text: str | None) -> float | None:
    """Return a time in seconds; None where none was given.

    Raises:
        InputError: it is no time, or none at all.
    """
    if text is None:
        return None

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip(), re.ASCII)
    seconds = float(match[1]) * UNITS_S[match[2]] if match else 0.0
    if not 0.0 < seconds < inf:
        raise InputError(f"{option} is {text!r}; write a time such as 90m, 2h or 5400s.")
    return seconds
