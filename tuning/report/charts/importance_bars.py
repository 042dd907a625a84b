"""The chart of the importance of a task's settings."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from pipeline.stages.task import Task
from tuning.report.charts.plotly_style import COOL, Figure, escaped, styled_figure
from tuning.report.formats import measure_name
from tuning.report.importance import Importance


def importance_bars(task: Task, importance: Importance) -> Figure | None:
    """Draw a bar per setting, the most important on top; None where no share is known."""
    if not importance.shares:
        return None

    # Plotly draws the first bar at the bottom.
    paths = list(importance.shares)[::-1]
    bars = go.Bar(
        y=[escaped(path) for path in paths],
        x=np.array([importance.shares[path] for path in paths]),
        orientation="h",
        name=f"devel {measure_name(task)} of {importance.basis}",
        marker={"color": COOL},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )
    chart = go.Figure(bars)
    chart.update_layout(
        xaxis={
            "title": {"text": "share of the variance explained"},
            "tickformat": ".0%",
            "rangemode": "tozero",
        },
        margin={"t": 30, "r": 10, "b": 45, "l": 20},
    )
    return styled_figure(f"Importance of the settings of {task}", chart, 105 + 28 * len(paths))
