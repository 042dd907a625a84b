"""An evaluation as plots: traces with difficulty, error by difficulty, CCC by prediction.

Knows no model: an evaluation holds all that is drawn.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.display.picture import Picture, legend_label, names_as_they_are
from pipeline.display.traces import (
    FUSED_COLOUR,
    MUTED,
    STRIP_HEIGHT,
    TRACES_HEIGHT,
    WEIGHTS_HEIGHT,
    draw_strip,
    draw_traces,
    draw_weights,
)
from pipeline.evaluation.evaluate import Evaluation, interval_note
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import Prediction
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import LABEL_FLOORS

PlotKind = Literal["traces", "difficulty", "ccc"]
PLOT_KINDS: tuple[PlotKind, ...] = get_args(PlotKind)
"""The plots, in the order they are drawn; each is a file, see `plot_files`."""
MAX_SUFFIX_BYTES = 100
"""Of the corruptions in the name of a picture, or of a folder of pictures."""

REFERENCE_COLOUR = "#475569"
TRACED_SESSIONS = 3
ONE_PERSON = "of one person: no interval"
CHARACTERS_PER_INCH = 11
"""Of a title."""
NUM_BINS = 10
"""Into how many equal ranges difficulty's percentiles are divided."""


def draw_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Draw an evaluation: file name -> PNG, the files of `plot_files`.

    Where sessions were corrupted first, every picture says so.
    """
    pictures = (draw_plot(evaluation, kind).to_png() for kind in PLOT_KINDS)
    return dict(zip(plot_files(evaluation.corruptions), pictures, strict=True))


def plot_files(corruptions: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the pictures: traces.png, or traces-head-noise-1.0.png."""
    return tuple(f"{kind}{corruption_suffix(corruptions)}.png" for kind in PLOT_KINDS)


def corruption_suffix(corruptions: Sequence[str]) -> str:
    """Return corruptions as the end of a file's name, such as "-head-noise-1.0"; "" for none."""
    suffix = "".join(f"-{text.replace('=', '-').replace(':', '-')}" for text in corruptions)
    if len(suffix.encode()) <= MAX_SUFFIX_BYTES:
        return suffix
    # A file's name has an end.
    digest = hashlib.sha256(suffix.encode()).hexdigest()[:8]
    return f"-{len(corruptions)} corruptions {digest}"


def draw_plot(evaluation: Evaluation, kind: PlotKind) -> Picture:
    """Draw one picture of an evaluation; where sessions were corrupted first, it says so.

    Args:
        evaluation: what is drawn.
        kind: "traces" of three sessions with their difficulty, error by "difficulty", or "ccc" of
            every prediction with its interval.
    """
    with names_as_they_are():
        picture = _DRAW[kind](evaluation)
        if evaluation.corruptions:
            picture.suptitle(_corruption_title(evaluation, picture), fontsize=10)
        return picture


def _corruption_title(evaluation: Evaluation, picture: Picture) -> str:
    """Return what was corrupted, on as many lines as the width of a picture asks for."""
    width = max(int(picture.get_figwidth() * CHARACTERS_PER_INCH), 20)
    return textwrap.fill(evaluation.data, width, break_long_words=True)


