"""Which requests wait, and which are refused for now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from threading import Event
from typing import Any

import pytest

from serving.admission import Admission
from serving.request_error import RequestError


class _Number(int):
    size_bytes = 0


def _run(
    admission: Admission, number: int, predict: Callable[[_Number], object]
) -> Coroutine[Any, Any, object]:
    return admission.run(lambda body: _Number(number), b"", predict)


def test_a_full_queue_refuses_a_request_and_has_room_again_when_it_is_worked_off() -> None:
    async def scenario() -> None:
        admission, gate = Admission(1, 60.0), Event()
        waiting = [
            asyncio.create_task(_run(admission, 1, lambda one: gate.wait() and one))
            for _ in range(2)
        ]
        await asyncio.sleep(0)

        with pytest.raises(RequestError) as busy:
            await _run(admission, 1, lambda one: one)
        assert (busy.value.status, busy.value.retry_after_s) == (503, 1)

        gate.set()
        assert await asyncio.gather(*waiting) == [1, 1]
        assert await _run(admission, 2, lambda two: two) == 2

    asyncio.run(scenario())


def test_a_bad_request_is_refused_while_a_prediction_runs() -> None:
    async def scenario() -> None:
        admission, gate = Admission(5, 60.0), Event()
        running = asyncio.create_task(_run(admission, 1, lambda one: gate.wait() and one))

        def read_badly(body: bytes) -> _Number:
            raise RequestError(422, "bad", "No.")

        with pytest.raises(RequestError) as bad:
            await asyncio.wait_for(admission.run(read_badly, b"", lambda one: one), 30)
        assert bad.value.status == 422
        assert not running.done()

        gate.set()
        await running

    asyncio.run(scenario())


def test_a_client_that_left_makes_room_only_when_its_prediction_ends() -> None:
    async def scenario() -> None:
        counts: list[int] = []
        admission, gate, started = Admission(0, 60.0, counts.append), Event(), Event()

        def predict(one: _Number) -> int:
            started.set()
            gate.wait()
            return one

        leaving = asyncio.create_task(_run(admission, 1, predict))
        await asyncio.get_running_loop().run_in_executor(None, started.wait)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        with pytest.raises(RequestError):
            await _run(admission, 1, lambda one: one)

        gate.set()
        while counts[-1]:
            await asyncio.sleep(0)
        assert await _run(admission, 2, lambda two: two) == 2

    asyncio.run(scenario())


def test_no_request_joins_a_queue_that_takes_too_long() -> None:
    async def scenario() -> None:
        admission, gate = Admission(50, 1e-9), Event()
        # After the first one it is known how long a prediction takes.
        await _run(admission, 1, lambda one: gate.wait(0.01) or one)

        waiting = [
            asyncio.create_task(_run(admission, 1, lambda one: gate.wait() and one))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(RequestError):
            await _run(admission, 1, lambda one: one)

        gate.set()
        assert await asyncio.gather(*waiting) == [1, 1]

    asyncio.run(scenario())
