"""What all charts have in common: colours, layout, lines.

A colour written var(--name) is one of the page's: it differs between light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

INK = "var(--ink)"
MUTED = "var(--muted)"
ACCENT = "var(--accent)"
COOL = "var(--cool)"
BAD = "var(--bad)"
LINE = "var(--line)"
PANEL = "var(--panel)"

GAP = np.array([np.nan], dtype=np.float32)
"""What separates lines within one series."""


@dataclass(frozen=True)
class Figure:
    """A chart of the page.

    Attributes:
        label: what it shows, for a reader who cannot see it.
        data: plotly's JSON.
        height: in pixels.
        min_width: in pixels; on a narrower screen the chart scrolls sideways.
        caption: the text under it.
    """

    label: str
    data: str
    height: int
    min_width: int = 0
    caption: str = ""


def styled_figure(
    label: str,
    chart: Any,
    height: int,
    *,
    min_width: int = 0,
    caption: str = "",
    is_legend_below: bool = False,
) -> Figure:
    """Give a chart the page's colours and fonts.

    Args:
        label: as in Figure; likewise height, min_width and caption.
        chart: a plotly.graph_objects.Figure; it is changed.
        is_legend_below: whether the legend stands under the chart instead of above it.
    """
    legend: dict[str, Any] = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    if is_legend_below:
        legend |= {"y": -0.02, "yanchor": "top"}

    chart.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"},
        hoverlabel={"bgcolor": PANEL, "font": {"color": INK}, "bordercolor": LINE},
        height=height,
        legend=legend,
        showlegend=True,
    )
    axis = {"gridcolor": LINE, "zerolinecolor": LINE, "linecolor": LINE, "automargin": True}
    chart.update_xaxes(**axis)
    chart.update_yaxes(**axis)

    return Figure(label, chart.to_json(), height, min_width, caption)


def escaped(text: str) -> str:
    """Return a text that plotly shows as it is: plotly itself reads a little HTML."""
    return html.escape(text, quote=False)


def joined_lines(lines: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float32]:
    """Join lines to one series with gaps between them: so a thousand lines are drawn as one."""
    parts = []
    for line in lines:
        parts += [line.astype(np.float32), GAP]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def line_trace(
    name: str,
    colour: str,
    xs: Sequence[NDArray[np.floating[Any]]],
    ys: Sequence[NDArray[np.floating[Any]]],
    *,
    width: float = 1.2,
    dash: str = "solid",
    **properties: Any,
) -> Any:
    """Draw several lines of one kind as one plotly trace.

    Args:
        name: for the legend.
        colour: of all lines.
        xs: for each line its x values; `ys` likewise.
        width: of the lines, in pixels.
        dash: "solid", "dot" or "dash".
        properties: further ones of go.Scatter.
    """
    return go.Scatter(
        x=joined_lines(xs),
        y=joined_lines(ys),
        name=escaped(name),
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        **properties,
    )


def vertical_line(x: float, opacity: float, dash: str) -> dict[str, Any]:
    """Return a line from top to bottom, as a plotly shape."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": INK, "width": 1, "dash": dash},
        "opacity": opacity,
    }


def trial_number(name: str) -> float:
    """Return the number in a trial's name; NaN where there is none."""
    return float(name) if name.isdigit() else float("nan")
