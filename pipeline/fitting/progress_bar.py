"""Fits as a live line in a terminal: done, running, epoch, best score, time left. Silent elsewhere."""

from __future__ import annotations

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

from pipeline.fitting.worker_pool import Progress as Report


class ProgressBar:
    """Shows what a Crew reports; use it as a context manager and as the Crew's on_progress."""

    def __init__(self, num_fits: int, console: Console) -> None:
        self._lock = Lock()
        self._running: dict[str, tuple[str, int, float]] = {}
        self._progress = Progress(
            TextColumn("fits"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn(
                "{task.fields[running]}",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
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

    def __call__(self, report: Report) -> None:
        with self._lock:  # a Crew reports epochs and solutions from different threads
            self._show(report)

    def _show(self, report: Report) -> None:
        key = report.task.key
        if report.epoch:
            _, _, best = self._running.get(key, ("", 0, float("-inf")))
            self._running[key] = (
                report.task.name,
                report.epoch.epoch,
                max(best, report.epoch.score),
            )
        elif report.stage:
            self._running.pop(key, None)
            self._progress.advance(self._task)
        running = [
            f"{name}: epoch {epoch}, best {best:.3f}"
            for name, epoch, best in self._running.values()
        ]
        self._progress.update(self._task, running=" | ".join(running[:4]))
