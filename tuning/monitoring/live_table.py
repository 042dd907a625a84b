"""A study's status for people: a live table in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
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
OTHER_LINES = 3
"""Lines that are neither tasks nor text: the heading, the rule below it, and the cursor's."""
STYLES = {"waiting": "dim", "search": "cyan", "refit": "magenta", "completed": "green"}
BEST = "Best: highest deciding score of a trial so far, on one fold; winner: on all."


@dataclass(frozen=True)
class Course:
    """What only the process that runs a study knows of it.

    Attributes:
        num_workers: fits at a time; 0 before it is known.
        budget_s: seconds that it may run; infinite without a time budget.
        mlflow: where its runs are seen; "" where that cannot be said.
    """

    num_workers: int = 0
    budget_s: float = inf
    mlflow: str = ""


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
        self._course = Course()
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

    def update(self, history: History, course: Callable[[], Course] = Course) -> None:
        """Show what is new, if it is time to; most calls draw nothing.

        Args:
            history: of the study.
            course: is called where something is drawn.
        """
        self._history = history
        begin = self._clock()
        if begin < self._next_at or history.opened is None:
            return

        self._course = course()
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
            self._live.update(_table(status, self._course, self._console), refresh=True)
            return
        line = f"{_counts(status)}, {_times(status, self._course)}. {_scores(status)}"
        if line != self._last_line:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._last_line = line


def status_table(history: History) -> RenderableType:
    """Return the status of a study, for a terminal.

    Args:
        history: of a study that was opened.
    """
    return _table(study_status(history), Course(), None)


def _table(status: StudyStatus, course: Course, console: Console | None) -> RenderableType:
    """Return the totals and one row per task, as far as there is room.

    Args:
        status: of the study.
        course: of the study.
        console: of the terminal that it has to fit; None: there is room for all.
    """
    above = [
        Text(f"Study {status.name}: {_counts(status)}", "bold"),
        Text(_capitalised(_times(status, course))),
    ]
    if course.mlflow:
        above.append(Text(f"MLflow: {course.mlflow}", "dim", overflow="fold"))
    below = [Text(BEST, "dim")]

    rows = None
    if console is not None:
        texts = (*above, *below)
        num_lines = sum(len(text.wrap(console, console.width)) for text in texts)
        rows = max(console.height - num_lines - OTHER_LINES, 3)
    tasks = _rows(status, rows)
    if num_hidden := len(status.tasks) - len(tasks):
        below.insert(0, Text(f"and {num_hidden} further tasks, completed or waiting", "dim"))
    return Group(*above, _task_table(tasks), *below)


def _task_table(tasks: list[TaskStatus]) -> Table:
    """Return a row per task; a column of failed fits only where there are any."""
    has_failed = any(task.failed for task in tasks)
    padding = (0, 0) if has_failed else (0, 1, 0, 0)  # 80 columns are enough for either
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=padding)
    table.add_column("task", no_wrap=True, overflow="ellipsis")
    table.add_column("phase", no_wrap=True)
    for name in ("fits", "running", "stopped", *(["failed"] if has_failed else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("best", "winner"):
        table.add_column(name, justify="right", no_wrap=True, min_width=8)

    for task in tasks:
        num_ended = task.done + task.stopped + task.cut + task.failed
        table.add_row(
            Text(str(task.task)),
            Text(task.phase, STYLES[task.phase]),
            f"{num_ended}/{task.planned}",
            str(task.running or ""),
            str(task.stopped + task.cut or ""),
            *([Text(str(task.failed or ""), "red")] if has_failed else []),
            format_score(task.task, task.best),
            format_score(task.task, task.winner),
        )
    return table


def _rows(status: StudyStatus, rows: int | None) -> list[TaskStatus]:
    """Return the tasks for which there is room: those that are searched or refitted first."""
    tasks = list(status.tasks)
    if rows is None or len(tasks) <= rows:
        return tasks
    active = [task for task in tasks if task.phase in ("search", "refit")]
    completed = [task for task in tasks if task.phase == "completed"]
    return (active + completed[::-1])[: rows - 1]


def _counts(status: StudyStatus) -> str:
    """Return how many fits ended, and how."""
    parts = [f"{status.num_ended} of {status.total('planned')} fits ended"]
    for count, text in (
        ("running", "running"),
        ("stopped", "stopped early"),
        ("cut", "cut by the time budget"),
        ("failed", "failed"),
    ):
        if number := status.total(count):
            parts.append(f"{number} {text}")
    return ", ".join(parts)


def _times(status: StudyStatus, course: Course) -> str:
    """Return the time that was used and is left, the budget, the workers, and what was saved."""
    used = f"{format_duration(status.used_s)} used"
    parts = [used if course.budget_s == inf else f"{used} of {format_duration(course.budget_s)}"]
    if status.is_finished:
        parts.append("finished")
    elif status.left_s is not None:
        parts.append(f"about {format_duration(status.left_s)} left")

    if course.num_workers and not status.is_finished:
        parts.append(f"{course.num_workers} worker{'s' if course.num_workers > 1 else ''}")
    if status.total("epochs_saved"):
        parts.append(f"{status.saved_share:.0%} of epochs saved")
    return ", ".join(parts)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _scores(status: StudyStatus) -> str:
    """Return the scores of the latest stage that has any, for each target."""
    for stage in ("fusion", "unimodal", "auto_encoder"):
        tasks = [task for task in status.tasks if task.task.stage == stage]
        scored = [task for task in tasks if task.deciding is not None]
        if scored:
            return "; ".join(_score_text(task) for task in _best_by_target(scored)) + "."
    return "No score yet."


def _best_by_target(tasks: list[TaskStatus]) -> list[TaskStatus]:
    """Return for each target (an auto-encoder's modality) the task with the highest best score."""
    best: dict[str, TaskStatus] = {}
    for task in tasks:
        name = task.task.target or task.task.modality
        if name not in best or _best(task) > _best(best[name]):
            best[name] = task
    return list(best.values())


def _best(task: TaskStatus) -> float:
    return -inf if task.best is None else task.best


def _score_text(task: TaskStatus) -> str:
    scores = [
        f"{name} {format_score(task.task, score)}"
        for name, score in (("best", task.best), ("winner", task.winner))
        if score is not None
    ]
    return f"{task.task}: {', '.join(scores)}"
