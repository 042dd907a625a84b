"""Bodies to sessions: the one function that decodes, whatever the media type."""

from __future__ import annotations

from serving.requests import arrow
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, SessionFeatures, read_json
from serving.settings import Limits


def decode(limits: Limits, kind: str, body: bytes) -> SessionFeatures:
    """Decode a body.

    Args:
        limits: what one request may ask for.
        kind: its media type, JSON or Arrow.
        body: its bytes.

    Raises:
        RequestError: 400 where it cannot be read, 422 where it does not fit the limits.
    """
    try:
        return read_json(body, limits) if kind == JSON else arrow.read_arrow(body, limits)
    except MemoryError:
        message = "The request takes too much memory when it is read. Cut the session."
        raise RequestError.unprocessable("too_much_memory", message) from None
