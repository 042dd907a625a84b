"""A store that measures how long its requests take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from prometheus_client import Histogram

from pipeline.storage.stage_store import StageStore

Content = TypeVar("Content")


class TimedStore(StageStore):
    """A store whose reads and writes are counted, by how long they took and whether they failed.

    Args:
        uri: as for `StageStore`.
        seconds: takes the times; its labels are "operation" (read, write) and "result" (ok, error).
    """

    def __init__(self, uri: str | Path, seconds: Histogram) -> None:
        self._seconds = seconds
        super().__init__(uri)

    def read(self, name: str, parse: Callable[[Mapping[str, bytes]], Content]) -> Content | None:
        """Return what `parse` makes of the files under a name, as `StageStore.read`."""
        with self._timed("read"):
            return super().read(name, parse)

    def write(self, name: str, files: Mapping[str, bytes]) -> str | None:
        """Keep files under a name, as `StageStore.write`."""
        with self._timed("write"):
            return super().write(name, files)

    @contextlib.contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        begin, result = time.perf_counter(), "error"
        try:
            yield
            result = "ok"
        finally:
            self._seconds.labels(operation, result).observe(time.perf_counter() - begin)
