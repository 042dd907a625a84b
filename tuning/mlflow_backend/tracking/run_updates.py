"""What an event of a study changes in its runs: parameters, metrics, tags and status.

`mlflow/README.md` lists the names. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.stages.task import Task
from tuning.journal.events import (
    Event,
    Finalist,
    FinalistsChosen,
    ModelRegistered,
    RaceDecision,
    Reason,
    RungDecision,
    StudyFinished,
    StudyJudged,
    StudyOpened,
    StudyResumed,
    StudyStopped,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.mlflow_backend.tracking.run_metrics import (
    MetricValue,
    judgement_metrics,
    measure,
    milliseconds,
    progress_metrics,
    summary_metrics,
    task_metrics,
    to_key,
    trial_metrics,
)
from tuning.planning.judgement import verdict
from tuning.spec.tasks import parse_task

STUDY = "study"
"""Name of the study's run; a task's run has the name of the task, a trial's that of the trial."""
KIND_TAG = "affectune.kind"
"""Tag of every run: "study", "task" or "trial"."""
FORMAT_TAG, FORMAT = "affectune.format", "2"
"""Tag of a study's run: what its metrics and tags, and those of the runs below it, are called."""
MAX_TEXT = 5000  # characters of a parameter or a tag; MLflow refuses parameters of over 6000

Status = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]
STATUS: dict[Reason, Status] = {
    "patience": "FINISHED",
    "max_epochs": "FINISHED",
    "store": "FINISHED",
    "asha": "KILLED",
    "budget": "KILLED",
    "error": "FAILED",
}


@dataclass
class RunUpdate:
    """What is new in one run.

    Attributes:
        name: see `STUDY`.
        parent: name of the parent run; "" for the study's.
        at_ms: time of the first event; a run that is not there yet starts then.
        status: None where it stays as it is.
        status_at_ms: when the status changed.
    """

    name: str
    parent: str
    at_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[MetricValue] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    status: Status | None = None
    status_at_ms: int = 0

    def add(self, later: RunUpdate) -> None:
        """Add a later update of the same run."""
        self.params |= later.params
        self.metrics += later.metrics
        self.tags |= later.tags
        if later.status:
            self.status, self.status_at_ms = later.status, later.status_at_ms


class RunTree:
    """The runs of one study; `apply` takes its events in order, from the first."""

    def __init__(self) -> None:
        self._tasks: set[str] = set()
        self._trials: dict[str, Task] = {}
        self._last_epochs: dict[str, int] = {}
        self._open: dict[str, None] = {}
        """Names of the runs that have not ended; a dict, because their order matters."""

    def apply(self, event: Event) -> list[RunUpdate]:
        """Return what an event changes, run by run; a run's parent comes before it."""
        return list(self._updates(event))

    def _updates(self, event: Event) -> Iterator[RunUpdate]:
        match event:
            case StudyOpened():
                yield self._open_study(event)
            case TrialProposed():
                yield from self._open_trial(event)
            case TrialProgressed():
                yield self._progress_trial(event)
            case TrialEnded():
                yield self._end_trial(event)
            case FinalistsChosen():
                yield _choose_finalists(event)
            case TaskCompleted():
                yield self._complete_task(event)
            case StudyJudged():
                yield _judge_study(event)
            case StudyStopped():
                yield from self._set_open_runs(event, "KILLED")
                tags = {"stop_reason": to_text(event.reason)}
                yield RunUpdate(STUDY, "", milliseconds(event.at), tags=tags)
            case StudyResumed():
                yield from self._set_open_runs(event, "RUNNING")
            case StudyFinished():
                yield self._finish_study(event)
            case ModelRegistered():
                tags = {"registered_model": event.model, "registered_version": event.version}
                yield RunUpdate(STUDY, "", milliseconds(event.at), tags=tags)
            case RungDecision() | RaceDecision():
                pass  # Stop reasons and finalists say how early stopping and races decided.

    def _open_study(self, event: StudyOpened) -> RunUpdate:
        self._open[STUDY] = None
        return RunUpdate(
            name=STUDY,
            parent="",
            at_ms=milliseconds(event.at),
            params=_study_params(event.study),
            tags=_study_tags(event),
        )

    def _open_trial(self, event: TrialProposed) -> Iterator[RunUpdate]:
        """Open a trial's run, and before it the task's where this is the task's first trial."""
        task = parse_task(event.task)
        at_ms = milliseconds(event.at)
        task_params = _task_params(task)

        if event.task not in self._tasks:
            self._tasks.add(event.task)
            self._open[event.task] = None
            task_tags = {KIND_TAG: "task", "measure": measure(task)}
            yield RunUpdate(event.task, STUDY, at_ms, params=task_params, tags=task_tags)

        self._trials[event.trial] = task
        self._open[event.trial] = None
        configuration = {
            to_key(path): to_text(value) for path, value in event.configuration.items()
        }
        trial_params = {
            "purpose": event.purpose,
            "fold": str(event.fold),
            "seed": str(event.seed),
            "key": event.key,
        }
        yield RunUpdate(
            name=event.trial,
            parent=event.task,
            at_ms=at_ms,
            params=configuration | task_params | trial_params,
            tags={KIND_TAG: "trial", "purpose": event.purpose},
        )

    def _progress_trial(self, event: TrialProgressed) -> RunUpdate:
        task = self._trials[event.trial]
        last_epoch = self._last_epochs.get(event.trial, 0)
        metrics = progress_metrics(task, event, after_epoch=last_epoch)

        if event.epochs:
            self._last_epochs[event.trial] = max(last_epoch, event.epochs[-1][0])
        return RunUpdate(event.trial, str(task), milliseconds(event.at), metrics=metrics)

    def _end_trial(self, event: TrialEnded) -> RunUpdate:
        task = self._trials[event.trial]
        self._open.pop(event.trial, None)

        tags = {"stop_reason": str(event.reason)}
        if event.error:
            tags["error"] = to_text(event.error)

        at_ms = milliseconds(event.at)
        return RunUpdate(
            name=event.trial,
            parent=str(task),
            at_ms=at_ms,
            metrics=trial_metrics(task, event),
            tags=tags,
            status=STATUS[event.reason],
            status_at_ms=at_ms,
        )

    def _complete_task(self, event: TaskCompleted) -> RunUpdate:
        self._open.pop(event.task, None)
        best = event.finalists[0]
        at_ms = milliseconds(event.at)
        return RunUpdate(
            name=event.task,
            parent=STUDY,
            at_ms=at_ms,
            metrics=task_metrics(parse_task(event.task), event),
            tags={
                "best_configuration": to_text(json.dumps(best.configuration, sort_keys=True)),
                "best_upstream_ranks": to_text(json.dumps(best.upstream_ranks)),
                **_ensemble_tags(best),
            },
            status="FINISHED",
            status_at_ms=at_ms,
        )

    def _finish_study(self, event: StudyFinished) -> RunUpdate:
        self._open.pop(STUDY, None)
        at_ms = milliseconds(event.at)
        return RunUpdate(
            name=STUDY,
            parent="",
            at_ms=at_ms,
            metrics=summary_metrics(event),
            status="FINISHED",
            status_at_ms=at_ms,
        )

    def _set_open_runs(
        self, event: StudyStopped | StudyResumed, status: Status
    ) -> Iterator[RunUpdate]:
        at_ms = milliseconds(event.at)
        for name in self._open:
            parent = self._parent(name)
            yield RunUpdate(name, parent, at_ms, status=status, status_at_ms=at_ms)

    def _parent(self, name: str) -> str:
        if name == STUDY:
            return ""
        return str(self._trials[name]) if name in self._trials else STUDY


