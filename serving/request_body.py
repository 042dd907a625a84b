"""The bytes of a request: at most so many, within a time, of a kind that is read."""

from __future__ import annotations

import asyncio

from fastapi import Request

from serving.arrow import MEDIA_TYPE
from serving.request_error import RequestError
from serving.settings import Settings

JSON = "application/json"


def media_type(request: Request) -> str:
    """What the body is.

    Raises:
        Refusal: 415, a type or an encoding that is not read.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        # A few compressed bytes can stand for gigabytes; Arrow is compact without.
        raise RequestError(
            415, "content_encoding", "Compressed bodies are not read. Send it plain, or as Arrow."
        )
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found not in (JSON, MEDIA_TYPE):
        raise RequestError(415, "content_type", f"Send Content-Type: {JSON} or {MEDIA_TYPE}.")
    return found


class BodyReader:
    """Reads bodies, and bounds the memory of those that are still coming: whoever is slow must not fill it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            Refusal: 413, it is too large; 408, it does not come; 503, too much is coming at once.
        """
        limit = self._settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 15 or int(declared) > limit):
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                async for part in request.stream():
                    size += len(part)
                    self._held += len(part)
                    if size > limit:
                        raise _too_large(limit)
                    if self._held > self._settings.max_incoming_bytes:
                        raise RequestError(
                            503,
                            "busy",
                            "Too much is being sent at once. Try again.",
                            retry_after_s=1,
                        )
                    parts.append(part)
        except TimeoutError:
            message = f"The body did not come within {self._settings.body_timeout_s:g} s."
            raise RequestError(408, "body_timeout", message) from None
        finally:
            self._held -= size
        return b"".join(parts)


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413, "too_large", f"The body is larger than {limit} bytes. Send Arrow, or cut the session."
    )
