"""The scores that a registered version's tags hold, as this or an earlier Affectune wrote them.

Anybody may set tags: what no study writes is left out, and can be told.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.names import unescape_key

SCORES_TAG = "affectune.scores"
"""Tag with the devel CCCs of every target and the limits of their intervals, as JSON."""
SCORES = ("ccc", "between_ccc", "within_ccc")
"""Keys of a target in summary.json that are kept there: pooled, between and within sessions."""
Interval = list[float | None]
"""A CCC and the limits of its interval; None where undefined."""
NUM_BOUNDS, UNDEFINED = 3, "undefined"
BOUND = re.compile(rf"-?[0-9]{{1,9}}\.[0-9]{{1,9}}|{UNDEFINED}")


def read_scores(tags: Mapping[str, str], score: str) -> dict[str, Interval]:
    """Return target -> one of its `SCORES` with its interval, as far as tags hold it.

    Args:
        tags: of a version.
        score: such as "ccc".
    """
    intervals = {
        unescape_key(key.removeprefix(f"{score}.")): _parse_words(value)
        for key, value in tags.items()
        if key.startswith(f"{score}.")  # an earlier version's
    }
    for target, scores in (_parse_record(tags.get(SCORES_TAG, "{}")) or {}).items():
        intervals[target] = scores.get(score)
    return {target: interval for target, interval in intervals.items() if interval is not None}


def unread_keys(tags: Mapping[str, str]) -> list[str]:
    """Return the keys of tags with scores that are not as a study writes them."""
    prefixes = tuple(f"{score}." for score in SCORES)
    keys = [
        key
        for key, value in tags.items()
        if key.startswith(prefixes) and _parse_words(value) is None
    ]
    if _parse_record(tags.get(SCORES_TAG, "{}")) is None:
        keys.append(SCORES_TAG)
    return keys


def _parse_words(tag: str) -> Interval | None:
    """Read a tag such as "0.5000 0.2500 undefined"; None where it is something else."""
    words = tag.split(maxsplit=NUM_BOUNDS)
    is_interval = len(words) == NUM_BOUNDS and all(map(BOUND.fullmatch, words))
    return [None if word == UNDEFINED else float(word) for word in words] if is_interval else None


def _parse_record(tag: str) -> dict[str, dict[str, Interval]] | None:
    """Read target -> score -> interval; None where the tag is something else."""
    try:
        record: Any = json.loads(tag)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(record, dict) and all(map(_are_scores, record.values()))
    return record if is_record else None


def _are_scores(scores: object) -> bool:
    return isinstance(scores, dict) and all(map(_is_interval, scores.values()))


def _is_interval(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) == NUM_BOUNDS
        and all(value is None or _is_ccc(value) for value in values)
    )


def _is_ccc(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and abs(value) <= 1
