"""Which requests wait, and which are refused for now."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from threading import Event
from typing import Any

import pytest

from serving.requests.admission import MAX_READ_BYTES, MAX_UNREAD_BYTES, Admission
from serving.requests.request_error import RequestError


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


class _Body(bytearray):
    """Bytes that can be watched."""


def test_a_body_is_let_go_before_the_prediction() -> None:
    async def scenario() -> None:
        bodies: list[weakref.ref[_Body]] = []

        def body() -> bytes:
            sent = _Body(100)
            bodies.append(weakref.ref(sent))
            return sent  # type: ignore[return-value]

        def predict(session: _Number) -> bool:
            return bodies[0]() is None

        assert await Admission(1, 60.0).run(lambda body: _Number(1), body(), predict)

    asyncio.run(scenario())


def test_bodies_that_wait_for_being_read_have_a_bound_together() -> None:
    async def scenario() -> None:
        admission, gate = Admission(50, 60.0), Event()
        large = bytes(MAX_UNREAD_BYTES // 3)

        def read(body: bytes) -> _Number:
            gate.wait()
            return _Number(len(body))

        waiting = [
            asyncio.create_task(admission.run(read, large, lambda size: size)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as busy:
            await admission.run(read, large, lambda size: size)
        assert (busy.value.status, busy.value.retry_after_s) == (503, 1)

        gate.set()
        assert await asyncio.gather(*waiting) == [len(large)] * 3
        huge = bytes(MAX_UNREAD_BYTES + 1)
        assert await admission.run(read, huge, lambda size: size) == len(huge)

    asyncio.run(scenario())


def test_no_body_is_read_while_too_many_numbers_wait_for_their_prediction() -> None:
    class Large(_Number):
        size_bytes = MAX_READ_BYTES

    async def scenario() -> None:
        admission, gate, has_read = Admission(50, 60.0), Event(), []

        def read(body: bytes) -> _Number:
            has_read.append(body)
            return Large(1)

        def predict(session: _Number) -> bool:
            gate.wait()
            return len(has_read) == 1

        first = asyncio.create_task(admission.run(read, b"a", predict))
        second = asyncio.create_task(admission.run(read, b"b", lambda session: True))
        await asyncio.sleep(0.1)
        gate.set()
        assert all(await asyncio.gather(first, second))
        assert has_read == [b"a", b"b"]

    asyncio.run(scenario())
