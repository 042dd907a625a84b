"""A study as pictures for MLflow: its winner's plots, and the learning curves of every search.

They are PNGs, which MLflow shows in place; report.html has the same as charts.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from math import ceil, inf

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.plots import draw_plots
from pipeline.stages.task import Task
from tuning.journal.history import History, Trial
from tuning.planning.asha import rungs
from tuning.report.formats import display_sign, measure_name
from tuning.spec.space import STAGES
from tuning.spec.tasks import study_tasks

FOLDER = "plots"
COLUMNS, MAX_TASKS, MAX_TRIALS = 4, 24, 200
"""Axes beside each other; tasks of one picture; curves of one task: of more, the last ones."""
COMPLETE, STOPPED, HIGHEST = "#2563eb", "#94a3b8", "#c2410c"


def draw_pictures(history: History, evaluation: Evaluation) -> Mapping[str, bytes]:
    """Draw a finished study: name, with a folder in it -> PNG.

    Args:
        history: of the study.
        evaluation: of its winner on devel.
    """
    pictures = {f"{FOLDER}/{name}": png for name, png in draw_plots(evaluation).items()}
    tasks = study_tasks(history.study.modalities or (), history.study.targets or ())
    for stage in STAGES:
        searched = [task for task in tasks if task.stage == stage and _searched(history, task)]
        if searched:
            png = _draw_curves(history, searched[:MAX_TASKS])
            pictures[f"{FOLDER}/learning_curves_{stage}.png"] = png
    return pictures


def _searched(history: History, task: Task) -> Sequence[Trial]:
    """Return the trials of a task's search that have passed an epoch."""
    trials = [trial for trial in history.trials_of(task, "search") if trial.epochs]
    return trials[-MAX_TRIALS:]


def _draw_curves(history: History, tasks: Sequence[Task]) -> bytes:
    """Draw the devel score by epoch of all trials, with axes for every task."""
    num_columns = min(COLUMNS, len(tasks))
    num_rows = ceil(len(tasks) / num_columns)
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=(3.6 * num_columns, 2.6 * num_rows + 0.4), layout="constrained")
        grid = figure.subplots(num_rows, num_columns, squeeze=False)
        for axes, task in zip(grid.flat, tasks, strict=False):
            _draw_task(axes, history, task)
        for axes in grid.flat[len(tasks) :]:
            axes.set_axis_off()
        for axes in grid[-1]:
            axes.set_xlabel("epoch")
        figure.legend(
            handles=[
                grid[0, 0].plot([], [], color=colour, label=label)[0]
                for colour, label in (
                    (HIGHEST, "best trial on devel"),
                    (COMPLETE, "trained to the end"),
                    (STOPPED, "stopped early; dashed lines: rungs"),
                )
            ],
            loc="outside lower center",
            ncols=3,
            fontsize=8,
            frameon=False,
        )
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": ""})
    return stream.getvalue()


def _draw_task(axes: Axes, history: History, task: Task) -> None:
    trials = _searched(history, task)
    complete = [trial for trial in trials if trial.is_complete]
    highest = max(complete, key=_best_devel, default=None)

    for trial in sorted(trials, key=lambda trial: (trial is highest, trial.is_complete)):
        colour = COMPLETE if trial.is_complete else STOPPED
        axes.plot(
            [epoch.epoch for epoch in trial.epochs],
            [display_sign(task) * epoch.score for epoch in trial.epochs],
            color=HIGHEST if trial is highest else colour,
            linewidth=1.8 if trial is highest else 0.8,
            marker="." if len(trial.epochs) == 1 else "",
        )

    table = history.study.table(task.stage)
    last_epoch = max(trial.epochs[-1].epoch for trial in trials)
    for epoch in rungs(table.grace_epochs, table.reduction_factor, last_epoch + 1):
        axes.axvline(epoch, color="#cccccc", linestyle="--", linewidth=0.8, zorder=0)
    axes.set_title(str(task), fontsize=9)
    axes.set_ylabel(f"devel {measure_name(task)}", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.2)


def _best_devel(trial: Trial) -> float:
    return -inf if trial.best_devel is None else trial.best_devel