@dataclass(frozen=True)
class _TracedSession:
    """One session of the traces, and why it was chosen (such as "best"; "" for no reason)."""

    session: Session
    prediction: Prediction
    reason: str

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Time since the first frame, shape (frames,)."""
        timestamps_ms = self.session.timestamps_ms
        seconds: NDArray[np.float64] = (timestamps_ms - timestamps_ms[0]) / 1000
        return seconds

    @property
    def title(self) -> str:
        return self.session.session_id + (f" ({self.reason})" if self.reason else "")


def _draw_traces(evaluation: Evaluation) -> Picture:
    """Draw a column for each traced session: traces by target, then difficulty by modality.

    Below the traces of a target whose fusion has a gate are the weights of its modalities.
    """
    traced = _traced_sessions(evaluation)
    targets = list(evaluation.targets)
    modalities = list(evaluation.predictions[0].difficulty)

    target_heights = {target: _target_heights(evaluation, target) for target in targets}
    heights = [height for rows in target_heights.values() for height in rows]
    num_target_rows = len(heights)
    heights += [STRIP_HEIGHT] * len(modalities)
    size = (4.6 * len(traced) + 0.6, 0.62 * sum(heights) + 0.9)
    figure = Picture(figsize=size, layout="constrained")
    grid = figure.subplots(
        len(heights), len(traced), squeeze=False, sharex="col", height_ratios=heights
    )

    image = None
    for column, one in enumerate(traced):
        is_last = column == len(traced) - 1
        row = 0
        for target in targets:
            session_ccc = evaluation.targets[target].session_ccc
            _draw_target(grid[row, column], one, target, session_ccc, is_first=row == 0)
            grid[row, column].set_ylabel(target if column == 0 else "")
            if len(target_heights[target]) > 1:
                weights = one.prediction.weights[target]
                axes = grid[row + 1, column]
                draw_weights(axes, one.seconds, weights, modalities, has_legend=is_last)
                grid[row + 1, column].set_ylabel("trusted" if column == 0 else "", fontsize=8)
            row += len(target_heights[target])

        for row, modality in enumerate(modalities, start=num_target_rows):
            percentile = one.prediction.difficulty[modality].percentile
            image = draw_strip(grid[row, column], one.seconds, percentile)
            if column == 0:
                grid[row, column].set_ylabel(
                    modality, rotation=0, ha="right", va="center", fontsize=8
                )
        grid[-1, column].set_xlabel("seconds")

    grid[0, 0].plot([], [], color=MUTED, linewidth=0.8, label="one modality")
    grid[0, 0].legend(fontsize=7, loc="best", framealpha=0.7)
    if image is not None:
        label = "difficulty\npercentile\n(blue: missing)"
        figure.colorbar(image, ax=grid[num_target_rows:, :], label=label, shrink=0.9, aspect=8)
    return figure


def _traced_sessions(evaluation: Evaluation) -> list[_TracedSession]:
    """Choose the sessions with the best, the median and the worst CCC, as a mean over targets.

    The first sessions are chosen where too few have a defined CCC.
    """
    means = []
    for row, session in enumerate(evaluation.sessions):
        coefficients = [
            evaluated.session_ccc.get(session.session_id, np.nan)
            for evaluated in evaluation.targets.values()
        ]
        if np.isfinite(coefficients).any():
            means.append((float(np.nanmean(coefficients)), row))

    ranked = [row for _, row in sorted(means, reverse=True)]
    if len(ranked) < TRACED_SESSIONS:
        chosen = [(row, "") for row in range(min(TRACED_SESSIONS, len(evaluation.sessions)))]
    else:
        median = ranked[len(ranked) // 2]
        chosen = [(ranked[0], "best"), (median, "median"), (ranked[-1], "worst")]

    return [
        _TracedSession(evaluation.sessions[row], evaluation.predictions[row], reason)
        for row, reason in chosen
    ]


def _draw_target(
    axes: Axes,
    traced: _TracedSession,
    target: str,
    session_ccc: Mapping[str, float],
    *,
    is_first: bool,
) -> None:
    """Draw the label, the fused and the unimodal predictions; the first row names the session."""
    fused, unimodal = traced.prediction.values[target], traced.prediction.unimodal[target]
    draw_traces(axes, traced.seconds, fused, unimodal, traced.session.labels[target])

    coefficient = session_ccc.get(traced.session.session_id, np.nan)
    name = f"{traced.title}\n" if is_first else ""
    text = "undefined" if np.isnan(coefficient) else format(coefficient, ".2f")
    axes.set_title(f"{name}CCC {text}", fontsize=9)


def _target_heights(evaluation: Evaluation, target: str) -> list[float]:
    """Return the heights of a target's rows: its traces, and its weights if it has any."""
    has_weights = target in evaluation.predictions[0].weights
    return [TRACES_HEIGHT, WEIGHTS_HEIGHT] if has_weights else [TRACES_HEIGHT]


