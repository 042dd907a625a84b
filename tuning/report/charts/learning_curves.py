"""The chart of a task's learning curves: every trial of its search, stopped ones visible."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pipeline.stages.task import Task
from tuning.journal.history import Trial
from tuning.planning.asha import rungs
from tuning.report.charts.plotly_style import (
    ACCENT,
    BAD,
    COOL,
    INK,
    MUTED,
    Figure,
    joined_lines,
    line_trace,
    styled_figure,
    trial_number,
    vertical_line,
)
from tuning.report.formats import display_sign, measure_name
from tuning.report.search_trials import Searches

GROUPS = (
    ("trained to the end", COOL, "solid"),
    ("stopped early", MUTED, "dot"),
    ("cut by the time budget", MUTED, "dash"),
    ("failed", BAD, "solid"),
    ("running", INK, "dash"),
)
"""Kinds of trials: name, colour and dash of their curves."""
GROUP_OF_REASON = {"asha": "stopped early", "budget": "cut by the time budget", "error": "failed"}


def learning_curves(searches: Searches, task: Task, max_points: int) -> Figure | None:
    """Draw the devel score by epoch of every trial of a search, and the rungs.

    Args:
        searches: of the study.
        task: whose search.
        max_points: drawn of all curves; of more, epochs are left out evenly.

    Returns:
        None where no epoch has passed.
    """
    trials = [trial for trial in searches.history.trials_of(task, "search") if trial.epochs]
    if not trials:
        return None

    step = ceil(sum(len(trial.epochs) for trial in trials) / max_points)
    chart = go.Figure()
    _add_groups(chart, task, trials, step)
    _add_highest(chart, task, trials)
    _add_stops(chart, task, trials)

    last_epoch = max(trial.epochs[-1].epoch for trial in trials)
    table = searches.study.table(task.stage)
    rung_epochs = rungs(table.grace_epochs, table.reduction_factor, last_epoch + 1)
    chart.update_layout(
        shapes=[vertical_line(epoch, 0.35, "dash") for epoch in rung_epochs],
        xaxis={"title": {"text": "epoch"}},
        yaxis={"title": {"text": f"devel {measure_name(task)}"}},
        margin={"t": 30, "r": 10, "b": 45, "l": 20},
    )

    thinned = f" Every {step}th epoch is drawn." if step > 1 else ""
    return styled_figure(
        f"Learning curves of {task}",
        chart,
        380,
        caption="A dashed line is a rung: there, trials that were behind the others were stopped "
        f"(marked).{thinned}",
    )


def _add_groups(chart: go.Figure, task: Task, trials: Sequence[Trial], step: int) -> None:
    """Add the curves of all trials, as one trace per kind."""
    for name, colour, dash in GROUPS:
        group = [trial for trial in trials if _group_name(trial) == name]
        if group:
            label = f"{name} ({len(group)})"
            chart.add_trace(_curves(label, task, group, step, colour, dash, width=1.1))


def _add_highest(chart: go.Figure, task: Task, trials: Sequence[Trial]) -> None:
    """Draw the complete trial with the highest devel score once more, in another colour."""
    complete = [trial for trial in trials if trial.is_complete]
    if not complete:
        return

    highest = max(
        complete, key=lambda trial: -inf if trial.best_devel is None else trial.best_devel
    )
    # The highest score of an auto-encoder is the lowest error.
    extreme = "highest" if task.target else "lowest"
    label = f"{extreme} devel {measure_name(task)} (trial {highest.name})"
    chart.add_trace(_curves(label, task, [highest], 1, ACCENT, "solid", width=2.4))


def _add_stops(chart: go.Figure, task: Task, trials: Sequence[Trial]) -> None:
    """Add a mark where early stopping ended a trial."""
    ends = [trial.epochs[-1] for trial in trials if _group_name(trial) == "stopped early"]
    if not ends:
        return

    marks = go.Scatter(
        x=np.array([epoch.epoch for epoch in ends], dtype=np.float32),
        y=np.array([display_sign(task) * epoch.score for epoch in ends], dtype=np.float32),
        mode="markers",
        marker={"symbol": "x-thin", "size": 6, "line": {"color": MUTED, "width": 1.5}},
        hoverinfo="skip",
        showlegend=False,
    )
    chart.add_trace(marks)


def _curves(
    name: str,
    task: Task,
    trials: Sequence[Trial],
    step: int,
    colour: str,
    dash: str,
    *,
    width: float,
) -> go.Scatter:
    xs, ys, numbers = [], [], []
    for trial in trials:
        epochs, scores = _thinned(trial, step)
        xs.append(epochs)
        ys.append(display_sign(task) * scores)
        numbers.append(np.full(len(epochs), trial_number(trial.name)))

    return line_trace(
        name,
        colour,
        xs,
        ys,
        width=width,
        dash=dash,
        customdata=joined_lines(numbers),
        meta="trials",
        hoverinfo="none",
    )


def _thinned(trial: Trial, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the epochs and scores of every step-th epoch, and of the last one."""
    last = len(trial.epochs) - 1
    indices = sorted({*range(0, len(trial.epochs), step), last})
    epochs = [trial.epochs[i] for i in indices]

    numbers = np.array([float(epoch.epoch) for epoch in epochs])
    scores = np.array([epoch.score for epoch in epochs])
    return numbers, scores


def _group_name(trial: Trial) -> str:
    if trial.ended is None:
        return "running"
    return GROUP_OF_REASON.get(trial.ended.reason, "trained to the end")
