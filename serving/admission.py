"""Who may predict now: one request at a time, a short queue before it, and 503 for all others."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from serving.request_error import RequestError

RECENT_WEIGHT = 0.2
"""The weight of the last prediction in the moving average of their durations."""

Session = TypeVar("Session")
Result = TypeVar("Result")


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

        self._admitted = 0
        self._prediction_s = 0.0
        self._lock = Lock()
        # More threads would not be faster: a prediction keeps a core busy, and each further one
        # takes another's cache.
        self._reader = ThreadPoolExecutor(1, "reading")
        self._predictor = ThreadPoolExecutor(1, "predicting")

    async def run(
        self, read: Callable[[], Session], predict: Callable[[Session], Result]
    ) -> Result:
        """Read a request, wait for its turn, and predict.

        Raises:
            RequestError: 503, the queue is full; or what `read` and `predict` raise.
        """
        self._enter()
        work: Future[Any] | None = None

        try:
            work = self._reader.submit(read)
            session = await asyncio.wrap_future(work)

            work = self._predictor.submit(self._timed, predict, session)
            return await asyncio.wrap_future(work)
        finally:
            if work is None or work.done() or work.cancel():
                self._leave()
            else:
                # The client left, and its prediction runs on: there is room again when that ends.
                work.add_done_callback(lambda _: self._leave())

    def _enter(self) -> None:
        """Take a place in the queue, or raise a RequestError where there is none."""
        with self._lock:
            wait_s = self._admitted * self._prediction_s
            is_full = self._admitted >= self._max_admitted
            is_slow = self._admitted > 1 and wait_s > self._max_wait_s

            if is_full or is_slow:
                message = "Too many requests are waiting. Try again."
                raise RequestError(503, "busy", message, retry_after_s=max(1, math.ceil(wait_s)))

            self._admitted += 1
            self._on_change(self._admitted)

    def _leave(self) -> None:
        with self._lock:
            self._admitted -= 1
            self._on_change(self._admitted)

    def _timed(self, predict: Callable[[Session], Result], session: Session) -> Result:
        begin = time.monotonic()
        try:
            return predict(session)
        finally:
            duration_s = time.monotonic() - begin
            self._prediction_s += RECENT_WEIGHT * (duration_s - self._prediction_s)
