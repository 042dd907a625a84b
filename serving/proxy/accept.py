"""Which of two media types a client would rather have: the header Accept (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_RANGES = 100
"""So many media ranges are read; a client has some few."""
_WEIGHT = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)")


def prefers(media_type: str, default: str, accept: Sequence[str]) -> bool:
    """Return whether a client would rather have a media type than the default.

    It has to weigh more; or as much, where the client names it. A client that would have neither
    gets the default.

    Args:
        media_type: such as "application/json".
        default: another one.
        accept: the values of all headers Accept.
    """
    weights = dict(_ranges(",".join(accept).split(",")[:MAX_RANGES]))
    wanted, otherwise = _weight(media_type, weights), _weight(default, weights)
    return wanted > otherwise or (wanted == otherwise > 0 and media_type in weights)


def _ranges(parts: Iterable[str]) -> Iterable[tuple[str, float]]:
    """Iterate over media ranges and their weights, without those that are malformed."""
    for part in parts:
        media_range, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = float(value) if _WEIGHT.fullmatch(value := value.strip()) else -1.0
        if media_range and weight >= 0:
            yield media_range, weight


def _weight(media_type: str, weights: dict[str, float]) -> float:
    """Return the weight of the most specific range that a media type is in, or 0."""
    kind = media_type.partition("/")[0]
    return next(
        (weights[each] for each in (media_type, f"{kind}/*", "*/*") if each in weights), 0.0
    )
