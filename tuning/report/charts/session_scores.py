"""The chart of the winner's CCC on every session of devel, one chart for each target."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from pipeline.evaluation.evaluate import Evaluation
from pipeline.stages.fusion import FUSION
from tuning.report.charts.plotly_style import (
    ACCENT,
    COOL,
    Figure,
    escaped,
    styled_figure,
    vertical_line,
)

MAX_NAMES = 45
"""So many sessions are named at the axis; of more, the pointer tells the name."""


def session_scores(evaluation: Evaluation, target: str) -> Figure | None:
    """Draw the CCC of every session, the highest on top, and a line at the pooled CCC.

    Returns:
        None where the CCC of no session is defined.
    """
    result = evaluation.targets[target]
    subjects = {session.session_id: session.subject for session in evaluation.sessions}
    defined = {name: ccc for name, ccc in result.session_ccc.items() if np.isfinite(ccc)}
    ranked = sorted(defined, key=lambda name: (-defined[name], name))
    if not ranked:
        return None

    has_names = len(ranked) <= MAX_NAMES
    pooled = result.scores[FUSION].ccc
    chart = go.Figure(
        go.Scatter(
            x=np.array([defined[name] for name in ranked], dtype=np.float32),
            y=np.arange(len(ranked), dtype=np.float32),
            name="CCC of a session",
            mode="markers",
            marker={"color": COOL, "size": 9 if has_names else 5},
            text=[escaped(f"{name}, subject {subjects[name]}") for name in ranked],
            hovertemplate="%{text}: CCC %{x:.3f}<extra></extra>",
        )
    )
    names = [escaped(name) for name in ranked]
    chart.update_layout(
        xaxis={"title": {"text": f"CCC of {escaped(target)} on one session"}, "zeroline": True},
        yaxis={
            "tickvals": list(range(len(ranked))) if has_names else [],
            "ticktext": names if has_names else [],
            "title": {"text": "" if has_names else "sessions, highest first"},
            "range": [len(ranked) - 0.5, -0.5],
            "zeroline": False,
        },
        margin={"t": 40, "r": 10, "b": 45, "l": 20},
    )
    if np.isfinite(pooled):
        chart.update_layout(
            shapes=[
                vertical_line(pooled, 1.0, "dash")
                | {"line": {"color": ACCENT, "width": 2, "dash": "dash"}}
            ]
        )

    undefined = len(result.session_ccc) - len(ranked)
    left_out = f" {undefined} without a defined CCC left out: their label is constant."
    return styled_figure(
        f"CCC of {target} by session",
        chart,
        110 + (20 * len(ranked) if has_names else 320),
        caption=f"The dashed line is the CCC pooled over all frames, {pooled:.3f}: a session's own "
        f"CCC also asks for its own mean and range.{left_out if undefined else ''}",
    )
