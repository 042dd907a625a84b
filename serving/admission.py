"""Who may predict now: one request at a time and process, a short queue before it, and 503 for whoever comes then."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from serving.request_error import RequestError

RECENT = 0.2  # weight of the last prediction in what they took lately
Session = TypeVar("Session")
Result = TypeVar("Result")


class Admission:
    """Two threads: one reads requests, one predicts. So a bad request is refused while a prediction runs.

    Args:
        max_waiting: requests in the queue; the one that is predicted is not counted.
        max_wait_s: no one joins a queue that takes longer, by what predictions took lately; one may always wait.
        on_change: hears how many requests wait or are predicted.
    """

    def __init__(
        self,
        max_waiting: int,
        max_wait_s: float,
        on_change: Callable[[int], None] = lambda inside: None,
    ) -> None:
        self._max_inside = max_waiting + 1
        self._max_wait_s = max_wait_s
        self._lately_s = 0.0
        self._on_change = on_change
        self._inside = 0
        self._lock = Lock()
        # More threads would not be faster: a prediction keeps a core busy, and each further one takes another's cache.
        self._reading = ThreadPoolExecutor(1, "reading")
        self._predicting = ThreadPoolExecutor(1, "predicting")

    async def run(
        self, read: Callable[[], Session], predict: Callable[[Session], Result]
    ) -> Result:
        """Read a request, wait for one's turn, predict.

        Raises:
            Refusal: 503, the queue is full; or what `read` and `predict` raise.
        """
        with self._lock:
            wait_s = self._inside * self._lately_s
            if self._inside >= self._max_inside or (self._inside > 1 and wait_s > self._max_wait_s):
                message = "Too many requests are waiting. Try again."
                raise RequestError(503, "busy", message, retry_after_s=max(1, math.ceil(wait_s)))
            self._inside += 1
            self._on_change(self._inside)
        work: Future[Any] | None = None
        try:
            work = self._reading.submit(read)
            session = await asyncio.wrap_future(work)
            work = self._predicting.submit(self._timed, predict, session)
            return await asyncio.wrap_future(work)
        finally:
            if work is None or work.done() or work.cancel():
                self._leave()
            else:  # the client left, and its prediction runs on: its place is free when that ends
                work.add_done_callback(lambda _: self._leave())

    def _timed(self, predict: Callable[[Session], Result], session: Session) -> Result:
        begin = time.monotonic()
        try:
            return predict(session)
        finally:
            self._lately_s += RECENT * (time.monotonic() - begin - self._lately_s)

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            self._on_change(self._inside)
