"""Learning curves of a task's search, stopped ones visible, and its configurations as parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from tuning.journal.history import Trial
from tuning.planning.asha import rungs
from tuning.report.plotly_style import (
    ACCENT,
    BAD,
    COOL,
    INK,
    LINE,
    MUTED,
    Figure,
    figure,
    joined,
    lines,
    plain,
    vertical,
)
from tuning.report.search_trials import Entry, Searches
from tuning.spec.space import Choice, Dimension, Value
from tuning.spec.tasks import Task

MOST_POINTS = 6000
"""Of a task's curves; beyond, epochs are left out evenly."""
MOST_TICKS = 8
NOT_APPLICABLE = -0.12
"""Where a line runs that has no value for a setting: below the axis."""
GROUPS = (
    ("trained to the end", COOL, "solid"),
    ("stopped early", MUTED, "dot"),
    ("cut by the time budget", MUTED, "dash"),
    ("failed", BAD, "solid"),
    ("running", INK, "dash"),
)


def learning_curves(searches: Searches, task: Task) -> Figure | None:
    """Score by epoch of every trial of the search, and the rungs; None where no epoch has passed."""
    trials = [t for t in searches.history.of(task) if t.proposed.purpose == "search" and t.epochs]
    if not trials:
        return None
    step = ceil(sum(len(trial.epochs) for trial in trials) / MOST_POINTS)
    sign = 1.0 if task.target else -1.0
    chart = go.Figure()
    for name, colour, dash in GROUPS:
        group = [trial for trial in trials if _group(trial) == name]
        if group:
            chart.add_trace(_curves(f"{name} ({len(group)})", colour, dash, group, step, sign))
    best = max(
        (trial for trial in trials if trial.complete),
        key=lambda trial: trial.best or 0.0,
        default=None,
    )
    if best is not None:
        chart.add_trace(_curves(f"the best ({best.name})", ACCENT, "solid", [best], 1, sign))
    _add_ends(chart, trials, sign)
    last = max(trial.epochs[-1].epoch for trial in trials)
    table = searches.study.table(task.stage)
    judged_at = rungs(table.grace_epochs, table.reduction_factor, last + 1)
    measure = "CCC on devel" if task.target else "reconstruction error on devel"
    chart.update_layout(
        shapes=[vertical(rung, 0.35, "dash") for rung in judged_at],
        xaxis={"title": {"text": "epoch"}},
        yaxis={"title": {"text": measure}},
        margin={"t": 30, "r": 10, "b": 45, "l": 20},
    )
    thinned = f" Every {step}th epoch is drawn." if step > 1 else ""
    return figure(
        f"Learning curves of {task}",
        chart,
        380,
        caption=f"A dashed line is a rung: there, trials that were behind the others were stopped (marked).{thinned}",
    )


