"""What an event of a study means for its runs in MLflow: parameters, metrics, tags and status. Knows no server."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import stdev
from typing import Any, Literal, NamedTuple

from tuning.journal.events import (
    Event,
    FinalistsChosen,
    ModelRegistered,
    Reason,
    RungDecision,
    StudyFinished,
    StudyOpened,
    StudyResumed,
    StudyStopped,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.spec.tasks import Task, parse_task

STUDY = "study"
"""Name of the run above all others; a task's is the task's, a trial's the trial's."""
MAX_TEXT = 5000  # characters of a parameter or a tag; MLflow refuses longer parameters than 6000

Status = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]
STATUS: dict[Reason, Status] = {
    "patience": "FINISHED",
    "max_epochs": "FINISHED",
    "store": "FINISHED",
    "asha": "KILLED",
    "budget": "KILLED",
    "error": "FAILED",
}


class Measured(NamedTuple):
    """A metric. `at_ms` is the journal's moment, so that sending it twice writes the same row."""

    key: str
    value: float
    at_ms: int
    step: int


@dataclass
class RunUpdate:
    """What is new in one run.

    Attributes:
        name: see `STUDY`.
        parent: name of the run above; "" for the study's.
        at_ms: when the first of it happened; the start of a run that is not there yet.
        status: None where it stays as it is.
        status_at_ms: when the status became that.
    """

    name: str
    parent: str
    at_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Measured] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    status: Status | None = None
    status_at_ms: int = 0

    def add(self, later: RunUpdate) -> None:
        """Take in what happened to the same run later."""
        self.params |= later.params
        self.metrics += later.metrics
        self.tags |= later.tags
        if later.status:
            self.status, self.status_at_ms = later.status, later.status_at_ms


def study_id(opened: StudyOpened) -> str:
    """Names one run of one study: a repetition in another folder has the same digest, and is another run."""
    return hashlib.sha256(f"{opened.digest} {opened.at!r}".encode()).hexdigest()[:32]


class Runs:
    """The runs of one study; `apply` takes its events in order, from the first."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._trials: dict[str, Task] = {}
        self._epochs: dict[str, int] = {}
        self._open: dict[str, None] = {}  # in order

    def apply(self, event: Event) -> list[RunUpdate]:
        """What this event adds, run by run; a run's parent comes before it."""
        return list(self._updates(event, round(event.at * 1000)))

    def _updates(self, event: Event, at_ms: int) -> Iterator[RunUpdate]:
        match event:
            case StudyOpened():
                self._open[STUDY] = None
                yield RunUpdate(
                    STUDY, "", at_ms, _study_params(event.study), tags=_study_tags(event)
                )
            case TrialProposed():
                yield from self._proposed(event, at_ms)
            case TrialProgressed():
                yield self._advanced(event, at_ms)
            case TrialEnded():
                yield self._ended(event, at_ms)
            case FinalistsChosen():
                configurations = [json.dumps(values, sort_keys=True) for values in event.finalists]
                tags = {
                    f"finalist.{rank}": text(values)
                    for rank, values in enumerate(configurations, 1)
                }
                yield RunUpdate(event.task, STUDY, at_ms, tags=tags)
            case TaskCompleted():
                yield self._settled(event, at_ms)
            case StudyStopped():
                yield from self._all_open(at_ms, "KILLED")
                yield RunUpdate(STUDY, "", at_ms, tags={"left": text(event.why)})
            case StudyResumed():
                yield from self._all_open(at_ms, "RUNNING")
            case StudyFinished():
                self._open.pop(STUDY, None)
                metrics = [Measured(key, value, at_ms, 0) for key, value in _summary(event.summary)]
                yield RunUpdate(
                    STUDY, "", at_ms, metrics=metrics, status="FINISHED", status_at_ms=at_ms
                )
            case ModelRegistered():
                tags = {"registered_model": event.model, "registered_version": event.version}
                yield RunUpdate(STUDY, "", at_ms, tags=tags)
            case RungDecision():  # how ASHA decided is seen in how a trial ended
                pass

    def _proposed(self, event: TrialProposed, at_ms: int) -> Iterator[RunUpdate]:
        task = parse_task(event.task)
        place = {"stage": task.stage, "modality": task.modality, "target": task.target}
        place = {key: text(value) for key, value in place.items() if value}
        if event.task not in self._tasks:
            self._tasks[event.task] = task
            self._open[event.task] = None
            yield RunUpdate(
                event.task,
                STUDY,
                at_ms,
                place,
                tags={"affectune.kind": "task", "measure": _measure(task)},
            )
        self._trials[event.trial] = task
        self._open[event.trial] = None
        known = {
            "purpose": event.purpose,
            "fold": str(event.fold),
            "seed": str(event.seed),
            "key": event.key,
        }
        values = {key_of(path): text(value) for path, value in event.values.items()}
        tags = {"affectune.kind": "trial", "purpose": event.purpose}
        yield RunUpdate(event.trial, event.task, at_ms, values | place | known, tags=tags)

    def _advanced(self, event: TrialProgressed, at_ms: int) -> RunUpdate:
        task, passed = self._trials[event.trial], self._epochs.get(event.trial, 0)
        new = [epoch for epoch in event.epochs if epoch[0] > passed]
        metrics = []
        for epoch, loss, score in new:
            metrics.append((_measure(task), _natural(task, score), epoch))
            metrics.append(("loss", loss, epoch))
        if new:
            self._epochs[event.trial] = last = new[-1][0]
            metrics += [("cpu_s", event.cpu_s, last), ("wall_s", event.wall_s, last)]
        return RunUpdate(event.trial, str(task), at_ms, metrics=_finite(metrics, at_ms))

    def _ended(self, event: TrialEnded, at_ms: int) -> RunUpdate:
        task = self._trials[event.trial]
        self._open.pop(event.trial, None)
        metrics: list[tuple[str, float, int]] = [
            ("best_epoch", event.best_epoch, 0),
            ("epochs", event.epochs, 0),
            ("cpu_s", event.cpu_s, event.epochs),
            ("wall_s", event.wall_s, event.epochs),
        ]
        if event.score is not None:
            metrics.append((f"best_{_measure(task)}", _natural(task, event.score), 0))
        if event.held_out is not None:
            metrics.append((f"held_out_{_measure(task)}", _natural(task, event.held_out), 0))
        tags = {"stop_reason": str(event.reason)} | (
            {"error": text(event.error)} if event.error else {}
        )
        return RunUpdate(
            event.trial,
            str(task),
            at_ms,
            metrics=_finite(metrics, at_ms),
            tags=tags,
            status=STATUS[event.reason],
            status_at_ms=at_ms,
        )

    def _settled(self, event: TaskCompleted, at_ms: int) -> RunUpdate:
        self._open.pop(event.task, None)
        task, best = parse_task(event.task), event.finalists[0]
        measure = _measure(task)
        metrics: list[tuple[str, float, int]] = [
            (measure, _natural(task, best.score), 0),
            (f"devel_{measure}", _natural(task, sum(best.devel) / len(best.devel)), 0),
            ("seeds", len(best.scores), 0),
            ("finalists", len(event.finalists), 0),
        ]
        if len(best.scores) > 1:
            metrics.append((f"{measure}_spread", stdev(best.scores), 0))
        known = [score for score in best.out_of_fold if score is not None]
        if known:
            metrics.append((f"out_of_fold_{measure}", _natural(task, sum(known) / len(known)), 0))
        tags = {
            "best": text(json.dumps(best.values, sort_keys=True)),
            "best_reads": json.dumps(best.reads),
        }
        metrics_ms = _finite(metrics, at_ms)
        return RunUpdate(
            event.task,
            STUDY,
            at_ms,
            metrics=metrics_ms,
            tags=tags,
            status="FINISHED",
            status_at_ms=at_ms,
        )

    def _all_open(self, at_ms: int, status: Status) -> Iterator[RunUpdate]:
        for name in self._open:
            task = self._trials.get(name)
            parent = "" if name == STUDY else str(task) if task else STUDY
            yield RunUpdate(name, parent, at_ms, status=status, status_at_ms=at_ms)


