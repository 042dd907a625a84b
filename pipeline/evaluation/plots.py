"""Evaluation as pictures: traces with difficulty, difficulty against error, CCC by modality."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.errors import AffectuneError
from pipeline.evaluation.evaluate import Evaluation
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT

TRUTH_COLOUR, FUSED_COLOUR, MUTED = "#222222", "#c2410c", "#94a3b8"
TRACED = 3  # sessions drawn


def plots(evaluation: Evaluation) -> dict[str, bytes]:
    """The three pictures as PNG files by name: traces.png, difficulty.png, ccc.png."""
    figures = {
        "traces": _traces(evaluation),
        "difficulty": _difficulty(evaluation),
        "ccc": _ccc(evaluation),
    }
    return {f"{name}.png": _png(figure) for name, figure in figures.items()}


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the pictures into a folder.

    Raises:
        AffectuneError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in plots(evaluation).items():
            (folder / f".{name}.tmp").write_bytes(data)
            os.replace(folder / f".{name}.tmp", folder / name)
    except OSError as error:
        raise AffectuneError(
            f"Cannot write the plots to '{folder}': {error.strerror}. Choose another --plots."
        ) from error
    return sorted(folder / name for name in ("traces.png", "difficulty.png", "ccc.png"))


def _traces(evaluation: Evaluation) -> Figure:
    """The sessions with the best, the median and the worst CCC; each modality's difficulty under its traces."""
    chosen = _chosen_sessions(evaluation)
    targets = list(evaluation.targets)
    modalities = list(evaluation.predictions[0].difficulty)
    heights = [*[3.0] * len(targets), *[0.45] * len(modalities)]
    figure = Figure(
        figsize=(4.6 * len(chosen) + 0.6, 0.62 * sum(heights) + 0.9), layout="constrained"
    )
    grid = figure.subplots(
        len(heights), len(chosen), squeeze=False, sharex="col", height_ratios=heights
    )
    image = None
    for column, (row, title) in enumerate(chosen):
        session, prediction = evaluation.sessions[row], evaluation.predictions[row]
        seconds = (session.timestamps_ms - session.timestamps_ms[0]) / 1000
        for line, target in enumerate(targets):
            axes = grid[line, column]
            for series in prediction.unimodal[target].values():
                axes.plot(seconds, series, color=MUTED, linewidth=0.8, alpha=0.7)
            axes.plot(
                seconds,
                session.labels[target],
                color=TRUTH_COLOUR,
                linewidth=1.8,
                label="annotated",
            )
            axes.plot(
                seconds,
                prediction.values[target],
                color=FUSED_COLOUR,
                linewidth=1.8,
                label="predicted",
            )
            axes.set_ylabel(target if column == 0 else "")
            found = evaluation.targets[target].session_ccc.get(session.session_id, np.nan)
            name = f"{session.session_id}{title}\n" if line == 0 else ""
            axes.set_title(
                f"{name}CCC {'undefined' if np.isnan(found) else format(found, '.2f')}", fontsize=9
            )
            axes.grid(alpha=0.2)
        for line, modality in enumerate(modalities, start=len(targets)):
            axes = grid[line, column]
            strip = prediction.difficulty[modality].percentile[None, :]
            edge = seconds[-1] + (seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
            image = axes.imshow(
                strip,
                aspect="auto",
                cmap="YlOrRd",
                vmin=0,
                vmax=100,
                extent=(0, edge, 0, 1),
                interpolation="nearest",
            )
            axes.set_facecolor("#dbeafe")  # a missing frame
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(modality, rotation=0, ha="right", va="center", fontsize=8)
        grid[-1, column].set_xlabel("seconds")
    grid[0, 0].plot([], [], color=MUTED, linewidth=0.8, label="one modality")
    grid[0, 0].legend(fontsize=7, loc="best", framealpha=0.7)
    if image is not None:
        figure.colorbar(
            image,
            ax=grid[len(targets) :, :],
            label="difficulty\npercentile\n(blue: missing)",
            shrink=0.9,
            aspect=8,
        )
    return figure


def _chosen_sessions(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Rows of the sessions to draw, and why each was chosen: by the mean of their CCCs over targets."""
    means = []
    for row, session in enumerate(evaluation.sessions):
        values = [
            found.session_ccc.get(session.session_id, np.nan)
            for found in evaluation.targets.values()
        ]
        if np.isfinite(values).any():
            means.append((float(np.nanmean(values)), row))
    if len(means) < TRACED:
        return [(row, "") for row in range(min(TRACED, len(evaluation.sessions)))]
    ranked = [row for _, row in sorted(means, reverse=True)]
    return [
        (ranked[0], " (best)"),
        (ranked[len(ranked) // 2], " (median)"),
        (ranked[-1], " (worst)"),
    ]


def _difficulty(evaluation: Evaluation) -> Figure:
    """Mean absolute error of each modality's own prediction by percentile of its difficulty."""
    targets = list(evaluation.targets)
    modalities = list(evaluation.predictions[0].difficulty)
    figure = Figure(figsize=(4.2 * len(targets) + 1.2, 3.4), layout="constrained")
    for axes, target in zip(
        figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True
    ):
        for number, modality in enumerate(modalities):  # one colour in every picture
            if modality not in evaluation.predictions[0].unimodal[target]:
                continue
            hard = np.concatenate(
                [
                    prediction.difficulty[modality].percentile
                    for prediction in evaluation.predictions
                ]
            )
            error = np.concatenate(
                [
                    np.abs(prediction.unimodal[target][modality] - session.labels[target])
                    for session, prediction in zip(
                        evaluation.sessions, evaluation.predictions, strict=True
                    )
                ]
            )
            use = np.isfinite(hard) & np.isfinite(error)
            bins = np.minimum((hard[use] // 10).astype(int), 9)
            means = [
                error[use][bins == place].mean() if np.any(bins == place) else np.nan
                for place in range(10)
            ]
            rho = evaluation.targets[target].difficulty_spearman[modality]
            label = f"{modality} (rank corr. {rho:+.2f})"
            axes.plot(
                np.arange(5, 100, 10),
                means,
                marker="o",
                markersize=3,
                color=f"C{number % 10}",
                label=label,
            )
        axes.set_title(target, fontsize=10)
        axes.set_xlabel("difficulty of the frame (percentile of reconstruction error)")
        axes.set_ylabel("mean absolute error")
        axes.grid(alpha=0.2)
        axes.legend(fontsize=7)
    return figure


def _ccc(evaluation: Evaluation) -> Figure:
    """Fusion, floors and modalities with their intervals."""
    targets = list(evaluation.targets)
    names = list(
        dict.fromkeys(name for found in evaluation.targets.values() for name in found.scores)
    )
    figure = Figure(
        figsize=(4.0 * len(targets) + 1.6, 0.34 * len(names) + 1.2), layout="constrained"
    )
    row_of_axes = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
    for axes, target in zip(row_of_axes, targets, strict=True):
        scores = evaluation.targets[target].scores
        for place, name in enumerate(reversed(names)):
            if name not in scores:  # this target's fusion does not read it
                continue
            score = scores[name]
            colour = (
                FUSED_COLOUR
                if name == FUSION
                else "#475569"
                if name in {WITHOUT, *FLOORS.values()}
                else MUTED
            )
            axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
            axes.plot(score.ccc, place, "o", color=colour, markersize=5)
        axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
        axes.set_title(f"{target} ({evaluation.partition})", fontsize=10)
        axes.set_xlabel("CCC, 95% interval over subjects")
        axes.grid(alpha=0.2, axis="x")
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": ""})
    return stream.getvalue()