def _draw_error_by_difficulty(evaluation: Evaluation) -> Picture:
    """Draw the mean absolute error of each unimodal prediction by percentile of difficulty."""
    targets = list(evaluation.targets)
    modalities = list(evaluation.predictions[0].difficulty)
    figure = Picture(figsize=(4.2 * len(targets) + 1.2, 3.4), layout="constrained")
    row_of_axes = figure.subplots(1, len(targets), squeeze=False)[0]

    for axes, target in zip(row_of_axes, targets, strict=True):
        correlations = evaluation.targets[target].difficulty_spearman
        for number, modality in enumerate(modalities):
            if modality not in evaluation.predictions[0].unimodal[target]:
                continue
            axes.plot(
                np.arange(5, 100, 10),
                _mean_errors(evaluation, target, modality),
                marker="o",
                markersize=3,
                color=f"C{number % 10}",  # a modality keeps its colour from target to target
                label=_with_correlation(modality, correlations[modality]),
            )

        axes.set_title(target, fontsize=10)
        axes.set_xlabel("difficulty of the frame (percentile of reconstruction error)")
        axes.set_ylabel("mean absolute error")
        axes.grid(alpha=0.2)
        axes.legend(fontsize=7)

    return figure


def _with_correlation(modality: str, correlation: float) -> str:
    """Return a modality for the legend, with its rank correlation where that is defined."""
    text = f"{correlation:+.2f}" if np.isfinite(correlation) else "undefined"
    return f"{legend_label(modality)} (rank corr. {text})"


def _mean_errors(evaluation: Evaluation, target: str, modality: str) -> list[float]:
    """Return the mean absolute error of a unimodal prediction in each bin of percentiles."""
    percentiles, errors = [], []
    for session, prediction in zip(evaluation.sessions, evaluation.predictions, strict=True):
        percentiles.append(prediction.difficulty[modality].percentile)
        errors.append(np.abs(prediction.unimodal[target][modality] - session.labels[target]))

    percentile, error = np.concatenate(percentiles), np.concatenate(errors)
    is_known = np.isfinite(percentile) & np.isfinite(error)
    percentile, error = percentile[is_known], error[is_known]

    bins = np.minimum((percentile // (100 // NUM_BINS)).astype(int), NUM_BINS - 1)
    return [
        float(error[bins == number].mean()) if np.any(bins == number) else np.nan
        for number in range(NUM_BINS)
    ]


def _draw_ccc(evaluation: Evaluation) -> Picture:
    """Draw the score of every prediction with its interval."""
    targets = list(evaluation.targets)
    names = _score_names(evaluation)
    size = (4.0 * len(targets) + 1.6, 0.34 * len(names) + 1.2)
    figure = Picture(figsize=size, layout="constrained")
    row_of_axes = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]

    for axes, target in zip(row_of_axes, targets, strict=True):
        _draw_scores(axes, names, evaluation.targets[target].scores)
        spoilt = ", corrupted" if evaluation.corruptions else ""
        axes.set_title(f"{target} ({evaluation.partition}{spoilt})", fontsize=10)
        has_intervals = not interval_note(evaluation.targets[target])
        axes.set_xlabel(f"CCC, {'95% interval over people' if has_intervals else ONE_PERSON}")
        axes.grid(alpha=0.2, axis="x")

    return figure


def _score_names(evaluation: Evaluation) -> list[str]:
    """Return the predictions that any target has a score of, from bottom to top of a plot."""
    names = dict.fromkeys(
        name for evaluated in evaluation.targets.values() for name in evaluated.scores
    )

    return list(reversed(names))


def _draw_scores(axes: Axes, names: Sequence[str], scores: Mapping[str, Score]) -> None:
    """Draw a row for every name; it is empty where the target has no such prediction."""
    for height, name in enumerate(names):
        if name not in scores:
            continue
        score, colour = scores[name], _score_colour(name)
        axes.plot([score.low, score.high], [height, height], color=colour, linewidth=2)
        axes.plot(score.ccc, height, "o", color=colour, markersize=5)

    axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(names)), names, fontsize=8)


def _score_colour(name: str) -> str:
    if name == FUSION:
        return FUSED_COLOUR
    return (
        REFERENCE_COLOUR
        if name in {WITHOUT_DIFFICULTY, *FLOORS.values(), *LABEL_FLOORS.values()}
        else MUTED
    )


_DRAW: Mapping[PlotKind, Callable[[Evaluation], Picture]] = {
    "traces": _draw_traces,
    "difficulty": _draw_error_by_difficulty,
    "ccc": _draw_ccc,
}
