"""The metrics of runs: one name per quantity, and the values that events give it.

A score's name says which score it is (`devel`, `held_out`, `out_of_fold` or `deciding`) and in
which measure: `ccc`, or `re` for an auto-encoder. `mlflow/README.md` lists all names. Knows no
server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

from pipeline.names import escape_key
from pipeline.stages.task import Task
from tuning.journal.events import (
    StudyFinished,
    StudyJudged,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
)

MAX_KEY = 250  # characters of a name that MLflow takes

STUDY_METRICS = ("trials", "epochs_trained", "wall_s", "cpu_s", "store_hits")
TARGET_METRICS = {
    "ccc": "devel_ccc",
    "ccc_low": "devel_ccc_low",
    "ccc_high": "devel_ccc_high",
    "between_ccc": "devel_between_ccc",
    "between_ccc_low": "devel_between_ccc_low",
    "between_ccc_high": "devel_between_ccc_high",
    "within_ccc": "devel_within_ccc",
    "within_ccc_low": "devel_within_ccc_low",
    "within_ccc_high": "devel_within_ccc_high",
    "label_variance_between_sessions": "devel_label_variance_between_sessions",
    "without_difficulty": "devel_ccc.without_difficulty",
    "session_mean_ccc": "devel_session_mean_ccc",
    "undefined_sessions": "devel_undefined_sessions",
    "frames": "devel_frames",
    "sessions": "devel_sessions",
    "subjects": "devel_subjects",
}
"""Key of a target in summary.json -> name of the metric."""
TARGET_METRIC_GROUPS = {"floors": "devel_ccc.floor", "unimodal": "devel_ccc.unimodal"}
"""Key of a table of a target in summary.json -> what the names of its metrics begin with."""

StepValue = tuple[str, float | None, int]
"""Name, value and step of a metric that may be undefined."""


class MetricValue(NamedTuple):
    """One value of a metric.

    `at_ms` is the event's time in milliseconds, so that sending a value twice writes the same row.
    """

    key: str
    value: float
    at_ms: int
    step: int


def measure(task: Task) -> str:
    """Return in which measure a task is scored: "ccc", or "re" for an auto-encoder."""
    return "ccc" if task.target else "re"


def milliseconds(at: float) -> int:
    """Return an event's time as MLflow stores it."""
    return round(at * 1000)


def to_key(*names: str) -> str:
    """Return the name of a parameter, metric or tag: names, with dots between them.

    All but the last have no dot of their own then, so that no two lists of names have one key.
    """
    *outer, last = names
    key = ".".join([*(escape_key(name, also=".") for name in outer), escape_key(last)])[:MAX_KEY]
    return key if key.strip(".") else f"_{key}"


def progress_metrics(
    task: Task, event: TrialProgressed, *, after_epoch: int = 0
) -> list[MetricValue]:
    """Return the loss and the devel score of a trial's new epochs, and what they cost.

    Args:
        task: of the trial.
        event: may repeat epochs that were sent before.
        after_epoch: the last epoch that was sent before.
    """
    epochs = [epoch for epoch in event.epochs if epoch[0] > after_epoch]
    if not epochs:
        return []

    score_name = f"devel_{measure(task)}"
    values: list[StepValue] = []
    for epoch, loss, score in epochs:
        values.append((score_name, _natural(task, score), epoch))
        values.append(("loss", loss, epoch))

    last_epoch = epochs[-1][0]
    values.append(("cpu_s", event.cpu_s, last_epoch))
    values.append(("wall_s", event.wall_s, last_epoch))
    return _defined(values, event.at)


def trial_metrics(task: Task, event: TrialEnded) -> list[MetricValue]:
    """Return what a trial reached, and what it cost."""
    suffix = measure(task)
    values: list[StepValue] = [
        ("best_epoch", event.best_epoch, 0),
        (f"best_devel_{suffix}", _natural(task, event.devel), 0),
        (f"held_out_{suffix}", _natural(task, event.held_out), 0),
        (f"deciding_{suffix}", _natural(task, event.deciding), 0),
        ("epochs", event.epochs, 0),
        ("cpu_s", event.cpu_s, event.epochs),
        ("wall_s", event.wall_s, event.epochs),
    ]
    return _defined(values, event.at)


