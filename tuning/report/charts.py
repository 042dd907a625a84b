"""Charts of the winner: intervals, importance of settings, traces of devel sessions with their difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from pipeline.evaluation.evaluate import Evaluation
from pipeline.metrics.bootstrap import Score
from pipeline.stages.fusion import FUSION
from tuning.report.importance import Importance
from tuning.report.plotly_style import ACCENT, COOL, INK, MUTED, Figure, figure, plain

MOST_FRAMES = 600
"""Of a session's traces; beyond, frames are left out evenly."""
SHADES = [[0.0, "#fde68a"], [0.5, "#f97316"], [1.0, "#7f1d1d"]]


def intervals(target: str, columns: Mapping[str, Mapping[str, Score]]) -> Figure:
    """Every prediction's CCC with its interval.

    Args:
        target: of all of them.
        columns: "devel" and "out of fold" -> prediction -> score.
    """
    chart = go.Figure()
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    for number, (column, scores) in enumerate(columns.items()):
        found = {name: score for name, score in scores.items() if np.isfinite(score.ccc)}
        values = np.array([score.ccc for score in found.values()])
        chart.add_trace(
            go.Scatter(
                x=values,
                # Side by side: the columns share a row, each at its own height.
                y=[names.index(name) + 0.22 * (number - (len(columns) - 1) / 2) for name in found],
                name=column,
                mode="markers",
                marker={
                    "color": (ACCENT, COOL)[number % 2],
                    "size": 9,
                    "symbol": ("circle", "diamond")[number % 2],
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": np.nan_to_num(
                        np.array([score.high for score in found.values()]) - values
                    ),
                    "arrayminus": np.nan_to_num(
                        values - np.array([score.low for score in found.values()])
                    ),
                    "color": (ACCENT, COOL)[number % 2],
                },
                text=[plain(f"{name}, {column}: {score}") for name, score in found.items()],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    chart.update_layout(
        xaxis={"title": {"text": f"CCC ({plain(target)})"}},
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [f"<b>{FUSION}</b>" if name == FUSION else plain(name) for name in names],
            "range": [len(names) - 0.5, -0.5],
            "zeroline": False,
        },
        margin={"t": 40, "r": 10, "b": 45, "l": 20},
    )
    return figure(
        f"CCC of every prediction of {target} with its interval", chart, 110 + 34 * len(names)
    )


def importances(task: str, found: Importance) -> Figure | None:
    """Bars; None where no share is known."""
    if not found.shares:
        return None
    names, shares = list(found.shares)[::-1], list(found.shares.values())[::-1]
    bars = go.Bar(
        y=[plain(name) for name in names],
        x=np.array(shares),
        orientation="h",
        name=found.basis,
        marker={"color": COOL},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )
    chart = go.Figure(bars)
    chart.update_layout(
        xaxis={"tickformat": ".0%", "rangemode": "tozero"},
        margin={"t": 30, "r": 10, "b": 30, "l": 20},
    )
    return figure(f"Importance of the settings of {task}", chart, 90 + 28 * len(names))


def traces(evaluation: Evaluation) -> list[tuple[str, Figure]]:
    """The sessions with the best, the median and the worst CCC: (heading, chart)."""
    return [(heading, _session(evaluation, row)) for row, heading in _chosen(evaluation)]


def _chosen(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Rows by the mean of their CCCs over targets, and what each stands for."""
    means: list[tuple[float, int]] = []
    for row, session in enumerate(evaluation.sessions):
        known = [
            found.session_ccc.get(session.session_id, np.nan)
            for found in evaluation.targets.values()
        ]
        if np.isfinite(known).any():
            means.append((float(np.nanmean(known)), row))
    ranked = [row for _, row in sorted(means, reverse=True)] or list(
        range(len(evaluation.sessions))
    )
    if len(ranked) < 3:
        return [(row, _heading(evaluation, row, "")) for row in ranked]
    named = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    return [(row, _heading(evaluation, row, name)) for name, row in named.items()]


def _heading(evaluation: Evaluation, row: int, name: str) -> str:
    session = evaluation.sessions[row].session_id
    said = []
    for target, found in evaluation.targets.items():
        ccc = found.session_ccc.get(session, np.nan)
        said.append(f"{target} {ccc:.2f}" if np.isfinite(ccc) else f"{target} undefined")
    return f"{session}{f', the {name}' if name else ''}: CCC {', '.join(said)}"


def _session(evaluation: Evaluation, row: int) -> Figure:
    session, prediction = evaluation.sessions[row], evaluation.predictions[row]
    targets, modalities = list(evaluation.targets), list(prediction.difficulty)
    step = max(1, ceil(len(session.timestamps_ms) / MOST_FRAMES))
    seconds = _thin((session.timestamps_ms - session.timestamps_ms[0]) / 1000, step)
    strip = 24 * len(modalities) + 8
    height = 190 * len(targets) + strip + 110
    chart = make_subplots(
        rows=len(targets) + 1,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.05,
        row_heights=[*[190.0] * len(targets), float(strip)],
    )
    for number, target in enumerate(targets, start=1):
        series: list[tuple[str, NDArray[np.float64], str, float]] = [
            ("one modality", values, MUTED, 0.8) for values in prediction.unimodal[target].values()
        ]
        series += [
            ("annotated", session.labels[target], INK, 1.8),
            ("predicted", prediction.values[target], ACCENT, 2.0),
        ]
        shown: set[str] = set()
        for name, values, colour, width in series:
            chart.add_trace(
                go.Scatter(
                    x=seconds,
                    y=_thin(values, step),
                    name=name,
                    mode="lines",
                    line={"color": colour, "width": width},
                    legendgroup=name,
                    showlegend=number == 1 and name not in shown,
                    hovertemplate=f"{name} %{{y:.2f}}<extra></extra>",
                ),
                row=number,
                col=1,
            )
            shown.add(name)
        chart.update_yaxes(title={"text": plain(target)}, zeroline=False, row=number, col=1)
    if modalities:
        strips = [
            _thin(prediction.difficulty[modality].percentile, step) for modality in modalities
        ]
        chart.add_trace(_difficulty(modalities, seconds, strips), row=len(targets) + 1, col=1)
    chart.update_xaxes(title={"text": "seconds"}, row=len(targets) + 1, col=1)
    chart.update_layout(margin={"t": 40, "r": 10, "b": 45, "l": 20}, hovermode="x unified")
    thinned = f" Every {step}th frame is drawn." if step > 1 else ""
    return figure(
        f"Annotated and predicted {', '.join(targets)} of session {session.session_id}, and each modality's difficulty",
        chart,
        height,
        caption="Strips: how hard each modality's frames were, as a percentile of those in training, from pale (easy) "
        f"to dark (hard); a gap: missing.{thinned}",
    )


def _difficulty(
    modalities: Sequence[str],
    seconds: NDArray[np.float32],
    percentiles: Sequence[NDArray[np.float32]],
) -> go.Heatmap:
    return go.Heatmap(
        x=seconds,
        y=[plain(modality) for modality in modalities],
        z=np.stack(percentiles),
        zmin=0,
        zmax=100,
        colorscale=SHADES,
        showscale=False,
        hovertemplate="%{y}: percentile %{z:.0f}<extra></extra>",
    )


def _thin(values: NDArray[np.floating[Any]], step: int) -> NDArray[np.float32]:
    return np.asarray(values[::step], dtype=np.float32)