def text(value: object) -> str:
    """As MLflow takes it: not too long, and without the one character that PostgreSQL does not store."""
    return str(value).replace("\0", "")[:MAX_TEXT]


def key_of(name: str) -> str:
    """A name of a parameter or a metric, other characters than MLflow allows replaced."""
    cleaned = re.sub(r"[^\w.\- :]", "_", name)[:250]
    return cleaned if cleaned.strip(".") else f"_{cleaned}"


def _measure(task: Task) -> str:
    return "ccc" if task.target else "re"


def _natural(task: Task, score: float) -> float:
    """Scores are maximised; a person reads a reconstruction error, not minus that."""
    return score if task.target else -score


def _finite(metrics: Iterable[tuple[str, float, int]], at_ms: int) -> list[Measured]:
    return [
        Measured(key, float(value), at_ms, step)
        for key, value, step in metrics
        if math.isfinite(value)
    ]


def _study_params(study: Mapping[str, Any]) -> dict[str, str]:
    """The settings under the search; its spaces are in the study's file."""
    return {
        key_of(path): text(value)
        for path, value in _leaves(study)
        if ".space" not in path and value is not None
    }


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield (
                f"{above}{key}",
                ", ".join(map(str, value)) if isinstance(value, list | tuple) else value,
            )


def _study_tags(event: StudyOpened) -> dict[str, str]:
    corpus = {
        f"corpus.{key}": event.corpus[key]
        for key in ("name", "path", "digest")
        if key in event.corpus
    }
    tags = {
        "affectune.kind": STUDY,
        "affectune.digest": event.digest,
        "folds": ", ".join(event.folds),
        **corpus,
        **{f"version.{key_of(name)}": version for name, version in event.versions.items()},
    }
    if event.git_commit:
        tags["mlflow.source.git.commit"] = event.git_commit
    return {key: text(value) for key, value in tags.items()}


def _summary(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of summary.json: of the study, and of each target."""
    for name in ("trials", "epochs_trained", "wall_s", "cpu_s", "store_hits"):
        yield from _number(name, summary.get(name))
    for target, found in summary.get("targets", {}).items():
        for name, value in found.items():
            if isinstance(value, Mapping):
                for inner, number in value.items():
                    yield from _number(f"{key_of(target)}.{name}.{inner}", number)
            else:
                yield from _number(f"{key_of(target)}.{name}", value)


def _number(name: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, int | float) and math.isfinite(value):
        yield key_of(name), float(value)
