"""Who may predict now: one request at a time, a short queue before it, and 503 for all others."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import Any, Protocol, TypeVar

from serving.requests.request_error import RequestError

RECENT_WEIGHT = 0.2
"""The weight of the last prediction in the moving average of their durations."""
MAX_UNREAD_BYTES = 48 * 2**20
"""Bodies that wait for being read, together: three of the largest. One may always wait."""
MAX_READ_BYTES = 128 * 2**20
"""Numbers of sessions that wait for their prediction: while there are more, none is read."""


class Sized(Protocol):
    """What a request is read to, which takes memory until it is predicted."""

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""


Session = TypeVar("Session", bound=Sized)
Result = TypeVar("Result")


@dataclass
class _Place:
    """What one request holds.

    Attributes:
        unread_bytes: its body, until it is read.
        read_bytes: its numbers, once they are read.
    """

    unread_bytes: int
    read_bytes: int = 0


class Admission:
    """The queue of one process.

    One thread reads requests and another one predicts. So a request that does not fit gets its
    error while a prediction runs.

    Args:
        max_waiting: requests in the queue; the one that is predicted is not counted.
        max_wait_s: no request joins a queue that would take longer than this, estimated from recent
            predictions. One request may always wait.
        on_change: called with the number of requests that wait or are predicted.
    """

    def __init__(
        self,
        max_waiting: int,
        max_wait_s: float,
        on_change: Callable[[int], None] = lambda admitted: None,
    ) -> None:
        self._max_admitted = max_waiting + 1
        self._max_wait_s = max_wait_s
        self._on_change = on_change

        self._admitted = self._unread_bytes = self._read_bytes = 0
        self._prediction_s = 0.0
        self._room = Condition()
        # More threads would not be faster: a prediction keeps a core busy, and each further one
        # takes another's cache.
        self._reader = ThreadPoolExecutor(1, "reading")
        self._predictor = ThreadPoolExecutor(1, "predicting")

    async def run(
        self,
        read: Callable[[bytes], Session],
        body: bytes,
        predict: Callable[[Session], Result],
    ) -> Result:
        """Read a request, wait for its turn, and predict.

        Args:
            read: returns the session of a body.
            body: it is let go before the prediction; the caller must not keep it either.
            predict: returns the response.

        Raises:
            RequestError: 503, the queue is full; or what `read` and `predict` raise.
        """
        place = self._enter(len(body))
        work: Future[Any] | None = None

        try:
            work = self._reader.submit(self._read, place, read, body)
            del body
            session = await asyncio.wrap_future(work)

            work = self._predictor.submit(self._timed, predict, session)
            return await asyncio.wrap_future(work)
        finally:
            if work is None or work.done() or work.cancel():
                self._leave(place)
            else:
                # The client left, and its prediction runs on: there is room again when that ends.
                work.add_done_callback(lambda _: self._leave(place))

    def _enter(self, size_bytes: int) -> _Place:
        """Take a place in the queue, or raise a RequestError where there is none."""
        with self._room:
            wait_s = self._admitted * self._prediction_s
            is_full = self._admitted >= self._max_admitted
            is_slow = self._admitted > 1 and wait_s > self._max_wait_s
            is_large = self._unread_bytes > 0 and (
                self._unread_bytes + size_bytes > MAX_UNREAD_BYTES
            )

            if is_full or is_slow or is_large:
                message = "Too many requests are waiting. Try again."
                raise RequestError(503, "busy", message, retry_after_s=max(1, math.ceil(wait_s)))

            self._admitted += 1
            self._unread_bytes += size_bytes
            self._on_change(self._admitted)
        return _Place(size_bytes)

    def _leave(self, place: _Place) -> None:
        with self._room:
            self._admitted -= 1
            self._unread_bytes -= place.unread_bytes
            self._read_bytes -= place.read_bytes
            self._room.notify_all()
            self._on_change(self._admitted)

    def _read(self, place: _Place, read: Callable[[bytes], Session], body: bytes) -> Session:
        """Read a request once the sessions that wait for their prediction leave room for it."""
        with self._room:
            self._room.wait_for(lambda: self._read_bytes < MAX_READ_BYTES)
        try:
            session = read(body)
            with self._room:
                place.read_bytes = session.size_bytes
                self._read_bytes += place.read_bytes
            return session
        finally:
            with self._room:
                self._unread_bytes -= place.unread_bytes
                place.unread_bytes = 0

    def _timed(self, predict: Callable[[Session], Result], session: Session) -> Result:
        begin = time.monotonic()
        try:
            return predict(session)
        finally:
            duration_s = time.monotonic() - begin
            self._prediction_s += RECENT_WEIGHT * (duration_s - self._prediction_s)
