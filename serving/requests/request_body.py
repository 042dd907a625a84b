"""The bytes of a request: at most so many, within a time, of a media type that is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Request

from serving.requests.arrow import MEDIA_TYPE
from serving.requests.byte_budget import BudgetExceeded, ByteBudget, Share
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON
from serving.settings import Settings

LARGE_BYTES, MAX_LARGE = 2**20, 4
"""So many bodies of at least that size are read and predicted at once."""
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

    Many slow clients together must not fill the memory, so all bodies share one limit. Of large
    ones only a few are read at once, and not slowly; the others wait unread at their clients.

    Args:
        settings: the limits.
        free_bytes: of each body are not counted, so that small ones always find room.
    """

    def __init__(self, settings: Settings, free_bytes: int = 0) -> None:
        self._settings = settings
        self._budget = ByteBudget(settings.max_incoming_bytes, free_bytes)
        self._large_turns = asyncio.Semaphore(MAX_LARGE)

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
        declared_bytes = self._declared_bytes(request)
        with self._budget.share() as share, _Turn(self._large_turns) as turn:
            try:
                async with share.moving(self._settings.body_timeout_s):
                    if declared_bytes >= LARGE_BYTES:
                        await turn.take()
                        share.restart()
                    body = await self._read_whole(request, share, turn)
            except TimeoutError:
                raise (_busy() if turn.is_waiting else self._too_slow()) from None
            except BudgetExceeded:
                raise _busy() from None
            yield body

    async def _read_whole(self, request: Request, share: Share, turn: _Turn) -> bytes:
        body = bytearray()

        async for part in request.stream():
            share.move(len(part))
            if len(body) + len(part) > self._settings.max_body_bytes:
                raise _too_large(self._settings.max_body_bytes)

            if len(body) + len(part) >= LARGE_BYTES and not turn.is_taken:
                await turn.take()
                share.restart()
            if turn.is_taken:
                share.demand_pace(self._settings.body_timeout_s)
            self._budget.hold(share, len(part))
            body += part

        return bytes(body)

    def _declared_bytes(self, request: Request) -> int:
        """Return the size that a body is said to have; 0 where that is not said.

        Raises:
            RequestError: 413, it is too large.
        """
        declared = request.headers.get("content-length", "")
        if not declared.isdecimal():
            return 0

        limit = self._settings.max_body_bytes
        if len(declared) > MAX_LENGTH_DIGITS or int(declared) > limit:
            raise _too_large(limit)
        return int(declared)

    def _too_slow(self) -> RequestError:
        seconds = self._settings.body_timeout_s
        message = f"The body came too slowly, or not within {seconds:g} s."
        return RequestError(408, "body_timeout", message)


class _Turn:
    """The turn of one body to be read while it is large, given back when the block is left."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self.is_waiting = self.is_taken = False

    def __enter__(self) -> _Turn:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_taken:
            self._turns.release()

    async def take(self) -> None:
        """Wait for the turn."""
        self.is_waiting = True
        await self._turns.acquire()
        self.is_waiting, self.is_taken = False, True


def _busy() -> RequestError:
    return RequestError(503, "busy", "Too much is being sent at once. Try again.", retry_after_s=1)


def _too_large(limit: int) -> RequestError:
    message = f"The body is larger than {limit} bytes. Send Arrow, or cut the session."
    return RequestError(413, "too_large", message)
