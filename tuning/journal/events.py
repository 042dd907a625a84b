"""What can happen in a study: the lines of its journal."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
)

from pipeline.credentials.masking import masked, masked_uri
from pipeline.metrics.bootstrap import Score
from tuning.spec.space import Value

FORMAT, READABLE_FORMATS = 4, (3, 4)
"""Of the journal, and those that are read; raise it when an event is written otherwise.

Format 4 has the events of format 3, and a seal in every line.
"""
LATEST_S = 253_402_300_799.0
"""The last second of the year 9999: no clock says more, and no calendar shows it."""

Purpose = Literal["search", "race", "refit", "comparison", "default"]
"""A new configuration, one of the better ones on its next fold, a finalist on a further fold or
seed, a winner without difficulty, or the study's own settings in all stages: the untuned default.
"""
CandidateKind = Literal["winner", "single", "default", "modality", "mean", "weighted_mean"]
"""What may be registered for a target: see `tuning.planning.judgement`."""
Reason = Literal["patience", "max_epochs", "store", "asha", "budget", "error"]
"""Why a fit ended. The first three left a trained stage; "asha" and "budget" stopped it."""
Message = Annotated[str, AfterValidator(masked)]
"""What went wrong, perhaps in a library's words: masked when it is written, and when it is read,
because earlier versions wrote it as it was."""
COMPLETE: tuple[Reason, ...] = ("patience", "max_epochs", "store")


class StudyEvent(BaseModel):
    """Frozen, and an unknown key is an error. `at`: when, in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at: Annotated[float, Field(ge=0, le=LATEST_S)]


class StudyOpened(StudyEvent):
    """A study began; always the first line."""

    event: Literal["study_opened"] = "study_opened"
    format: int = FORMAT
    """Of the journal."""
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

    @property
    def id(self) -> str:
        """Return the id of one run of one study.

        The same study in another folder has the same digest, and is another run.
        """
        return hashlib.sha256(f"{self.digest} {self.at!r}".encode()).hexdigest()[:32]

    @field_validator("study")
    @classmethod
    def _without_credentials(cls, study: dict[str, Any]) -> dict[str, Any]:
        """Mask the one setting that may be a URI; the corpus was perhaps given in its place."""
        corpus = study.get("corpus")
        return {**study, "corpus": masked_uri(corpus)} if isinstance(corpus, str) else study


class TrialProposed(StudyEvent):
    """A fit was asked for: a trial."""

    event: Literal["trial_proposed"] = "trial_proposed"
    trial: str
    """Its name, such as "0042"; they count up."""
    task: str
    """Such as "unimodal/head/arousal"."""
    purpose: Purpose
    """See `Purpose`."""
    configuration: dict[str, Value]
    """Path of the dimension -> value, of those that apply."""
    fold: int
    seed: int
    key: str
    """Of the trained stage in the store."""


class TrialProgressed(StudyEvent):
    """A trial passed some epochs, and its state was saved."""

    event: Literal["trial_progressed"] = "trial_progressed"
    trial: str
    epochs: tuple[tuple[int, float, float], ...]
    """(epoch, loss, devel score): the CCC, or minus the reconstruction error."""
    cpu_s: float
    """Processor seconds since the fit began; likewise `wall_s`, seconds within the fit."""
    wall_s: float


class RungDecision(StudyEvent):
    """A trial of the search reached a rung."""

    event: Literal["rung_decision"] = "rung_decision"
    trial: str
    rung: int
    """Epochs."""
    score: float
    """The best devel score so far."""
    deciding: float | None = None
    """The deciding score of that epoch's weights; None where it is unknown."""
    continues: bool


class TrialEnded(StudyEvent):
    """A trial ended."""

    event: Literal["trial_ended"] = "trial_ended"
    trial: str
    reason: Reason
    devel: float | None
    """The best epoch's devel score; None where there is none."""
    best_epoch: int
    epochs: int
    cpu_s: float
    wall_s: float
    held_out: float | None = None
    """Score on the sessions that this fold held out; None where undefined, or none were."""
    deciding: float | None = None
    """Score on devel and the held-out sessions together: what the search goes by."""
    error: Message | None = None


class Difference(BaseModel):
    """A CCC minus another, paired over people, with its 95% interval; None where undefined."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ccc: float | None
    ccc_low: float | None
    ccc_high: float | None

    @classmethod
    def from_score(cls, score: Score) -> Difference:
        """Return what the journal writes of a score."""
        return cls(**score.to_json())


class Member(BaseModel):
    """A configuration of an ensemble."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    configuration: dict[str, Value]
    upstream_ranks: dict[str, int]
    """As a finalist's."""
    count: int
    """How often it counts in the mean."""


