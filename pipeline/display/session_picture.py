"""The picture of one session: its targets, and below them the difficulty of its modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from pipeline.display.picture import Picture, names_as_they_are
from pipeline.display.traces import (
    FUSED_COLOUR,
    MUTED,
    STRIP_HEIGHT,
    TRACES_HEIGHT,
    WEIGHTS_HEIGHT,
    Series,
    draw_strip,
    draw_traces,
    draw_weights,
)

WIDTH, ROW_HEIGHT, MARGIN = 8.0, 0.62, 0.9
"""In inches."""
COLOUR_BAR_ROWS = 2.5
"""The colour bar is at least as high as so many strips."""


@dataclass(frozen=True)
class SessionTraces:
    """What is drawn of one target.

    Attributes:
        fused: the prediction, shape (frames,); so are all other series.
        unimodal: modality -> its own prediction.
        label: the annotated values; None where they are not known.
        band: its lower and its upper end; None without one.
        weights: modality -> how much it is trusted; None without a gate.
    """

    fused: Series
    unimodal: Mapping[str, Series]
    label: Series | None = None
    band: tuple[Series, Series] | None = None
    weights: Mapping[str, Series] | None = None


def draw_session(
    timestamps_ms: NDArray[np.int64] | NDArray[np.float64],
    targets: Mapping[str, SessionTraces],
    difficulty: Mapping[str, Series],
) -> Picture:
    """Draw one session.

    Args:
        timestamps_ms: of its frames, shape (frames,).
        targets: target -> what is drawn of it.
        difficulty: modality -> the percentile of its difficulty, NaN where it is missing.
    """
    seconds: Series = (timestamps_ms - timestamps_ms[0]) / 1000
    heights = []
    for traces in targets.values():
        heights += [TRACES_HEIGHT] + ([WEIGHTS_HEIGHT] if traces.weights is not None else [])
    num_target_rows = len(heights)
    heights += [STRIP_HEIGHT] * len(difficulty)

    with names_as_they_are():
        figure = Picture(figsize=(WIDTH, ROW_HEIGHT * sum(heights) + MARGIN), layout="constrained")
        rows = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[
            :, 0
        ]
        _draw_targets(rows[:num_target_rows], seconds, targets, tuple(difficulty))
        _draw_difficulty(figure, rows[num_target_rows:], seconds, difficulty)
        rows[-1].set_xlabel("seconds")
    return figure


def _draw_targets(
    rows: NDArray[np.object_],
    seconds: Series,
    targets: Mapping[str, SessionTraces],
    modalities: tuple[str, ...],
) -> None:
    """Draw each target's traces, and below them its weights if it has any."""
    left = iter(rows)
    for target, traces in targets.items():
        axes: Axes = next(left)
        if traces.band is not None:
            low, high = traces.band
            axes.fill_between(
                seconds, low, high, color=FUSED_COLOUR, alpha=0.15, linewidth=0, label="band"
            )
        draw_traces(axes, seconds, traces.fused, traces.unimodal, traces.label)
        axes.plot([], [], color=MUTED, linewidth=0.8, label="one modality")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        axes.set_ylabel(target)

        if traces.weights is not None:
            axes = next(left)
            draw_weights(axes, seconds, traces.weights, modalities, has_legend=True)
            axes.set_ylabel("trusted", fontsize=8)


def _draw_difficulty(
    figure: Figure,
    rows: NDArray[np.object_],
    seconds: Series,
    difficulty: Mapping[str, Series],
) -> None:
    """Draw a strip for each modality, and beside them what the colours mean."""
    image: AxesImage | None = None
    for axes, (modality, percentile) in zip(rows, difficulty.items(), strict=True):
        image = draw_strip(axes, seconds, percentile)
        axes.set_ylabel(modality, rotation=0, ha="right", va="center", fontsize=8)
    if image is not None:
        # Beside the strips, where legends are above it: a colour bar of its own would lie outside.
        place = (1.02, 0.0, 0.015, max(1.35 * len(rows), COLOUR_BAR_ROWS))
        bar = figure.colorbar(image, cax=rows[-1].inset_axes(place), ticks=[0, 50, 100])
        bar.ax.set_in_layout(False)  # there is room beside the legends
        bar.ax.tick_params(labelsize=7)
        bar.set_label("difficulty\n(blue: missing)", fontsize=7)
