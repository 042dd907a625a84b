"""Charts of devel sessions: labels, predictions and the difficulty of each modality over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from pipeline.corpus import Session
from pipeline.evaluation.evaluate import Evaluation
from pipeline.model.fused_model import Difficulty, Prediction
from tuning.report.charts.plotly_style import ACCENT, INK, MUTED, Figure, escaped, styled_figure

MAX_FRAMES = 600
"""Drawn of a session; of a longer one, frames are left out evenly."""
TARGET_HEIGHT = 190.0
"""Pixels for the curves of one target."""
STRIP_BAR_HEIGHT = 90
"""Pixels of the colour bar beside the strips."""
SHADES = [[0.0, "#fde68a"], [0.5, "#f97316"], [1.0, "#7f1d1d"]]
"""From easy to difficult."""


def session_traces(evaluation: Evaluation) -> list[tuple[str, Figure]]:
    """Draw the sessions with the highest, the median and the lowest session CCC.

    Sessions are ranked by the mean of their CCCs over targets; with fewer than three, all are
    drawn.

    Returns:
        (heading, chart) of each.
    """
    rows = _ranked_sessions(evaluation)
    if len(rows) < 3:
        return [(_heading(evaluation, row), _session_figure(evaluation, row)) for row in rows]

    chosen = {"highest": rows[0], "median": rows[len(rows) // 2], "lowest": rows[-1]}
    return [
        (f"{_heading(evaluation, row)} ({rank})", _session_figure(evaluation, row))
        for rank, row in chosen.items()
    ]


def _ranked_sessions(evaluation: Evaluation) -> list[int]:
    """Return rows of sessions by the mean of their CCCs; all rows where no CCC is defined."""
    means: list[tuple[float, int]] = []
    for row, session in enumerate(evaluation.sessions):
        cccs = [
            result.session_ccc.get(session.session_id, np.nan)
            for result in evaluation.targets.values()
        ]
        if np.isfinite(cccs).any():
            means.append((float(np.nanmean(cccs)), row))

    if not means:
        return list(range(len(evaluation.sessions)))
    return [row for _, row in sorted(means, reverse=True)]


def _heading(evaluation: Evaluation, row: int) -> str:
    session_id = evaluation.sessions[row].session_id
    scores = []
    for target, result in evaluation.targets.items():
        ccc = result.session_ccc.get(session_id, np.nan)
        scores.append(f"{target} {ccc:.2f}" if np.isfinite(ccc) else f"{target} undefined")
    return f"{session_id}: session CCC {', '.join(scores)}"


def _session_figure(evaluation: Evaluation, row: int) -> Figure:
    session, prediction = evaluation.sessions[row], evaluation.predictions[row]
    targets = list(evaluation.targets)
    step = max(1, ceil(len(session.timestamps_ms) / MAX_FRAMES))
    seconds = _thinned((session.timestamps_ms - session.timestamps_ms[0]) / 1000, step)
    strip_row = len(targets) + 1
    strip_height = max(24.0 * len(prediction.difficulty) + 8, STRIP_BAR_HEIGHT)

    chart = make_subplots(
        rows=strip_row,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.05,
        row_heights=[*[TARGET_HEIGHT] * len(targets), strip_height],
    )

    for number, target in enumerate(targets, start=1):
        _add_curves(chart, number, target, session, prediction, seconds, step)
    if prediction.difficulty:
        strips = _difficulty_strips(prediction.difficulty, seconds, step)
        chart.add_trace(strips, row=strip_row, col=1)
        # A set may be called "007", which is no number.
        chart.update_yaxes(type="category", row=strip_row, col=1)

    chart.update_xaxes(title={"text": "seconds"}, row=strip_row, col=1)
    chart.update_layout(margin={"t": 40, "r": 10, "b": 45, "l": 20}, hovermode="x unified")

    thinned = f" Every {step}th frame is drawn." if step > 1 else ""
    return styled_figure(
        f"Annotated and predicted {', '.join(targets)} of session {session.session_id}, "
        "and each modality's difficulty",
        chart,
        round(TARGET_HEIGHT * len(targets) + strip_height + 110),
        caption="Strips: the difficulty of each modality's frames, as a percentile among training "
        f"frames, from pale (easy) to dark (difficult); a gap: missing.{thinned}",
    )


def _add_curves(
    chart: Any,
    row: int,
    target: str,
    session: Session,
    prediction: Prediction,
    seconds: NDArray[np.float32],
    step: int,
) -> None:
    """Add a target's label, its prediction and those of single modalities to a row of a chart."""
    curves: list[tuple[str, NDArray[np.float64], str, float]] = [
        ("one modality", values, MUTED, 0.8) for values in prediction.unimodal[target].values()
    ]
    curves += [
        ("annotated", session.labels[target], INK, 1.8),
        ("predicted", prediction.values[target], ACCENT, 2.0),
    ]

    names_in_legend: set[str] = set()
    for name, values, colour, width in curves:
        curve = go.Scatter(
            x=seconds,
            y=_thinned(values, step),
            name=name,
            mode="lines",
            line={"color": colour, "width": width},
            legendgroup=name,
            showlegend=row == 1 and name not in names_in_legend,
            hovertemplate=f"{name} %{{y:.2f}}<extra></extra>",
        )
        chart.add_trace(curve, row=row, col=1)
        names_in_legend.add(name)

    chart.update_yaxes(title={"text": escaped(target)}, zeroline=False, row=row, col=1)


def _difficulty_strips(
    difficulty: Mapping[str, Difficulty], seconds: NDArray[np.float32], step: int
) -> go.Heatmap:
    """Draw the difficulty of each modality as a strip of colours."""
    modalities: Sequence[str] = list(difficulty)
    percentiles = [_thinned(difficulty[modality].percentile, step) for modality in modalities]

    return go.Heatmap(
        x=seconds,
        y=[escaped(modality) for modality in modalities],
        z=np.stack(percentiles),
        zmin=0,
        zmax=100,
        colorscale=SHADES,
        colorbar={
            "title": {"text": "difficulty<br>(percentile)", "side": "right"},
            "thickness": 10,
            "len": STRIP_BAR_HEIGHT,
            "lenmode": "pixels",
            "y": 0,
            "yanchor": "bottom",
            "tickvals": [0, 50, 100],
        },
        hovertemplate="%{y}: percentile %{z:.0f}<extra></extra>",
    )


def _thinned(values: NDArray[np.floating[Any]], step: int) -> NDArray[np.float32]:
    return np.asarray(values[::step], dtype=np.float32)
