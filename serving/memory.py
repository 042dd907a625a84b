"""Memory given back: what the allocator keeps of large bodies returns to the system."""

from __future__ import annotations

import contextlib
import ctypes

import pyarrow as pa


def give_back_memory() -> None:
    """Return free memory to the system: glibc's, where this is glibc, and Arrow's."""
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
