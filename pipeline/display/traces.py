"""What is drawn of one session over time: traces of a target, weights and difficulty of modalities.

Each function fills axes whose horizontal axis is the time in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from pipeline.display.picture import legend_label

Series = NDArray[np.float64]
"""Shape (frames,)."""

TRUTH_COLOUR, FUSED_COLOUR, MUTED = "#222222", "#c2410c", "#94a3b8"
MISSING_COLOUR = "#dbeafe"
TRACES_HEIGHT, WEIGHTS_HEIGHT, STRIP_HEIGHT = 3.0, 1.1, 0.45
"""How high the traces and weights of a target and the difficulty of a modality are, relatively."""


def draw_traces(
    axes: Axes,
    seconds: Series,
    fused: Series,
    unimodal: Mapping[str, Series],
    label: Series | None = None,
) -> None:
    """Draw the fused prediction of a target, each modality's own, and the label if it is known."""
    for prediction in unimodal.values():
        axes.plot(seconds, prediction, color=MUTED, linewidth=0.8, alpha=0.7)
    if label is not None:
        axes.plot(seconds, label, color=TRUTH_COLOUR, linewidth=1.8, label="annotated")
    axes.plot(seconds, fused, color=FUSED_COLOUR, linewidth=1.8, label="predicted")
    axes.grid(alpha=0.2)


def draw_weights(
    axes: Axes,
    seconds: Series,
    weights: Mapping[str, Series],
    modalities: Sequence[str],
    *,
    has_legend: bool,
) -> None:
    """Draw how much each modality is trusted, stacked up to 1.

    Args:
        axes: where.
        seconds: time since the first frame.
        weights: modality -> its weight.
        modalities: all of the model: a modality has the colour of its place among them.
        has_legend: whether to name the modalities, at the right of the axes.
    """
    axes.stackplot(
        seconds,
        *weights.values(),
        labels=[legend_label(modality) for modality in weights],
        colors=[f"C{modalities.index(modality) % 10}" for modality in weights],
        alpha=0.55,
        linewidth=0,
    )
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"], fontsize=7)
    if has_legend:
        # From top to bottom, as they are stacked.
        axes.legend(
            fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, reverse=True
        )


def draw_strip(axes: Axes, seconds: Series, percentile: Series) -> AxesImage:
    """Draw the difficulty of one modality as a strip of colours over time."""
    mean_period_s = (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1) or 1.0
    image = axes.imshow(
        percentile[None, :],
        aspect="auto",
        cmap="YlOrRd",
        vmin=0,
        vmax=100,
        extent=(0, seconds[-1] + mean_period_s, 0, 1),
        interpolation="nearest",
    )

    axes.set_facecolor(MISSING_COLOUR)
    axes.set_yticks([])
    return image
