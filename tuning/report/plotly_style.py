"""The charts of a report. A colour written var(--name) is the page's: it differs between light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

INK, MUTED, ACCENT, COOL, BAD = (
    "var(--ink)",
    "var(--muted)",
    "var(--accent)",
    "var(--cool)",
    "var(--bad)",
)
LINE = "var(--line)"
GAP = np.array([np.nan], dtype=np.float32)


@dataclass(frozen=True)
class Figure:
    """A chart of the page.

    Attributes:
        label: what it shows, for who cannot see it.
        data: plotly's JSON.
        height: pixels.
        min_width: pixels below which it scrolls sideways.
        caption: text under it.
    """

    label: str
    data: str
    height: int
    min_width: int = 0
    caption: str = ""


def figure(
    label: str,
    chart: Any,
    height: int,
    *,
    min_width: int = 0,
    caption: str = "",
    legend_below: bool = False,
) -> Figure:
    """A plotly figure in the page's own dress.

    Args:
        label: as in Figure, likewise the others.
        chart: a plotly.graph_objects.Figure.
        legend_below: under the chart instead of above it.
    """
    place = {"y": -0.02, "yanchor": "top"} if legend_below else {"y": 1.0, "yanchor": "bottom"}
    chart.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"},
        hoverlabel={"bgcolor": "var(--panel)", "font": {"color": INK}, "bordercolor": LINE},
        height=height,
        legend={"orientation": "h", "x": 0, **place},
        showlegend=True,
    )
    chart.update_xaxes(gridcolor=LINE, zerolinecolor=LINE, linecolor=LINE, automargin=True)
    chart.update_yaxes(gridcolor=LINE, zerolinecolor=LINE, linecolor=LINE, automargin=True)
    return Figure(label, chart.to_json(), height, min_width, caption)


def plain(text: str) -> str:
    """Text that plotly shows as it is: it reads a little HTML."""
    return html.escape(text, quote=False)


def joined(pieces: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float32]:
    """Lines as one series, with gaps between them: a thousand lines are drawn as one."""
    parts = [part for piece in pieces for part in (piece.astype(np.float32), GAP)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def lines(
    name: str,
    colour: str,
    xs: Sequence[NDArray[np.floating[Any]]],
    ys: Sequence[NDArray[np.floating[Any]]],
    **more: Any,
) -> Any:
    """Several lines of one kind as one plotly trace; `more` are further properties of go.Scatter."""
    style = {"color": colour, "width": more.pop("width", 1.2), "dash": more.pop("dash", "solid")}
    return go.Scatter(
        x=joined(xs), y=joined(ys), name=plain(name), mode="lines", line=style, **more
    )


def vertical(place: float, opacity: float, dash: str) -> dict[str, Any]:
    """A line from top to bottom, as a plotly shape."""
    line = {"color": INK, "width": 1, "dash": dash}
    return {
        "type": "line",
        "x0": place,
        "x1": place,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": line,
        "opacity": opacity,
    }
