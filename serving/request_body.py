"""The bytes of a request: at most so many, within a time, of a media type that is read."""

from __future__ import annotations

import asyncio

from fastapi import Request

from serving.arrow import MEDIA_TYPE
from serving.request_error import RequestError
from serving.schema import JSON
from serving.settings import Settings

MAX_LENGTH_DIGITS = 15
"""A Content-Length with more digits is too large, whatever the limit; int() need not read it."""


def media_type(request: Request) -> str:
    """Return the media type of a request's body.

    Raises:
        RequestError: 415, a media type or an encoding that is not read.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        # A few compressed bytes can stand for gigabytes; Arrow is compact without.
        raise RequestError(
            415, "content_encoding", "Compressed bodies are not read. Send it plain, or as Arrow."
        )

    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in (JSON, MEDIA_TYPE):
        raise RequestError(415, "content_type", f"Send Content-Type: {JSON} or {MEDIA_TYPE}.")
    return kind


class BodyReader:
    """Reads bodies, and bounds the memory of those that are still coming.

    Many slow clients together must not fill the memory, so all bodies share one limit.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._incoming_bytes = 0

    async def read(self, request: Request) -> bytes:
        """Read a body to its end.

        Raises:
            RequestError: 413, it is too large; 408, it does not come in time; 503, the bodies that
                are coming are too large together.
        """
        self._raise_if_declared_too_large(request)
        parts: list[bytes] = []
        size_bytes = 0

        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                async for part in request.stream():
                    size_bytes += len(part)
                    self._incoming_bytes += len(part)
                    self._raise_if_too_large(size_bytes)
                    parts.append(part)
        except TimeoutError:
            message = f"The body did not come within {self._settings.body_timeout_s:g} s."
            raise RequestError(408, "body_timeout", message) from None
        finally:
            self._incoming_bytes -= size_bytes

        return b"".join(parts)

    def _raise_if_declared_too_large(self, request: Request) -> None:
        declared = request.headers.get("content-length", "")
        if not declared.isdecimal():
            return

        limit = self._settings.max_body_bytes
        if len(declared) > MAX_LENGTH_DIGITS or int(declared) > limit:
            raise _too_large(limit)

    def _raise_if_too_large(self, size_bytes: int) -> None:
        if size_bytes > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)

        if self._incoming_bytes > self._settings.max_incoming_bytes:
            message = "Too much is being sent at once. Try again."
            raise RequestError(503, "busy", message, retry_after_s=1)


def _too_large(limit: int) -> RequestError:
    message = f"The body is larger than {limit} bytes. Send Arrow, or cut the session."
    return RequestError(413, "too_large", message)