class Finalist(BaseModel):
    """A configuration that was trained on every fold and seed, or an ensemble of several."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    configuration: dict[str, Value]
    """Of an ensemble: that of its first member, the best alone."""
    keys: tuple[tuple[str, ...], ...]
    """For each fold the keys of its trained stages, one per seed; of an ensemble those of all
    members, as often as they count, for one seed after the other."""
    deciding: tuple[float, ...]
    """For each seed the score that ranks finalists: see `tuning.fitting.scoring`."""
    devel: tuple[float, ...]
    """For each seed the devel score of the inference models."""
    out_of_fold: tuple[float | None, ...]
    """For each seed the score on training subjects, by the models that held them out."""
    upstream_ranks: dict[str, int]
    """Upstream stage -> which of its best this one reads, 1 the best: see `Space.ranks`. Of an
    ensemble: that of its first member."""
    members: tuple[Member, ...] = ()
    """Of an ensemble; empty for a single configuration."""
    gain: Difference | None = None
    """Of an ensemble: the CCC of ensembles that are chosen so minus that of the best configuration,
    on people that neither was chosen on."""

    @property
    def parts(self) -> tuple[Member, ...]:
        """Return its members, each as often as it counts; of a single configuration, itself."""
        own = Member(configuration=self.configuration, upstream_ranks=self.upstream_ranks, count=1)
        return tuple(part for part in self.members or (own,) for _ in range(part.count))

    @property
    def mean_deciding(self) -> float:
        """Return the deciding score, as the mean over seeds."""
        return sum(self.deciding) / len(self.deciding)

    @property
    def mean_devel(self) -> float:
        """Return the devel score, as the mean over seeds."""
        return sum(self.devel) / len(self.devel)


class Standing(BaseModel):
    """A configuration in the race for a task's finalists."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    configuration: dict[str, Value]
    score: float
    """On devel and on the people whom the folds so far held out."""
    behind: Difference | None
    """Its CCC minus the leader's; None for the leader."""
    continues: bool


class RaceDecision(StudyEvent):
    """Who is tried on the next fold, or becomes a finalist; the leader first."""

    event: Literal["race_decision"] = "race_decision"
    task: str
    folds: int
    """On so many each of them was tried."""
    standings: Annotated[tuple[Standing, ...], Field(min_length=1)]

    @property
    def continuing(self) -> list[dict[str, Value]]:
        """Return the configurations that continue."""
        return [each.configuration for each in self.standings if each.continues]


class FinalistsChosen(StudyEvent):
    """The search of a task ended: its finalists are trained on every fold and seed."""

    event: Literal["finalists_chosen"] = "finalists_chosen"
    task: str
    configurations: Annotated[tuple[dict[str, Value], ...], Field(min_length=1)]
    seeds: int


class TaskCompleted(StudyEvent):
    """A task has its winner: its finalists, the best first; an ensemble comes before them."""

    event: Literal["task_completed"] = "task_completed"
    task: str
    finalists: Annotated[tuple[Finalist, ...], Field(min_length=1)]


class Candidate(BaseModel):
    """What could be registered for a target, and how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: CandidateKind
    modality: str = ""
    """Which, where it is one alone."""
    deciding: float
    devel: float
    out_of_fold: float | None
    """A fusion's is slightly optimistic, a modality's and a floor's are not."""
    chosen_minus_it: Difference | None
    """Of the chosen candidate, on devel and training subjects together; None for itself."""


class Judgement(BaseModel):
    """The candidates of a target; the chosen one has the highest deciding score."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1)]

    @property
    def chosen(self) -> Candidate:
        """Return what is registered."""
        return next(each for each in self.candidates if each.chosen_minus_it is None)


class StudyJudged(StudyEvent):
    """What the search found was compared with what it has to beat, target by target."""

    event: Literal["study_judged"] = "study_judged"
    targets: dict[str, Judgement]


class StudyStopped(StudyEvent):
    """The process that ran the study stopped before the end, and could still write why."""

    event: Literal["study_stopped"] = "study_stopped"
    reason: Message


class StudyResumed(StudyEvent):
    """The study went on in another process."""

    event: Literal["study_resumed"] = "study_resumed"


class StudyFinished(StudyEvent):
    """The winner was written; `summary` is summary.json."""

    event: Literal["study_finished"] = "study_finished"
    summary: dict[str, Any]


class ModelRegistered(StudyEvent):
    """The winner became a version of a registered model."""

    event: Literal["model_registered"] = "model_registered"
    model: str
    version: str


Event = (
    StudyOpened
    | TrialProposed
    | TrialProgressed
    | RungDecision
    | TrialEnded
    | RaceDecision
    | FinalistsChosen
    | TaskCompleted
    | StudyJudged
    | StudyStopped
    | StudyResumed
    | StudyFinished
    | ModelRegistered
)
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
