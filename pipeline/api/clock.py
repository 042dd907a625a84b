"""How long a training takes: on the wall, and in processor seconds."""

from __future__ import annotations

import time


class Clock:
    """Seconds since it was made, on the wall and of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def wall_s(self) -> float:
        """Return those on the wall."""
        return time.monotonic() - self._wall

    def cpu_s(self) -> float:
        """Return those in which a processor worked for this process."""
        return time.process_time() - self._cpu
