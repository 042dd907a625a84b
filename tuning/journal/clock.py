"""The clock of a study's events: set by the wall clock once, then it counts seconds of running.

A wall clock jumps when it is corrected, or while a machine sleeps. Times of events are subtracted
from each other, as for a time budget, so within a process they must not jump with it.
"""

from __future__ import annotations

import time
from functools import cache


def now() -> float:
    """Return the time of an event that happens now, in seconds since 1970.

    It never goes back in a process, and a sleep of the machine does not count. Between processes
    it may jump: see `History.active_s`, which counts from the event that begins each.
    """
    return wall_clock_at_zero() + time.monotonic()


@cache
def wall_clock_at_zero() -> float:
    """Return the wall clock's time at which the monotonic clock of this machine was 0."""
    return time.time() - time.monotonic()
