"""Which request gives way when bodies or responses are too large together."""

from __future__ import annotations

import asyncio

import pytest

from serving import byte_budget
from serving.byte_budget import BudgetExceeded, ByteBudget, Share


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_budget, "GRACE_S", 0.05)


async def _holder(
    budget: ByteBudget, size_bytes: int, log: list[str], name: str, *, rate: int = 0
) -> None:
    """Hold bytes, move `rate` bytes each 10 ms, and note how that ended after half a second."""
    with budget.share() as share:
        try:
            async with share.moving(0.5):
                budget.hold(share, size_bytes)
                while True:
                    share.move(rate)
                    await asyncio.sleep(0.01)
        except BudgetExceeded:
            log.append(f"{name} gave way")
        except TimeoutError:
            log.append(f"{name} kept its place")


async def _together(*holders: tuple[str, int, int], free_bytes: int = 0) -> list[str]:
    """Have holders (name, size, rate) begin one after the other, with room for 100 bytes."""
    budget, log = ByteBudget(100, free_bytes), list[str]()
    tasks = []
    for name, size_bytes, rate in holders:
        tasks.append(asyncio.create_task(_holder(budget, size_bytes, log, name, rate=rate)))
        await asyncio.sleep(0.1)
    await asyncio.gather(*tasks)

    with budget.share() as share:
        budget.hold(share, 100)  # all of it was given back
    return sorted(log)


FAST = 10**6


def test_the_youngest_gives_way_where_none_is_slow() -> None:
    log = asyncio.run(_together(("first", 60, FAST), ("second", 60, FAST)))
    assert log == ["first kept its place", "second gave way"]


def test_a_slow_one_gives_way_to_the_youngest() -> None:
    log = asyncio.run(_together(("fast", 40, FAST), ("slow", 40, 1), ("young", 40, FAST)))
    assert log == ["fast kept its place", "slow gave way", "young kept its place"]


def test_the_slowest_gives_way_first() -> None:
    log = asyncio.run(_together(("slow", 40, 10), ("slower", 40, 0), ("young", 40, FAST)))
    assert log == ["slow kept its place", "slower gave way", "young kept its place"]


def test_small_ones_always_find_room() -> None:
    log = asyncio.run(_together(("large", 110, FAST), ("small", 10, 0), free_bytes=10))
    assert log == ["large kept its place", "small kept its place"]


def test_what_waits_for_its_prediction_gives_way_to_nobody() -> None:
    async def run() -> None:
        budget = ByteBudget(100)
        with budget.share() as whole, budget.share() as young:
            async with whole.moving(1):
                budget.hold(whole, 60)
            async with young.moving(1):
                with pytest.raises(BudgetExceeded):
                    budget.hold(young, 60)

    asyncio.run(run())


def test_who_was_fast_is_slow_once_nothing_moves() -> None:
    async def run() -> None:
        stalled, fast = Share(), Share()
        async with stalled.moving(1), fast.moving(1):
            stalled.move(FAST)
            for _ in range(10):
                fast.move(FAST)
                await asyncio.sleep(0.02)
            assert stalled.priority() < fast.priority()

    asyncio.run(run())


@pytest.mark.parametrize(("moved_bytes", "comes"), [(0, False), (100, False), (FAST, True)])
def test_where_pace_is_demanded_a_slow_one_ends_early(moved_bytes: int, comes: bool) -> None:
    async def run() -> bool:
        share = Share()
        try:
            async with share.moving(20):
                for _ in range(10):
                    await asyncio.sleep(0.03)
                    share.move(moved_bytes)
                    share.demand_pace(20)
        except TimeoutError:
            return False
        return True

    assert asyncio.run(run()) is comes
