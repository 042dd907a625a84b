"""Which request gives way when bodies or responses are too large together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from serving.requests import byte_budget
from serving.requests.byte_budget import GRACE_S, MIN_BYTES_PER_S, BudgetExceeded, ByteBudget, Share

FAST = 100 * MIN_BYTES_PER_S
LONG_S = 1000


@dataclass
class Clock:
    """Time that passes when a test says so."""

    now_s: float = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(byte_budget, "time", clock)
    return clock


@dataclass
class Holders:
    """Requests that hold bytes of a budget of 100, and wait for more."""

    clock: Clock
    free_bytes: int = 0
    shares: dict[str, Share] = field(default_factory=dict)
    gave_way: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budget = ByteBudget(100, self.free_bytes)
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, name: str, size_bytes: int) -> None:
        """Have a request begin that holds so many bytes, and wait for what that does to all."""
        self._tasks.append(asyncio.create_task(self._hold(name, size_bytes)))
        for _ in range(10):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, **moved_bytes: int) -> None:
        """Let time pass, in which some requests move bytes evenly."""
        for _ in range(10):
            self.clock.now_s += seconds / 10
            for name, size_bytes in moved_bytes.items():
                self.shares[name].move(size_bytes // 10)

    async def end(self) -> None:
        """End all; what they held is free then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

        with self.budget.share() as share:
            self.budget.hold(share, 100)

    async def _hold(self, name: str, size_bytes: int) -> None:
        with self.budget.share() as share:
            self.shares[name] = share
            try:
                async with share.moving(LONG_S):
                    self.budget.hold(share, size_bytes)
                    await asyncio.Event().wait()
            except BudgetExceeded:
                self.gave_way.append(name)


def test_the_youngest_gives_way_where_none_is_slow(clock: Clock) -> None:
    async def run() -> None:
        holders = Holders(clock)
        await holders.begin("first", 60)
        await holders.pass_time(10, first=FAST)
        await holders.begin("second", 60)
        assert holders.gave_way == ["second"]
        await holders.end()

    asyncio.run(run())


def test_a_slow_one_gives_way_to_the_youngest(clock: Clock) -> None:
    async def run() -> None:
        holders = Holders(clock)
        await holders.begin("fast", 40)
        await holders.begin("slow", 40)
        await holders.pass_time(10, fast=FAST, slow=1000)
        await holders.begin("young", 40)
        assert holders.gave_way == ["slow"]
        await holders.end()

    asyncio.run(run())


def test_the_slowest_gives_way_first(clock: Clock) -> None:
    async def run() -> None:
        holders = Holders(clock)
        await holders.begin("slow", 40)
        await holders.begin("slower", 40)
        await holders.pass_time(10, slow=1000)
        await holders.begin("young", 40)
        assert holders.gave_way == ["slower"]
        await holders.end()

    asyncio.run(run())


def test_small_ones_always_find_room(clock: Clock) -> None:
    async def run() -> None:
        holders = Holders(clock, free_bytes=10)
        await holders.begin("large", 110)
        for number in range(5):
            await holders.begin(f"small {number}", 10)
        assert holders.gave_way == []
        await holders.end()

    asyncio.run(run())


def test_what_waits_for_its_prediction_gives_way_to_nobody() -> None:
    async def run() -> None:
        budget = ByteBudget(100)
        with budget.share() as whole, budget.share() as young:
            async with whole.moving(LONG_S):
                budget.hold(whole, 60)
            async with young.moving(LONG_S):
                with pytest.raises(BudgetExceeded):
                    budget.hold(young, 60)

    asyncio.run(run())


@pytest.mark.parametrize("pause_s", [GRACE_S * 1.1, 60])
def test_who_was_fast_is_slow_once_nothing_moves(clock: Clock, pause_s: float) -> None:
    async def run() -> None:
        stalled, fast = Share(), Share()
        async with stalled.moving(LONG_S), fast.moving(LONG_S):
            stalled.move(1000 * FAST)
            clock.now_s += pause_s
            fast.move(FAST)
            assert stalled.priority() < fast.priority()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rate", "comes"), [(0, False), (MIN_BYTES_PER_S // 2, False), (2 * MIN_BYTES_PER_S, True)]
)
def test_where_pace_is_demanded_a_slow_one_ends_early(clock: Clock, rate: int, comes: bool) -> None:
    async def run() -> bool:
        share = Share()
        try:
            async with share.moving(LONG_S):
                for _ in range(20):
                    clock.now_s += 0.5
                    share.move(rate // 2)
                    share.demand_pace(LONG_S)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
        except TimeoutError:
            return False
        return True

    assert asyncio.run(run()) is comes