def task_metrics(task: Task, event: TaskCompleted) -> list[MetricValue]:
    """Return the scores of a task's best finalist: means over its seeds, and their spread."""
    best = event.finalists[0]
    suffix = measure(task)
    values: list[StepValue] = [
        (f"deciding_{suffix}", _natural(task, best.mean_deciding), 0),
        (f"devel_{suffix}", _natural(task, fmean(best.devel)), 0),
        ("seeds", len(best.deciding), 0),
        ("finalists", len(event.finalists), 0),
    ]

    if len(best.deciding) > 1:
        values.append((f"deciding_{suffix}_spread", stdev(best.deciding), 0))

    out_of_fold = [score for score in best.out_of_fold if score is not None]
    if out_of_fold:
        values.append((f"out_of_fold_{suffix}", _natural(task, fmean(out_of_fold)), 0))

    return _defined(values, event.at)


def judgement_metrics(event: StudyJudged) -> list[MetricValue]:
    """Return how good every candidate is, and by how much the registered one is better.

    What is registered has its deciding score once more as the mean over targets, by which studies
    can be compared.
    """
    deciding = [judgement.chosen.deciding for judgement in event.targets.values()]
    values: list[StepValue] = [("deciding_ccc", fmean(deciding), 0)] if deciding else []
    for target, judgement in event.targets.items():
        for candidate in judgement.candidates:
            kind, difference = candidate.kind, candidate.chosen_minus_it
            scores = {
                f"deciding_ccc.{kind}": candidate.deciding,
                f"out_of_fold_ccc.{kind}": candidate.out_of_fold,
            }
            if difference is not None:
                scores |= {
                    f"registered_minus_{kind}": difference.ccc,
                    f"registered_minus_{kind}_low": difference.ccc_low,
                    f"registered_minus_{kind}_high": difference.ccc_high,
                }
            values += [(to_key(target, name), value, 0) for name, value in scores.items()]
    return _defined(values, event.at)


def summary_metrics(event: StudyFinished) -> list[MetricValue]:
    """Return what a study took, and its winner's scores on devel for every target."""
    values: list[StepValue] = [
        (name, _number(event.summary.get(name)), 0) for name in STUDY_METRICS
    ]
    values += _summary_scores(event.summary)
    for target, scores in event.summary.get("targets", {}).items():
        for key, prefix in TARGET_METRIC_GROUPS.items():
            for prediction, ccc in scores.get(key, {}).items():
                values.append((to_key(target, f"{prefix}.{prediction}"), _number(ccc), 0))
    for target, scores in event.summary.get("distillation", {}).get("targets", {}).items():
        teacher = _number(scores.get("teacher", {}).get("ccc"))
        values.append((to_key(target, "devel_ccc.teacher"), teacher, 0))

    return _defined(values, event.at)


def model_metrics(summary: Mapping[str, Any], at: float) -> list[MetricValue]:
    """Return the scores of a study's winner on devel, without those of what it has to beat.

    Args:
        summary: the content of summary.json.
        at: when the winner was scored.
    """
    return _defined(_summary_scores(summary), at)


def _summary_scores(summary: Mapping[str, Any]) -> list[StepValue]:
    """Return the winner's scores for every target, and its devel CCC as the mean over targets."""
    targets = summary.get("targets", {})
    cccs = [_number(scores.get("ccc")) for scores in targets.values()]
    known = [ccc for ccc in cccs if ccc is not None]
    values: list[StepValue] = []
    if known and len(known) == len(cccs):
        values.append(("devel_ccc", fmean(known), 0))

    for target, scores in targets.items():
        for key, name in TARGET_METRICS.items():
            values.append((to_key(target, name), _number(scores.get(key)), 0))
    return values


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _natural(task: Task, score: float | None) -> float | None:
    """Turn minus a reconstruction error, which is maximised, into the error that people read."""
    return score if score is None or task.target else -score


def _defined(values: Iterable[StepValue], at: float) -> list[MetricValue]:
    """Return the values that are finite numbers, with their time."""
    at_ms = milliseconds(at)
    return [
        MetricValue(key, float(value), at_ms, step)
        for key, value, step in values
        if value is not None and math.isfinite(value)
    ]
