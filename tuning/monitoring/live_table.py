"""A study as it runs: a live table in a terminal, a plain line now and then elsewhere; and its status on request."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tuning.journal.history import History
from tuning.monitoring.status import StudyStatus, Surveyor, TaskStatus, duration, shown, survey

REFRESH_S = 0.5
"""A table is drawn at most so often."""
LARGEST_SHARE = 0.01
"""Of the driver's time that drawing may take: drawing waits longer where it is slow."""
LINE_S = 30.0
"""Without a terminal, a line is printed at most so often."""
AROUND = 8
"""Lines of a terminal that are not rows of tasks."""
STYLES = {"waiting": "dim", "search": "cyan", "refit": "magenta", "settled": "green"}


class StudyTable:
    """Shows a study while it runs; use it as a context manager, and call `update` whenever something happened.

    Args:
        console: where; default: standard error.
        clock: seconds.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._live = (
            Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        )
        self._surveyor: Surveyor | None = None
        self._history: History | None = None
        self._next = float("-inf")
        self._said = ""

    def __enter__(self) -> StudyTable:
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
        """Take note; cheap, for most calls draw nothing."""
        self._history = history
        begin = self._clock()
        if begin < self._next or history.opened is None:
            return
        self._show(history)
        end = self._clock()
        pause = max(REFRESH_S, (end - begin) / LARGEST_SHARE) if self._live else LINE_S
        self._next = end + pause

    def _show(self, history: History) -> None:
        if history.opened is None:
            return
        self._surveyor = self._surveyor or Surveyor(history.opened)
        state = self._surveyor.look(history)
        if self._live:
            self._live.update(_table(state, max(self._console.height - AROUND, 3)), refresh=True)
        elif (line := f"{_totals(state)}. {_best(state)}") != self._said:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._said = line


def status_table(history: History) -> RenderableType:
    """Where a study stands, for a terminal.

    Args:
        history: of a study that was opened.
    """
    return _table(survey(history), None)


def status_json(history: History) -> dict[str, Any]:
    """Where a study stands, for a program.

    Args:
        history: of a study that was opened.
    """
    state = survey(history)
    registered = history.registered
    return {
        "name": state.name,
        "finished": state.finished,
        "planned": state.total("planned"),
        **{
            count: state.total(count)
            for count in ("done", "running", "stopped", "cut", "failed", "from_store")
        },
        "epochs_trained": state.total("epochs"),
        "epochs_saved": state.total("epochs_saved"),
        "used_s": round(state.used_s, 3),
        "left_s": None if state.left_s is None else round(state.left_s, 3),
        "registered": {"model": registered.model, "version": registered.version}
        if registered
        else None,
        "tasks": [_task_json(task) for task in state.tasks],
    }


def _task_json(state: TaskStatus) -> dict[str, Any]:
    return {
        "task": str(state.task),
        "phase": state.phase,
        "measure": state.task.measure,
        "best": state.best,
        "planned": state.planned,
        "done": state.done,
        "running": state.running,
        "stopped": state.stopped,
        "cut": state.cut,
        "failed": state.failed,
        "from_store": state.from_store,
        "epochs_trained": state.epochs,
        "epochs_saved": state.epochs_saved,
    }


def _table(state: StudyStatus, rows: int | None) -> RenderableType:
    """The totals and one row per task; where there is no room, tasks that neither wait nor are settled first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", no_wrap=True, overflow="ellipsis")
    table.add_column("phase")
    for name in ("done", "running", "stopped", "failed", "planned", "best"):
        table.add_column(name, justify="right", no_wrap=True)
    tasks = list(state.tasks)
    if rows is not None and len(tasks) > rows:
        active = [task for task in tasks if task.phase in ("search", "refit")]
        others = [task for task in tasks if task not in active and task.phase == "settled"]
        tasks = (active + others[::-1])[: rows - 1]
    for task in tasks:
        table.add_row(
            Text(str(task.task)),
            Text(task.phase, STYLES[task.phase]),
            str(task.done),
            str(task.running or ""),
            str(task.stopped + task.cut or ""),
            Text(str(task.failed or ""), "red"),
            str(task.planned),
            shown(task.task, task.best),
        )
    hidden = len(state.tasks) - len(tasks)
    more = [Text(f"and {hidden} further tasks, settled or waiting", "dim")] if hidden else []
    return Group(Text(f"Study {state.name}: {_totals(state)}", "bold"), table, *more)


def _totals(state: StudyStatus) -> str:
    ended = sum(state.total(count) for count in ("done", "stopped", "cut", "failed"))
    counted = [
        f"{ended} of {state.total('planned')} fits ended",
        f"{state.total('running')} running" if state.total("running") else "",
        f"{state.total('stopped')} stopped early" if state.total("stopped") else "",
        f"{state.total('cut')} cut by the time budget" if state.total("cut") else "",
        f"{state.total('failed')} failed" if state.total("failed") else "",
        f"{state.saved_share:.0%} of epochs saved" if state.total("epochs_saved") else "",
        f"{duration(state.used_s)} used",
    ]
    left = (
        "finished"
        if state.finished
        else ""
        if state.left_s is None
        else f"about {duration(state.left_s)} left"
    )
    return ", ".join(part for part in [*counted, left] if part)


def _best(state: StudyStatus) -> str:
    """The best of the latest stage that has scores, for each target."""
    for stage in ("fusion", "unimodal", "auto_encoder"):
        found = [task for task in state.tasks if task.task.stage == stage and task.best is not None]
        if found:
            best: dict[str, TaskStatus] = {}
            for task in found:
                place = task.task.target or task.task.modality
                if place not in best or (task.best or 0) > (best[place].best or 0):
                    best[place] = task
            return (
                "Best: "
                + ", ".join(f"{task.task} {shown(task.task, task.best)}" for task in best.values())
                + "."
            )
    return "No score yet."
