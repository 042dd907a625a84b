"""The chart of a task's configurations: every trial as a line through its settings to its score."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import Protocol

import numpy as np
import plotly.graph_objects as go

from pipeline.stages.task import Task
from tuning.report.charts.plotly_style import (
    ACCENT,
    COOL,
    LINE,
    MUTED,
    PANEL,
    Figure,
    escaped,
    joined_lines,
    line_trace,
    styled_figure,
    trial_number,
    vertical_line,
)
from tuning.report.formats import display_sign, measure_name, value_text
from tuning.report.search_trials import Searches, SearchTrial
from tuning.spec.space import Choice, Dimension, FloatRange, IntRange

MAX_TICKS = 8
NOT_APPLICABLE = -0.12
"""The height of a line that has no value for a setting: below the axis."""
JITTER = 0.015
"""Lines through the same value are this far apart at most, to be told from each other."""


class _Axis(Protocol):
    """One axis: its name, its labels, and the height of each trial, 0 at the bottom and 1 on top.

    `ticks` are (height, label).
    """

    name: str
    ticks: list[tuple[float, str]]

    def height(self, trial: SearchTrial) -> float: ...


def parallel_coordinates(searches: Searches, task: Task) -> Figure | None:
    """Draw every trial of a search as a line through its settings to its devel score.

    Returns:
        None where there are fewer than two trials, or nothing was varied.
    """
    trials = searches.trials(task)
    dimensions = searches.dimensions(task.stage)
    if len(trials) < 2 or not dimensions:
        return None

    axes = [_setting_axis(dimension, trials) for dimension in dimensions]
    axes.append(_ScoreAxis(task, trials))

    chart = go.Figure()
    _add_trials(chart, task, trials, axes)
    _add_axes(chart, axes)
    return styled_figure(
        f"Parallel coordinates of {task}",
        chart,
        420,
        min_width=110 * len(axes),
        is_legend_below=True,
        caption="Lines of stopped trials end at the score they had when they were stopped, which "
        "is not comparable with that of trials that were trained to the end. Below an axis: the "
        "setting does not apply.",
    )


class _ChoiceAxis:
    """A setting that is one of some values."""

    def __init__(self, path: str, domain: Choice, trials: Sequence[SearchTrial]) -> None:
        self.name = _setting_name(path)
        self._path = path
        self._random = np.random.default_rng(0)
        tried = {trial.trial.proposed.configuration.get(path) for trial in trials}
        self._values = [value for value in domain.values if value in tried]

        every = ceil(len(self._values) / MAX_TICKS)
        self.ticks = [
            (self._middle(i), value_text(value))
            for i, value in enumerate(self._values)
            if i % every == 0
        ]

    def height(self, trial: SearchTrial) -> float:
        value = trial.trial.proposed.configuration.get(self._path)
        if value is None:
            return NOT_APPLICABLE
        jitter = float(self._random.uniform(-JITTER, JITTER))
        return self._middle(self._values.index(value)) + jitter

    def _middle(self, index: int) -> float:
        return index / max(len(self._values) - 1, 1)


class _RangeAxis:
    """A setting that is a number of a range."""

    def __init__(self, path: str, domain: IntRange | FloatRange) -> None:
        self.name = _setting_name(path)
        self._path = path
        self._has_log_scale = domain.log
        self._low = self._scaled(float(domain.low))
        self._high = self._scaled(float(domain.high))
        self.ticks = [(0.0, value_text(domain.low)), (1.0, value_text(domain.high))]

    def height(self, trial: SearchTrial) -> float:
        value = trial.trial.proposed.configuration.get(self._path)
        if value is None:
            return NOT_APPLICABLE
        return (self._scaled(float(value)) - self._low) / ((self._high - self._low) or 1.0)

    def _scaled(self, value: float) -> float:
        return log10(value) if self._has_log_scale else value


class _ScoreAxis:
    """The devel score; the best is on top, also where it is the lowest error."""

    def __init__(self, task: Task, trials: Sequence[SearchTrial]) -> None:
        self.name = f"devel {measure_name(task)}"
        scores = [trial.devel for trial in trials]
        self._low, self._high = min(scores), max(scores)

        sign = display_sign(task)
        self.ticks = [(0.0, f"{sign * self._low:.3f}"), (1.0, f"{sign * self._high:.3f}")]

    def height(self, trial: SearchTrial) -> float:
        return (trial.devel - self._low) / ((self._high - self._low) or 1.0)


def _setting_axis(dimension: Dimension, trials: Sequence[SearchTrial]) -> _Axis:
    if isinstance(dimension.domain, Choice):
        return _ChoiceAxis(dimension.path, dimension.domain, trials)
    return _RangeAxis(dimension.path, dimension.domain)


def _setting_name(path: str) -> str:
    """Return a path without its table, which says nothing new on an axis."""
    return path.removeprefix("network.").removeprefix("fit.")


def _add_trials(
    chart: go.Figure, task: Task, trials: Sequence[SearchTrial], axes: Sequence[_Axis]
) -> None:
    """Add all trials, as one trace each of stopped, complete and best ones."""
    heights = {}
    for trial in trials:
        heights[trial.trial.name] = np.array([axis.height(trial) for axis in axes])

    stopped = [trial for trial in trials if not trial.is_complete]
    complete = [trial for trial in trials if trial.is_complete]
    complete.sort(key=lambda trial: trial.devel, reverse=True)
    num_best = max(1, len(complete) // 5)
    measure = f"devel {measure_name(task)}"
    extreme = "highest" if task.target else "lowest"
    groups = (
        ("stopped", MUTED, 0.8, "dot", stopped),
        ("trained to the end", COOL, 1.0, "solid", complete[num_best:]),
        (f"fifth of these with the {extreme} {measure}", ACCENT, 2.0, "solid", complete[:num_best]),
    )

    for name, colour, width, dash, group in groups:
        if group:
            numbers = [np.full(len(axes), trial_number(trial.trial.name)) for trial in group]
            scores = [np.full(len(axes), display_sign(task) * trial.devel) for trial in group]
            trace = line_trace(
                f"{name} ({len(group)})",
                colour,
                [np.arange(len(axes), dtype=np.float32)] * len(group),
                [heights[trial.trial.name] for trial in group],
                width=width,
                dash=dash,
                customdata=np.stack([joined_lines(numbers), joined_lines(scores)], axis=1),
                hovertemplate=f"trial %{{customdata[0]:04d}}: {measure} %{{customdata[1]:.3f}}"
                "<extra></extra>",
            )
            chart.add_trace(trace)


def _add_axes(chart: go.Figure, axes: Sequence[_Axis]) -> None:
    labels = []
    for x, axis in enumerate(axes):
        for height, text in axis.ticks:
            label = {
                "x": x,
                "y": height,
                "text": escaped(text),
                "showarrow": False,
                "xanchor": "left",
                "xshift": 3,
                "font": {"size": 11},
                "bgcolor": PANEL,
                "opacity": 0.85,
            }
            labels.append(label)

    chart.update_layout(
        # All at once: plotly copies all of them for every one that is added.
        annotations=labels,
        shapes=[vertical_line(x, 0.5, "solid") for x in range(len(axes))],
        xaxis={
            "tickvals": list(range(len(axes))),
            "ticktext": [escaped(axis.name) for axis in axes],
            "range": [-0.15, len(axes) - 0.35],
            "showgrid": False,
            "zeroline": False,
            "side": "top",
        },
        yaxis={"visible": False, "range": [-0.18, 1.08]},
        margin={"t": 40, "l": 20, "r": 10, "b": 50},
        hovermode="closest",
    )
    chart.update_xaxes(linecolor=LINE)
