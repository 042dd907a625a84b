"""Memory given back: what the allocator keeps of large bodies returns to the system."""

from __future__ import annotations

import contextlib
import ctypes
import time
from threading import Thread

PERIOD_S = 5.0


def give_back_memory() -> None:
    """Return free memory to the system, where the allocator is glibc's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_giving_back_memory() -> None:
    """Have a thread of this process do so every few seconds; it takes some milliseconds.

    Each thread that receives bodies has a heap of its own, in which a few bytes in use would else
    keep the rest from being given back.
    """
    Thread(target=_give_back_forever, name="memory", daemon=True).start()


def _give_back_forever() -> None:
    while True:
        time.sleep(PERIOD_S)
        give_back_memory()
