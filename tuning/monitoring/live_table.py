"""A study's status for people: a live table in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline import terminal
from tuning.journal.history import History
from tuning.monitoring.status import (
    StatusReader,
    StudyStatus,
    TaskStatus,
    format_duration,
    format_score,
    study_status,
)

REFRESH_S = 0.5
"""A table is drawn at most so often."""
MAX_DRAWING_SHARE = 0.01
"""Of the driver's time that drawing may take: drawing waits longer where it is slow."""
LINE_S = 30.0
"""Without a terminal, a line is printed at most so often."""
OTHER_LINES = 8
"""Lines of a terminal that are not rows of tasks."""
STYLES = {"waiting": "dim", "search": "cyan", "refit": "magenta", "completed": "green"}
COUNTS = ("done", "running", "stopped", "failed", "planned")
SCORES = ("devel", "deciding")


class LiveTable:
    """Shows a study while it runs; a context manager whose `update` is called after events.

    Args:
        console: where; default: standard error.
        clock: returns seconds.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or terminal.Console(stderr=True)
        self._clock = clock
        is_terminal = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False) if is_terminal else None
        self._reader: StatusReader | None = None
        self._history: History | None = None
        self._next_at = float("-inf")
        self._last_line = ""

    def __enter__(self) -> LiveTable:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._history is not None:
                self._show(self._history)
        finally:
            if self._live:
                self._live.stop()

    def update(self, history: History) -> None:
        """Show what is new, if it is time to; most calls draw nothing."""
        self._history = history
        begin = self._clock()
        if begin < self._next_at or history.opened is None:
            return

        self._show(history)
        end = self._clock()
        pause_s = max(REFRESH_S, (end - begin) / MAX_DRAWING_SHARE) if self._live else LINE_S
        self._next_at = end + pause_s

    def _show(self, history: History) -> None:
        if history.opened is None:
            return
        self._reader = self._reader or StatusReader(history.opened)
        status = self._reader.read(history)

        if self._live:
            rows = max(self._console.height - OTHER_LINES, 3)
            self._live.update(_table(status, rows), refresh=True)
            return
        line = f"{_totals(status)}. {_scores(status)}"
        if line != self._last_line:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._last_line = line


def status_table(history: History) -> RenderableType:
    """Return the status of a study, for a terminal.

    Args:
        history: of a study that was opened.
    """
    return _table(study_status(history), None)


def _table(status: StudyStatus, rows: int | None) -> RenderableType:
    """Return the totals and one row per task, as far as there is room."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", no_wrap=True, overflow="ellipsis")
    table.add_column("phase")
    for name in (*COUNTS, *SCORES):
        table.add_column(name, justify="right", no_wrap=True)

    tasks = _rows(status, rows)
    for task in tasks:
        table.add_row(
            Text(str(task.task)),
            Text(task.phase, STYLES[task.phase]),
            str(task.done),
            str(task.running or ""),
            str(task.stopped + task.cut or ""),
            Text(str(task.failed or ""), "red"),
            str(task.planned),
            format_score(task.task, task.devel),
            format_score(task.task, task.deciding),
        )

    parts: list[RenderableType] = [Text(f"Study {status.name}: {_totals(status)}", "bold"), table]
    if num_hidden := len(status.tasks) - len(tasks):
        parts.append(Text(f"and {num_hidden} further tasks, completed or waiting", "dim"))
    return Group(*parts)


def _rows(status: StudyStatus, rows: int | None) -> list[TaskStatus]:
    """Return the tasks for which there is room: those that are searched or refitted first."""
    tasks = list(status.tasks)
    if rows is None or len(tasks) <= rows:
        return tasks
    active = [task for task in tasks if task.phase in ("search", "refit")]
    completed = [task for task in tasks if task.phase == "completed"]
    return (active + completed[::-1])[: rows - 1]


def _totals(status: StudyStatus) -> str:
    parts = [f"{status.num_ended} of {status.total('planned')} fits ended"]
    for count, text in (
        ("running", "running"),
        ("stopped", "stopped early"),
        ("cut", "cut by the time budget"),
        ("failed", "failed"),
    ):
        if number := status.total(count):
            parts.append(f"{number} {text}")
    if status.total("epochs_saved"):
        parts.append(f"{status.saved_share:.0%} of epochs saved")
    parts.append(f"{format_duration(status.used_s)} used")

    if status.is_finished:
        parts.append("finished")
    elif status.left_s is not None:
        parts.append(f"about {format_duration(status.left_s)} left")
    return ", ".join(parts)


def _scores(status: StudyStatus) -> str:
    """Return the scores of the latest stage that has any, for each target.

    A completed task shows its winner's deciding score, one that is searched its best devel score.
    """
    for stage in ("fusion", "unimodal", "auto_encoder"):
        tasks = [task for task in status.tasks if task.task.stage == stage]
        scored = [task for task in tasks if task.devel is not None or task.deciding is not None]
        if scored:
            return "; ".join(_score_text(task) for task in _best_by_target(scored)) + "."
    return "No score yet."


def _best_by_target(tasks: list[TaskStatus]) -> list[TaskStatus]:
    """Return for each target (an auto-encoder's modality) the task with the highest devel score."""
    best: dict[str, TaskStatus] = {}
    for task in tasks:
        name = task.task.target or task.task.modality
        if name not in best or _devel(task) > _devel(best[name]):
            best[name] = task
    return list(best.values())


def _devel(task: TaskStatus) -> float:
    return float("-inf") if task.devel is None else task.devel


def _score_text(task: TaskStatus) -> str:
    scores = [
        f"{name} {format_score(task.task, score)}"
        for name, score in (("devel", task.devel), ("deciding", task.deciding))
        if score is not None
    ]
    return f"{task.task}: {', '.join(scores)}"
