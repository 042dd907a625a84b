"""What can happen in a study: the lines of its journal."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tuning.spec.space import Value

Purpose = Literal["search", "refit", "comparison"]
Reason = Literal["patience", "max_epochs", "store", "asha", "budget", "error"]
"""Why a fit ended. The first three left a trained stage in the store; "asha" and "budget" stopped it before."""
COMPLETE: tuple[Reason, ...] = ("patience", "max_epochs", "store")


class StudyEvent(BaseModel):
    """Frozen, and an unknown key is an error. `at`: when, in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float


class StudyOpened(StudyEvent):
    """A study began; always the first line."""

    event: Literal["opened"] = "opened"
    study: dict[str, Any]
    """The StudySpec, its modalities and targets known."""
    digest: str
    """sha256 over the study's settings, the data and the version of the training code."""
    corpus: dict[str, Any]
    """"name", "path", "digest", and by partition "sessions" and "subjects"."""
    folds: tuple[str, ...]
    """Names of the trainings of a configuration; the search uses the first."""
    versions: dict[str, str]
    git_commit: str | None


class TrialProposed(StudyEvent):
    """A fit was asked for: a trial."""

    event: Literal["proposed"] = "proposed"
    trial: str
    """Its name, such as "0042"; they count up."""
    task: str
    """Such as "unimodal/head/arousal"."""
    purpose: Purpose
    """A new configuration, a finalist on another fold or seed, or the winning fusion without difficulty."""
    values: dict[str, Value]
    """The configuration: path of the dimension -> value, of those that apply."""
    fold: int
    seed: int
    key: str
    """Of the trained stage in the store."""


class TrialProgressed(StudyEvent):
    """A trial passed some epochs, and its state was saved."""

    event: Literal["advanced"] = "advanced"
    trial: str
    epochs: tuple[tuple[int, float, float], ...]
    """(epoch, loss, score): devel CCC, or minus the reconstruction error."""
    cpu_s: float
    """Processor seconds since the fit began; likewise `wall_s`, seconds within the fit."""
    wall_s: float


class RungDecision(StudyEvent):
    """A trial of the search reached a rung."""

    event: Literal["judged"] = "judged"
    trial: str
    rung: int
    """Epochs."""
    score: float
    """The best so far."""
    goes_on: bool


class TrialEnded(StudyEvent):
    """A trial ended."""

    event: Literal["ended"] = "ended"
    trial: str
    reason: Reason
    score: float | None
    """The best epoch's; None where there is none."""
    best_epoch: int
    epochs: int
    cpu_s: float
    wall_s: float
    held_out: float | None = None
    """CCC on the sessions that this fold held out; None where there are none, or it is undefined."""
    deciding: float | None = None
    """CCC on devel and the sessions that this fold held out, together: what the search goes by."""
    error: str | None = None


class Finalist(BaseModel):
    """A configuration that was trained on every fold and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: dict[str, Value]
    keys: tuple[tuple[str, ...], ...]
    """For each fold the keys of its stages, one per seed."""
    scores: tuple[float, ...]
    """For each seed the score that decides: see `tuning.planning.scoring`."""
    devel: tuple[float, ...]
    """For each seed the devel CCC of the models that speak for devel; minus the RE for an auto-encoder."""
    out_of_fold: tuple[float | None, ...]
    """For each seed the CCC (minus the RE) on training subjects, by models that held them out."""
    reads: dict[str, int]
    """Upstream stage -> which of its best this one reads, 1 the best: see `Space.ranks`."""

    @property
    def score(self) -> float:
        """The mean over seeds."""
        return sum(self.scores) / len(self.scores)


class FinalistsChosen(StudyEvent):
    """The search of a task ended: these configurations are trained on every fold and with so many seeds."""

    event: Literal["chosen"] = "chosen"
    task: str
    finalists: Annotated[tuple[dict[str, Value], ...], Field(min_length=1)]
    seeds: int


class TaskCompleted(StudyEvent):
    """A task ended: its finalists, the best first."""

    event: Literal["settled"] = "settled"
    task: str
    finalists: Annotated[tuple[Finalist, ...], Field(min_length=1)]


class StudyStopped(StudyEvent):
    """The process that ran the study stopped before the end, and could still say so."""

    event: Literal["left"] = "left"
    why: str


class StudyResumed(StudyEvent):
    """The study went on in another process."""

    event: Literal["resumed"] = "resumed"


class StudyFinished(StudyEvent):
    """The winner was written; `summary` is summary.json."""

    event: Literal["finished"] = "finished"
    summary: dict[str, Any]


class ModelRegistered(StudyEvent):
    """The winner became a version of a registered model."""

    event: Literal["registered"] = "registered"
    model: str
    version: str


Event = (
    StudyOpened
    | TrialProposed
    | TrialProgressed
    | RungDecision
    | TrialEnded
    | FinalistsChosen
    | TaskCompleted
    | StudyStopped
    | StudyResumed
    | StudyFinished
    | ModelRegistered
)
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
