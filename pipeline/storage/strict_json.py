"""JSON that may come from others: bounded before it is parsed, and with one meaning only."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

MAX_VALUES = 2_000_000
"""Of one text. The largest record of 3,600 networks has about as many; each takes up to 250 bytes
of memory, so this bounds the parsed text at 0.5 GB."""


def parse_json(data: bytes, *, max_values: int = MAX_VALUES) -> Any:
    """Parse a JSON text.

    Args:
        data: UTF-8; whoever read it has bounded its length.
        max_values: how many values, keys included, it may have at most.

    Raises:
        ValueError: it is no JSON, has a key twice, too many values, or too many levels.
    """
    # Cheap, and never too low: each value but the first follows one of these.
    if sum(data.count(mark) for mark in (b",", b"[", b"{", b":")) > max_values:
        raise ValueError(f"it has more than {max_values:,} values")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it has too many levels") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        [(key, _)] = counts.most_common(1)
        raise ValueError(f"it has the key {key[:100]!r} twice")
    return values
