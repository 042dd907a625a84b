"""What an event of a study changes in its runs: parameters, metrics, tags, notes and status.

`mlflow/README.md` lists the names. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pipeline.stages.task import Task
from tuning.journal.events import (
    Event,
    FinalistsChosen,
    ModelRegistered,
    RaceDecision,
    Reason,
    RungDecision,
    StudyEvent,
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
    MAX_KEY,
    MetricValue,
    judgement_metrics,
    milliseconds,
    progress_metrics,
    summary_metrics,
    task_metrics,
    trial_metrics,
)
from tuning.mlflow_backend.tracking.run_notes import (
    DIGEST_START,
    NOTE_TAG,
    StudyFacts,
    study_note,
    study_title,
    task_note,
)
from tuning.mlflow_backend.tracking.run_params import (
    study_params,
    task_key,
    task_params,
    to_text,
    trial_params,
    winner_params,
)
from tuning.spec.tasks import parse_task

MAX_DATASET_NAME = 250  # characters
STUDY = "study"
"""Name of the study's run; a task's run has the name of the task, a trial's that of the trial."""
KIND_TAG = "affectune.kind"
"""Tag of every run: "study", "task" or "trial"."""
FORMAT_TAG, FORMAT, READABLE_FORMATS = "affectune.format", "3", ("2", "3")
"""Tag of a study's run: what its metrics and tags, and those of the runs below it, are called.

Format 3 has the metrics of format 2 and more, and fewer tags: a study of either goes on in it.
"""

Status = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]
STATUS: dict[Reason, Status] = {
    "patience": "FINISHED",
    "max_epochs": "FINISHED",
    "store": "FINISHED",
    "asha": "FINISHED",
    "budget": "FINISHED",
    "error": "FAILED",
}
"""MLflow draws a red cross for all but FINISHED, and a trial that was stopped has not failed."""


@dataclass(frozen=True)
class CorpusDataset:
    """A study's corpus as a dataset of MLflow; `profile` says how much there is of it, as JSON."""

    name: str
    digest: str
    path: str
    profile: str


@dataclass
class RunUpdate:
    """What is new in one run.

    Attributes:
        name: see `STUDY`.
        parent: name of the parent run; "" for the study's.
        at_ms: time of the first event; a run that is not there yet starts then.
        title: what the run is called in MLflow; "" for its name.
        dataset: what the run learned from, where that is new.
        status: None where it stays as it is.
        status_at_ms: when the status changed.
    """

    name: str
    parent: str
    at_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[MetricValue] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    title: str = ""
    dataset: CorpusDataset | None = None
    status: Status | None = None
    status_at_ms: int = 0

    def add(self, later: RunUpdate) -> None:
        """Add a later update of the same run."""
        self.params |= later.params
        self.metrics += later.metrics
        self.tags |= later.tags
        self.dataset = self.dataset or later.dataset
        if later.status:
            self.status, self.status_at_ms = later.status, later.status_at_ms


