"""All trials of a study as the page's script reads them: for its table, its charts and its CSV.

Numbers are rounded to what a person reads, because a study may have ten thousand trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pipeline.stages.task import Task
from tuning.journal.events import Purpose, Reason
from tuning.journal.history import History, Trial
from tuning.report.formats import display_sign, measure_name
from tuning.report.search_trials import Searches
from tuning.spec.space import MODALITIES, STAGES, Choice, Dimension, IntRange, Value

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
STATES: Mapping[Reason, str] = {
    "patience": "trained to the end",
    "max_epochs": "trained to the end",
    "store": "from the store",
    "asha": "stopped early",
    "budget": "cut by the time budget",
    "error": "failed",
}
OPEN = "not ended"
ALL_STATES = tuple(dict.fromkeys((*STATES.values(), OPEN)))


def trial_data(searches: Searches) -> dict[str, Any]:
    """Return the trials with all that their table and charts need.

    Returns:
        "tasks" ("name", "stage", "modality", "target", "measure"), "dimensions" (stage -> "path",
        "kind", "log" and "values" of each), "purposes", "states", "modalities", "errors"
        (row -> cause), and "trials": one row per trial with name, task, purpose, state, devel and
        deciding score, epochs, begin and end (seconds since the study began), fold, seed, and the
        values of its stage's dimensions (null where they do not apply). A reconstruction error is
        written without its sign.
    """
    history = searches.history
    assert history.opened is not None
    number_of = {task: number for number, task in enumerate(searches.tasks)}

    rows: list[list[Any]] = []
    errors: dict[int, str] = {}
    for trial in history.trials.values():
        if trial.has_failed and trial.ended is not None:
            errors[len(rows)] = trial.ended.error or "unknown"
        begin, end = _times(history, trial)
        dimensions = searches.dimensions(trial.task.stage)
        rows.append(
            [
                trial.name,
                number_of[trial.task],
                PURPOSES.index(trial.proposed.purpose),
                ALL_STATES.index(_state(trial)),
                _score(trial.task, trial.best_devel),
                _score(trial.task, trial.ended.deciding if trial.ended is not None else None),
                trial.ended.epochs if trial.ended is not None else len(trial.epochs),
                round(begin, 1),
                round(end, 1),
                trial.proposed.fold,
                trial.proposed.seed,
                [_value(trial.proposed.configuration.get(each.path)) for each in dimensions],
            ]
        )

    return {
        "study": searches.study.name,
        "modalities": list(searches.modalities),
        "tasks": [_task_record(task) for task in searches.tasks],
        "dimensions": {
            stage: [_dimension_record(each) for each in searches.dimensions(stage)]
            for stage in STAGES
        },
        "modalities_path": MODALITIES,
        "purposes": list(PURPOSES),
        "states": list(ALL_STATES),
        "errors": errors,
        "trials": rows,
    }


def _state(trial: Trial) -> str:
    return OPEN if trial.ended is None else STATES[trial.ended.reason]


def _times(history: History, trial: Trial) -> tuple[float, float]:
    """Return when a trial began and ended, in seconds since the study began.

    It begins so long before its end as its fit took: before that it waited for a worker.
    """
    assert history.opened is not None
    began = trial.proposed.at
    ended = trial.ended.at if trial.ended is not None else history.last_at
    if trial.ended is not None:
        wall_s = 0.0 if trial.ended.reason == "store" else trial.ended.wall_s
        began = max(began, ended - wall_s)
    zero = history.opened.at
    return max(0.0, began - zero), max(0.0, ended - zero, began - zero)


def _score(task: Task, score: float | None) -> float | None:
    return None if score is None else round(display_sign(task) * score, 5)


def _value(value: Value | None) -> Value | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _task_record(task: Task) -> dict[str, str]:
    return {
        "name": str(task),
        "stage": task.stage,
        "modality": task.modality,
        "target": task.target,
        "measure": measure_name(task),
    }


def _dimension_record(dimension: Dimension) -> dict[str, Any]:
    domain = dimension.domain
    if isinstance(domain, Choice):
        values = [_value(value) for value in domain.values]
        return {"path": dimension.path, "kind": "choice", "log": False, "values": values}
    kind = "whole" if isinstance(domain, IntRange) else "real"
    limits = [_value(domain.low), _value(domain.high)]
    return {"path": dimension.path, "kind": kind, "log": domain.log, "values": limits}
