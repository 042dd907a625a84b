"""Bytes that many requests hold together: at most so many, and who is slow gives way first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

GRACE_S = 2.0
MIN_BYTES_PER_S = 64 * 1024
"""Who moved fewer bytes than that, once the first seconds are over, is slow."""


class BudgetExceeded(Exception):
    """There is no room for these bytes, or no longer."""


class Share:
    """What one request holds.

    Attributes:
        held_bytes: count against the budget.
        moved_bytes: have come from the client, or gone to it.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self.moved_bytes = 0
        self._begin_s = 0.0
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
        self._begin_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s) as self._deadline:
                yield
        except TimeoutError:
            if self._is_revoked:
                raise BudgetExceeded from None
            raise
        finally:
            self._deadline = None

    def demand_pace(self, timeout_s: float) -> None:
        """End its block, in which it moves, where it is slow, and after `timeout_s` in any case."""
        allowed_s = min(timeout_s, GRACE_S + self.moved_bytes / MIN_BYTES_PER_S)
        self._reschedule(self._begin_s + allowed_s - time.monotonic())

    def restart(self) -> None:
        """Begin to measure its time anew, in a block in which it moves."""
        self._begin_s = time.monotonic()

    def revoke(self) -> None:
        """Have its holder give way."""
        self._is_revoked = True
        self._reschedule(0.0)

    def priority(self) -> tuple[bool, float]:
        """Return what orders shares: the slowest of the slow first, then the youngest."""
        duration_s = time.monotonic() - self._begin_s
        bytes_per_s = self.moved_bytes / max(duration_s, 1e-9)
        is_slow = duration_s > GRACE_S and bytes_per_s < MIN_BYTES_PER_S
        return not is_slow, bytes_per_s if is_slow else -self._begin_s

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
