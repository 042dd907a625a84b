"""Bytes that many requests hold together: at most so many, and who is slow gives way first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

GRACE_S = 2.0
MIN_BYTES_PER_S = 64 * 1024
"""Who moves fewer bytes than that is slow; nobody is at first, or in a shorter pause."""


class BudgetExceeded(Exception):
    """There is no room for these bytes, or no longer."""


class Share:
    """What one request holds.

    Attributes:
        held_bytes: count against the budget.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self._begin_s = self._slow_from_s = 0.0
        self._deadline: asyncio.Timeout | None = None
        self._is_revoked = False

    @property
    def is_moving(self) -> bool:
        """Whether bytes are to come or to go. What waits for a prediction gives way to nobody."""
        return self._deadline is not None and not self._is_revoked

    @contextlib.asynccontextmanager
    async def moving(self, timeout_s: float) -> AsyncIterator[None]:
        """Let bytes come or go in this block, which ends early where this share has to give way.

        Raises:
            BudgetExceeded: it had to give way.
            TimeoutError: the block took longer than `timeout_s`.
        """
        self.restart()
        try:
            async with asyncio.timeout(timeout_s) as self._deadline:
                yield
        except TimeoutError:
            if self._is_revoked:
                raise BudgetExceeded from None
            raise
        finally:
            self._deadline = None

    def restart(self) -> None:
        """Begin to measure its time and its pace anew."""
        self._begin_s = time.monotonic()
        self._slow_from_s = self._begin_s + GRACE_S

    def move(self, size_bytes: int) -> None:
        """Note that bytes have come from the client, or gone to it."""
        now_s = time.monotonic()
        earliest_s, latest_s = now_s - GRACE_S, now_s + GRACE_S
        later_s = max(self._slow_from_s, earliest_s) + size_bytes / MIN_BYTES_PER_S
        self._slow_from_s = min(later_s, latest_s)

    def demand_pace(self, timeout_s: float) -> None:
        """End its block, in which it moves, when it is slow, and after `timeout_s` in any case."""
        end_s = min(self._begin_s + timeout_s, self._slow_from_s)
        self._reschedule(end_s - time.monotonic())

    def revoke(self) -> None:
        """Have its holder give way."""
        self._is_revoked = True
        self._reschedule(0.0)

    def priority(self) -> tuple[bool, float]:
        """Return what orders shares: the slowest of the slow first, then the youngest."""
        is_slow = time.monotonic() > self._slow_from_s
        return not is_slow, self._slow_from_s if is_slow else -self._begin_s

    def _reschedule(self, seconds: float) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + seconds)


class ByteBudget:
    """A bound on the bytes of all shares.

    Args:
        max_bytes: of all shares together.
        free_bytes: of each share are not counted, so that small requests always find room.
    """

    def __init__(self, max_bytes: int, free_bytes: int = 0) -> None:
        self._max_bytes = max_bytes
        self._free_bytes = free_bytes
        self._counted_bytes = 0
        self._shares: set[Share] = set()

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """Give one request a share, until the block is left."""
        share = Share()
        self._shares.add(share)
        try:
            yield share
        finally:
            self._give_back(share)
            self._shares.discard(share)

    def hold(self, share: Share, size_bytes: int) -> None:
        """Add bytes to a share. Where they are too many, a slow share gives way, else the youngest.

        So the oldest request that is not slow always comes to its end.

        Raises:
            BudgetExceeded: it was this share that had to give way.
        """
        before = self._counted(share)
        share.held_bytes += size_bytes
        self._counted_bytes += self._counted(share) - before

        while self._counted_bytes > self._max_bytes:
            moving = [one for one in self._shares if one.is_moving and self._counted(one)]
            victim = min(moving, key=Share.priority, default=share)
            self._give_back(victim)
            if victim is share:
                raise BudgetExceeded
            victim.revoke()

    def _give_back(self, share: Share) -> None:
        self._counted_bytes -= self._counted(share)
        share.held_bytes = 0

    def _counted(self, share: Share) -> int:
        return max(0, share.held_bytes - self._free_bytes)
