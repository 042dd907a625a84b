"""The bytes of a request: at most so many, within a time, of a media type that is read."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import Request

from serving.arrow import MEDIA_TYPE
from serving.byte_budget import BudgetExceeded, ByteBudget, Share
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

    Args:
        settings: the limits.
        free_bytes: of each body are not counted, so that small ones always find room.
    """

    def __init__(self, settings: Settings, free_bytes: int = 0) -> None:
        self._settings = settings
        self._budget = ByteBudget(settings.max_incoming_bytes, free_bytes)

    async def read(self, request: Request) -> bytes:
        """Read a body to its end.

        Raises:
            RequestError: 413, it is too large; 408, it does not come in time; 503, the bodies that
                are coming are too large together.
        """
        async with self.reading(request) as body:
            return body

    @contextlib.asynccontextmanager
    async def reading(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body to its end, and count it against the limit until the block is left.

        Raises:
            RequestError: as `read` does.
        """
        self._raise_if_declared_too_large(request)
        with self._budget.share() as share:
            try:
                async with share.moving(self._settings.body_timeout_s):
                    body = await self._read_whole(request, share)
            except TimeoutError:
                message = f"The body did not come within {self._settings.body_timeout_s:g} s."
                raise RequestError(408, "body_timeout", message) from None
            except BudgetExceeded:
                message = "Too much is being sent at once. Try again."
                raise RequestError(503, "busy", message, retry_after_s=1) from None
            yield body

    async def _read_whole(self, request: Request, share: Share) -> bytes:
        parts: list[bytes] = []

        async for part in request.stream():
            share.moved_bytes += len(part)
            if share.moved_bytes > self._settings.max_body_bytes:
                raise _too_large(self._settings.max_body_bytes)
            self._budget.hold(share, len(part))
            parts.append(part)

        return b"".join(parts)

    def _raise_if_declared_too_large(self, request: Request) -> None:
        declared = request.headers.get("content-length", "")
        if not declared.isdecimal():
            return

        limit = self._settings.max_body_bytes
        if len(declared) > MAX_LENGTH_DIGITS or int(declared) > limit:
            raise _too_large(limit)


def _too_large(limit: int) -> RequestError:
    message = f"The body is larger than {limit} bytes. Send Arrow, or cut the session."
    return RequestError(413, "too_large", message)