def to_text(value: object) -> str:
    """Return a value as MLflow takes it: short, and without NUL, which PostgreSQL cannot store."""
    return str(value).replace("\0", "")[:MAX_TEXT]


def _judge_study(event: StudyJudged) -> RunUpdate:
    tags: dict[str, str] = {}
    for target, judgement in event.targets.items():
        tags[to_key(target, "registered")] = judgement.chosen.kind
        tags[to_key(target, "verdict")] = to_text(verdict(target, judgement))
    metrics = judgement_metrics(event)
    return RunUpdate(STUDY, "", milliseconds(event.at), metrics=metrics, tags=tags)


def _choose_finalists(event: FinalistsChosen) -> RunUpdate:
    tags = {}
    for rank, configuration in enumerate(event.configurations, start=1):
        tags[f"finalist.{rank}"] = to_text(json.dumps(configuration, sort_keys=True))
    return RunUpdate(event.task, STUDY, milliseconds(event.at), tags=tags)


def _ensemble_tags(best: Finalist) -> dict[str, str]:
    if not best.members:
        return {}
    members = [[member.count, member.configuration] for member in best.members]
    return {"best_ensemble": to_text(json.dumps(members, sort_keys=True))}


def _task_params(task: Task) -> dict[str, str]:
    params = {"stage": task.stage, "modality": task.modality, "target": task.target}
    return {name: to_text(value) for name, value in params.items() if value}


def _study_params(study: Mapping[str, Any]) -> dict[str, str]:
    """Return a study's settings without its search spaces, which are in the study's file."""
    return {
        to_key(path): to_text(value)
        for path, value in _leaves(study)
        if ".space" not in path and value is not None
    }


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


def _study_tags(event: StudyOpened) -> dict[str, str]:
    tags = {
        KIND_TAG: STUDY,
        FORMAT_TAG: FORMAT,
        "affectune.digest": event.digest,
        "folds": ", ".join(event.folds),
    }
    for key in ("name", "path", "digest"):
        if key in event.corpus:
            tags[f"corpus.{key}"] = event.corpus[key]
    for library, version in event.versions.items():
        tags[f"version.{to_key(library)}"] = version
    if event.git_commit:
        tags["mlflow.source.git.commit"] = event.git_commit

    return {key: to_text(value) for key, value in tags.items()}
