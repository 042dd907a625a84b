"""The chart of the winner's CCCs with their intervals, devel and out of fold side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pipeline.metrics.bootstrap import Score
from pipeline.stages.fusion import FUSION
from tuning.report.charts.plotly_style import ACCENT, COOL, Figure, escaped, styled_figure
from tuning.report.results import WinnerScores, prediction_label

OFFSET = 0.11
"""How far above or below the middle of its row a mark stands."""


def score_intervals(target: str, scores: WinnerScores) -> Figure:
    """Draw the CCC of every prediction of a target with its interval, a row per prediction."""
    names = list(dict.fromkeys([*scores.devel, *scores.out_of_fold]))

    chart = go.Figure()
    if scores.out_of_fold:
        chart.add_trace(_marks("devel", scores.devel, names, -OFFSET, ACCENT, "circle"))
        chart.add_trace(_marks("out of fold", scores.out_of_fold, names, OFFSET, COOL, "diamond"))
    else:
        chart.add_trace(_marks("devel", scores.devel, names, 0.0, ACCENT, "circle"))

    labels = [escaped(prediction_label(name)) for name in names]
    chart.update_layout(
        xaxis={"title": {"text": f"CCC of {escaped(target)}"}},
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [f"<b>{label}</b>" if label == FUSION else label for label in labels],
            "range": [len(names) - 0.5, -0.5],
            "zeroline": False,
        },
        margin={"t": 40, "r": 10, "b": 45, "l": 20},
    )
    label = f"CCC of every prediction of {target} with its interval"
    return styled_figure(label, chart, 110 + 34 * len(names))


def _marks(
    quantity: str,
    scores: Mapping[str, Score],
    names: Sequence[str],
    offset: float,
    colour: str,
    symbol: str,
) -> go.Scatter:
    """Draw one quantity: a mark per prediction whose CCC is defined."""
    defined = {name: score for name, score in scores.items() if np.isfinite(score.ccc)}
    cccs = np.array([score.ccc for score in defined.values()])
    highs = np.array([score.high for score in defined.values()])
    lows = np.array([score.low for score in defined.values()])

    return go.Scatter(
        x=cccs,
        y=[names.index(name) + offset for name in defined],
        name=quantity,
        mode="markers",
        marker={"color": colour, "size": 9, "symbol": symbol},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": np.nan_to_num(highs - cccs),
            "arrayminus": np.nan_to_num(cccs - lows),
            "color": colour,
        },
        text=[escaped(f"{name}, {quantity} CCC: {score}") for name, score in defined.items()],
        hovertemplate="%{text}<extra></extra>",
    )