def parallel_coordinates(searches: Searches, task: Task) -> Figure | None:
    """Every trial as a line through its settings to its score; None where there are fewer than two."""
    entries = searches.of(task)
    dimensions = searches.dimensions(task.stage)
    if len(entries) < 2 or not dimensions:
        return None
    axes = [_Axis(dimension, entries) for dimension in dimensions]
    last = len(axes)
    scores = np.array([entry.score for entry in entries])
    low, high = float(scores.min()), float(scores.max())
    span = (high - low) or 1.0
    places = {
        entry.trial.name: np.array(
            [axis.place(entry) for axis in axes] + [(entry.score - low) / span]
        )
        for entry in entries
    }
    chart = go.Figure()
    complete = sorted(
        (entry for entry in entries if entry.complete), key=lambda entry: entry.score, reverse=True
    )
    top = max(1, len(complete) // 5)
    stopped = [entry for entry in entries if not entry.complete]
    xs, measure = np.arange(last + 1, dtype=np.float32), "CCC" if task.target else "RE"
    for name, colour, width, dash, group in (
        ("stopped", MUTED, 0.8, "dot", stopped),
        ("trained to the end", COOL, 1.0, "solid", complete[top:]),
        ("the best fifth of these", ACCENT, 2.0, "solid", complete[:top]),
    ):
        if group:
            who = [
                np.array([[_number(entry.trial), abs(entry.score)]] * (last + 1)) for entry in group
            ]
            chart.add_trace(
                lines(
                    f"{name} ({len(group)})",
                    colour,
                    [xs] * len(group),
                    [places[entry.trial.name] for entry in group],
                    width=width,
                    dash=dash,
                    customdata=np.stack(
                        [joined([each[:, column] for each in who]) for column in (0, 1)], axis=1
                    ),
                    hovertemplate=f"trial %{{customdata[0]:04d}}: {measure} %{{customdata[1]:.3f}}<extra></extra>",
                )
            )
    _add_axes(chart, axes, task, low, high)
    return figure(
        f"Parallel coordinates of {task}",
        chart,
        420,
        min_width=110 * (last + 1),
        legend_below=True,
        caption="Lines of stopped trials end at the score they had when they were stopped, which is not comparable "
        "with that of trials that were trained to the end. Below an axis: the setting does not apply.",
    )


class _Axis:
    """One setting: values to places from 0 to 1, and the labels beside it."""

    def __init__(self, dimension: Dimension, entries: Sequence[Entry]) -> None:
        self.path, self._domain = dimension.path, dimension.domain
        self._random = np.random.default_rng(0)
        if isinstance(self._domain, Choice):
            had = {entry.trial.proposed.values.get(self.path) for entry in entries}
            self._values = [value for value in self._domain.values if value in had]
            count = max(len(self._values) - 1, 1)
            every = ceil(len(self._values) / MOST_TICKS)
            self.ticks = [
                (i / count, _label(value)) for i, value in enumerate(self._values) if i % every == 0
            ]
        else:
            bounds = (self._domain.low, self._domain.high)
            self.ticks = [(0.0, _label(bounds[0])), (1.0, _label(bounds[1]))]

    def place(self, entry: Entry) -> float:
        value = entry.trial.proposed.values.get(self.path)
        if value is None:
            return NOT_APPLICABLE
        if isinstance(self._domain, Choice):
            # A little apart, so that lines through the same value can be told from each other.
            jitter = float(self._random.uniform(-0.015, 0.015))
            return self._values.index(value) / max(len(self._values) - 1, 1) + jitter
        low, high, at = float(self._domain.low), float(self._domain.high), float(value)
        if self._domain.log:
            low, high, at = log10(low), log10(high), log10(at)
        return (at - low) / ((high - low) or 1.0)


def _curves(
    name: str, colour: str, dash: str, trials: Sequence[Trial], step: int, sign: float
) -> go.Scatter:
    kept = [_thinned(trial, step) for trial in trials]
    numbers = [
        np.full(len(epochs), _number(trial))
        for trial, (epochs, _) in zip(trials, kept, strict=True)
    ]
    return lines(
        name,
        colour,
        [epochs for epochs, _ in kept],
        [sign * scores for _, scores in kept],
        width=2.4 if colour == ACCENT else 1.1,
        dash=dash,
        customdata=joined(numbers),
        hovertemplate="trial %{customdata:04d}<br>epoch %{x}: %{y:.3f}<extra></extra>",
    )


def _thinned(trial: Trial, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every step-th epoch, and the last one."""
    places = sorted({*range(0, len(trial.epochs), step), len(trial.epochs) - 1})
    kept = [trial.epochs[place] for place in places]
    return np.array([float(epoch.epoch) for epoch in kept]), np.array(
        [epoch.score for epoch in kept]
    )


def _add_ends(chart: go.Figure, trials: Sequence[Trial], sign: float) -> None:
    """A mark where early stopping ended a trial."""
    ends = [trial.epochs[-1] for trial in trials if _group(trial) == "stopped early"]
    if ends:
        chart.add_trace(
            go.Scatter(
                x=np.array([end.epoch for end in ends], dtype=np.float32),
                y=np.array([sign * end.score for end in ends], dtype=np.float32),
                mode="markers",
                marker={"symbol": "x-thin", "size": 6, "line": {"color": MUTED, "width": 1.5}},
                hoverinfo="skip",
                showlegend=False,
            )
        )


def _add_axes(chart: go.Figure, axes: Sequence[_Axis], task: Task, low: float, high: float) -> None:
    score = [(0.0, f"{low:.3f}"), (1.0, f"{high:.3f}")]
    # In one go: plotly copies all of them for every one that is added.
    labels = [
        {
            "x": place,
            "y": at,
            "text": plain(label),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 3,
            "font": {"size": 11},
            "bgcolor": "var(--panel)",
            "opacity": 0.85,
        }
        for place, ticks in enumerate([*[axis.ticks for axis in axes], score])
        for at, label in ticks
    ]
    names = [*[axis.path for axis in axes], "CCC" if task.target else "minus RE"]
    chart.update_layout(
        annotations=labels,
        shapes=[vertical(place, 0.5, "solid") for place in range(len(names))],
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [
                plain(name.split(".", 1)[-1] if name.startswith(("network.", "fit.")) else name)
                for name in names
            ],
            "range": [-0.15, len(names) - 0.35],
            "showgrid": False,
            "zeroline": False,
            "side": "top",
        },
        yaxis={"visible": False, "range": [-0.18, 1.08]},
        margin={"t": 40, "l": 20, "r": 10, "b": 50},
        hovermode="closest",
    )
    chart.update_xaxes(linecolor=LINE)


def _group(trial: Trial) -> str:
    if trial.ended is None:
        return "running"
    return {"asha": "stopped early", "budget": "cut by the time budget", "error": "failed"}.get(
        trial.ended.reason, "trained to the end"
    )


def _number(trial: Trial) -> float:
    return float(trial.name) if trial.name.isdigit() else float("nan")


def _label(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace(",", " + ")
