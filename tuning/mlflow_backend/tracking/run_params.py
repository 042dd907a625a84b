"""The parameters of runs: a study's settings, a trial's configuration, a winner's settings.

`mlflow/README.md` lists their names. Knows no server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.names import escape_key
from pipeline.stages.task import Task
from tuning.journal.events import Finalist, TrialProposed
from tuning.mlflow_backend.tracking.run_metrics import to_key

MAX_TEXT = 5000  # characters of a parameter or a tag; MLflow refuses parameters of over 6000


def to_text(value: object) -> str:
    """Return a value as MLflow takes it: short, and without NUL, which PostgreSQL cannot store."""
    return str(value).replace("\0", "")[:MAX_TEXT]


def study_params(study: Mapping[str, Any]) -> dict[str, str]:
    """Return a study's settings without its search spaces, which are in the study's file."""
    return {
        to_key(path): to_text(value)
        for path, value in _leaves(study)
        if ".space" not in path and value is not None
    }


def task_params(task: Task) -> dict[str, str]:
    """Return which task a run is of: its stage, and its modality and target where it has them."""
    params = {"stage": task.stage, "modality": task.modality, "target": task.target}
    return {name: to_text(value) for name, value in params.items() if value}


def trial_params(event: TrialProposed, task: Task) -> dict[str, str]:
    """Return a trial's configuration, its task, and what else decides its fit."""
    configuration = {to_key(path): to_text(value) for path, value in event.configuration.items()}
    fit = {
        "purpose": event.purpose,
        "fold": str(event.fold),
        "seed": str(event.seed),
        "key": event.key,
    }
    return configuration | task_params(task) | fit


def winner_params(best: Finalist) -> dict[str, str]:
    """Return the searched settings of a task's winner, under the names that they have in trials.

    Where the members of an ensemble differ, a value is a list with a value for each of them, and
    `members` says how often each counts.
    """
    members = best.members or best.parts
    paths = dict.fromkeys(path for member in members for path in member.configuration)
    params = {}
    for path in paths:
        values = [to_text(member.configuration.get(path, "-")) for member in members]
        params[to_key(path)] = to_text(values[0] if len({*values}) == 1 else ", ".join(values))

    if best.members:
        params["members"] = ", ".join(str(member.count) for member in best.members)
    return params


def task_key(task: str) -> str:
    """Return the name of a task for a key: what is between its slashes is escaped."""
    return "/".join(escape_key(name, also=".") for name in task.split("/"))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the settings of nested tables, with dots in their paths."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        elif isinstance(value, list | tuple):
            yield path, ", ".join(map(str, value))
        else:
            yield path, value
