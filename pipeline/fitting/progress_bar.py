"""Fits as a live line in a terminal: done, running, epoch, best score, time left."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from pipeline.fitting.worker_pool import FitProgress

MAX_SHOWN = 4
"""Running fits that are named."""


@dataclass
class _RunningFit:
    name: str
    epoch: int = 0
    best: float = float("-inf")


class ProgressBar:
    """Shows the progress of a pool; use it as a context manager and as the pool's on_progress.

    Args:
        num_fits: how many there will be.
        console: where.
    """

    def __init__(self, num_fits: int, console: Console) -> None:
        self._lock = Lock()
        self._running: dict[str, _RunningFit] = {}
        running_column = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self._progress = Progress(
            TextColumn("fits"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[running]}", table_column=running_column, markup=False),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("fits", total=num_fits, running="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, progress: FitProgress) -> None:
        """Take an epoch or a solution into account, from whatever thread."""
        with self._lock:
            self._update(progress)

    def _update(self, progress: FitProgress) -> None:
        problem, epoch = progress.problem, progress.epoch

        if epoch is not None:
            fit = self._running.setdefault(problem.key, _RunningFit(problem.name))
            fit.epoch, fit.best = epoch.epoch, max(fit.best, epoch.score)
        elif progress.stage is not None:
            self._running.pop(problem.key, None)
            self._progress.advance(self._task)

        lines = [f"{f.name}: epoch {f.epoch}, best {f.best:.3f}" for f in self._running.values()]
        self._progress.update(self._task, running=" | ".join(lines[:MAX_SHOWN]))