class RunTree:
    """The runs of one study; `apply` takes its events in order, from the first.

    Args:
        experiment_id: of the study, for links.
    """

    def __init__(self, experiment_id: str) -> None:
        self._experiment_id = experiment_id
        self._facts: StudyFacts | None = None
        self._tasks: set[str] = set()
        self._trials: dict[str, Task] = {}
        self._trials_by_key: dict[str, str] = {}
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
            case TaskCompleted():
                yield from self._complete_task(event)
            case StudyJudged():
                self._study.judged = event
                yield self._describe_study(event, metrics=judgement_metrics(event))
            case StudyStopped():
                yield from self._set_open_runs(event, "KILLED")
                tags = {"stop_reason": to_text(event.reason)}
                yield RunUpdate(STUDY, "", milliseconds(event.at), tags=tags)
            case StudyResumed():
                yield from self._set_open_runs(event, "RUNNING")
            case StudyFinished():
                yield self._finish_study(event)
            case ModelRegistered():
                self._study.registered = event
                yield self._describe_study(event)
            case RungDecision() | RaceDecision() | FinalistsChosen():
                pass  # Stop reasons and finalists say how early stopping and races decided.

    @property
    def _study(self) -> StudyFacts:
        assert self._facts is not None
        return self._facts

    def _open_study(self, event: StudyOpened) -> RunUpdate:
        self._open[STUDY] = None
        self._facts = StudyFacts(event)
        tags = {KIND_TAG: STUDY, FORMAT_TAG: FORMAT}
        if event.git_commit:
            tags["mlflow.source.git.commit"] = event.git_commit

        update = self._describe_study(event)
        update.title = to_text(study_title(event))
        update.params = study_params(event.study)
        update.tags |= tags
        update.dataset = corpus_dataset(event)
        return update

    def _describe_study(
        self, event: StudyEvent, *, metrics: list[MetricValue] | None = None
    ) -> RunUpdate:
        """Return a study's note as it is after an event, and metrics that come with it."""
        return RunUpdate(
            name=STUDY,
            parent="",
            at_ms=milliseconds(event.at),
            metrics=metrics or [],
            tags={NOTE_TAG: study_note(self._study, self._experiment_id).replace("\0", "")},
        )

    def _open_trial(self, event: TrialProposed) -> Iterator[RunUpdate]:
        """Open a trial's run, and before it the task's where this is the task's first trial."""
        task = parse_task(event.task)
        at_ms = milliseconds(event.at)

        if event.task not in self._tasks:
            self._tasks.add(event.task)
            self._open[event.task] = None
            tags = {KIND_TAG: "task"}
            yield RunUpdate(event.task, STUDY, at_ms, params=task_params(task), tags=tags)

        self._trials[event.trial] = task
        self._trials_by_key.setdefault(event.key, event.trial)
        self._open[event.trial] = None
        yield RunUpdate(
            name=event.trial,
            parent=event.task,
            at_ms=at_ms,
            params=trial_params(event, task),
            tags={KIND_TAG: "trial"},
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

    def _complete_task(self, event: TaskCompleted) -> Iterator[RunUpdate]:
        """Give a task's run its finalists, and the study's its winner's settings."""
        self._open.pop(event.task, None)
        self._study.completed[event.task] = event
        best, at_ms = event.finalists[0], milliseconds(event.at)
        settings = winner_params(best)

        keys = dict.fromkeys(key for keys in best.keys for key in keys)
        trials = sorted(self._trials_by_key[key] for key in keys if key in self._trials_by_key)
        note = task_note(event, self._study.opened, ", ".join(trials), self._experiment_id)
        yield RunUpdate(
            name=event.task,
            parent=STUDY,
            at_ms=at_ms,
            params=settings,
            metrics=task_metrics(parse_task(event.task), event),
            tags={NOTE_TAG: note.replace("\0", "")},
            status="FINISHED",
            status_at_ms=at_ms,
        )

        update = self._describe_study(event)
        prefix = f"winner.{task_key(event.task)}"
        params = {f"{prefix}.{path}": text for path, text in settings.items()}
        # Cut, two of them could be one, and MLflow would refuse the other with all around it.
        update.params = {key: text for key, text in params.items() if len(key) <= MAX_KEY}
        yield update

    def _finish_study(self, event: StudyFinished) -> RunUpdate:
        self._open.pop(STUDY, None)
        self._study.finished = event
        update = self._describe_study(event, metrics=summary_metrics(event))
        update.status, update.status_at_ms = "FINISHED", update.at_ms
        return update

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


def corpus_dataset(opened: StudyOpened) -> CorpusDataset | None:
    """Return the corpus that a study learns from; None where the journal does not name it."""
    corpus = opened.corpus
    name, digest = to_text(corpus.get("name", "")), str(corpus.get("digest", ""))
    if not name or not digest:
        return None
    profile = {key: corpus[key] for key in ("sessions", "subjects") if key in corpus}
    return CorpusDataset(
        name=name[:MAX_DATASET_NAME],
        digest=digest[:DIGEST_START],
        path=str(corpus.get("path", "")),
        profile=json.dumps({**profile, "digest": digest}),
    )
