"""What has happened in a study so far: its journal, read as trials and completed tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.errors import InputError
from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Epoch
from tuning.journal.events import (
    COMPLETE,
    Event,
    Finalist,
    FinalistsChosen,
    ModelRegistered,
    Purpose,
    RaceDecision,
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
from tuning.journal.file import JOURNAL, read_journal
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import parse_task


@dataclass
class Trial:
    """One fit of a study.

    Attributes:
        proposed: what was asked for.
        epochs: those passed, in order.
        rung_decisions: of early stopping, in order.
        ended: None while it runs, or after a stop of the study.
        wall_s: seconds within the fit, as reported last; none where it came from the store.
    """

    proposed: TrialProposed
    epochs: list[Epoch] = field(default_factory=list)
    rung_decisions: list[RungDecision] = field(default_factory=list)
    ended: TrialEnded | None = None
    wall_s: float = 0.0

    @property
    def name(self) -> str:
        """Return its name, such as "0042"."""
        return self.proposed.trial

    @cached_property
    def task(self) -> Task:
        """Return what it is a fit of."""
        return parse_task(self.proposed.task)

    @property
    def is_complete(self) -> bool:
        """Return whether it left a trained stage in the store."""
        return self.ended is not None and self.ended.reason in COMPLETE

    @property
    def has_failed(self) -> bool:
        """Return whether it ended with an error."""
        return self.ended is not None and self.ended.reason == "error"

    @property
    def best_devel(self) -> float | None:
        """Return the best devel score so far."""
        if self.ended is not None and self.ended.devel is not None:
            return self.ended.devel
        return max((epoch.score for epoch in self.epochs), default=None)

    @property
    def search_score(self) -> float | None:
        """Return what the search goes by: the deciding score of a complete fit, else devel's."""
        if self.is_complete and self.ended is not None and self.ended.deciding is not None:
            return self.ended.deciding
        return self.best_devel


@dataclass
class History:
    """A journal as trials and completed tasks; `apply` is the only thing that changes it.

    Attributes:
        trials: by name, in the order in which they were proposed.
        open: those of them that have not ended.
        races: task -> the decisions of the race for its finalists, in order.
        chosen: task -> the finalists that are or were refitted.
        trained_before: task -> the complete trials of its search and its race that are of a chosen
            finalist: they need not be refitted.
        completed: task -> its finalists, the best first.
        ended: trials in the order in which they ended.
        failed: those of them that ended with an error.
        num_events: of the journal.
        cost: task -> (seconds within fits, number of fits), of those that were not in the store.
        stopped: how the last run ended, if it could write that, and none was begun since.
        last_at: time of the last event, since the last process began.
        active_s: seconds in which a process was running the study. What the clock says between
            processes does not count, and neither does what it says within one, if it goes back.
    """

    opened: StudyOpened | None = None
    trials: dict[str, Trial] = field(default_factory=dict)
    open: dict[str, Trial] = field(default_factory=dict)
    races: dict[Task, list[RaceDecision]] = field(default_factory=dict)
    chosen: dict[Task, FinalistsChosen] = field(default_factory=dict)
    trained_before: dict[Task, list[Trial]] = field(default_factory=dict)
    completed: dict[Task, tuple[Finalist, ...]] = field(default_factory=dict)
    ended: list[Trial] = field(default_factory=list)
    failed: list[Trial] = field(default_factory=list)
    cost: dict[Task, tuple[float, int]] = field(default_factory=dict)
    judged: StudyJudged | None = None
    finished: StudyFinished | None = None
    registered: ModelRegistered | None = None
    stopped: StudyStopped | None = None
    num_events: int = 0
    last_at: float = 0.0
    active_s: float = 0.0
    _trials_of: dict[tuple[Task, Purpose | None], list[Trial]] = field(
        default_factory=dict, repr=False
    )

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        self.num_events += 1
        if isinstance(event, StudyOpened | StudyResumed):
            self.last_at = event.at  # another process, whose clock may stand elsewhere
        elif self.last_at and self.finished is None:
            self.active_s += max(0.0, event.at - self.last_at)
        self.last_at = max(self.last_at, event.at)

        match event:
            case StudyOpened():
                self.opened = event
            case TrialProposed():
                self._propose(event)
            case TrialProgressed():
                self._progress(event)
            case RungDecision():
                self.trials[event.trial].rung_decisions.append(event)
            case TrialEnded():
                self._end(event)
            case RaceDecision():
                self.races.setdefault(parse_task(event.task), []).append(event)
            case FinalistsChosen():
                self._choose(event)
            case TaskCompleted():
                self.completed[parse_task(event.task)] = event.finalists
            case StudyJudged():
                self.judged = event
            case StudyFinished():
                self.finished = event
            case ModelRegistered():
                self.registered = event
            case StudyStopped():
                self.stopped = event
            case StudyResumed():
                self.stopped = None

    @cached_property
    def study(self) -> StudySpec:
        """Return the study as it was opened."""
        assert self.opened is not None
        return StudySpec.model_validate(self.opened.study)

    def trials_of(self, task: Task, purpose: Purpose | None = None) -> Sequence[Trial]:
        """Return the trials of a task, in order; of one purpose, if it is given."""
        return self._trials_of.get((task, purpose), ())

    def is_running(self, task: Task) -> bool:
        """Return whether a trial of a task has not ended."""
        return any(trial.task == task for trial in self.open.values())

    def _propose(self, event: TrialProposed) -> None:
        trial = Trial(event)
        self.trials[event.trial] = self.open[event.trial] = trial
        for purpose in (None, event.purpose):
            self._trials_of.setdefault((trial.task, purpose), []).append(trial)

    def _progress(self, event: TrialProgressed) -> None:
        trial = self.trials[event.trial]
        passed = trial.epochs[-1].epoch if trial.epochs else 0
        trial.epochs += [Epoch(*epoch) for epoch in event.epochs if epoch[0] > passed]
        trial.wall_s = max(trial.wall_s, event.wall_s)

    def _end(self, event: TrialEnded) -> None:
        trial = self.trials[event.trial]
        trial.ended = event
        self.open.pop(event.trial, None)
        self.ended.append(trial)
        if trial.has_failed:
            self.failed.append(trial)
        if event.reason != "store":
            trial.wall_s = max(trial.wall_s, event.wall_s)
            seconds, fits = self.cost.get(trial.task, (0.0, 0))
            self.cost[trial.task] = (seconds + event.wall_s, fits + 1)

    def _choose(self, event: FinalistsChosen) -> None:
        task = parse_task(event.task)
        self.chosen[task] = event
        self.trained_before[task] = [
            trial
            for trial in self.trials_of(task)
            if trial.is_complete
            and trial.proposed.purpose in ("search", "race")
            and trial.proposed.configuration in event.configurations
        ]


def history_of(events: Iterable[Event]) -> History:
    """Return the history of all events, applied in order."""
    history = History()
    for event in events:
        history.apply(event)
    return history


def read_history(folder: Path) -> History:
    """Read the history of the study in a folder.

    Raises:
        InputError: it holds no study, or its journal is damaged or of another format.
    """
    try:
        history = history_of(event for event, _ in read_journal(folder / JOURNAL))
    except OSError as error:
        raise InputError(_no_study(folder, error)) from error
    if history.opened is None:
        raise InputError(
            f"'{folder}' holds no study: its {JOURNAL} is empty. Run the study with another --out "
            "and the same --store: what was trained to its end is reused."
        )
    return history


def _no_study(folder: Path, error: OSError) -> str:
    """Return what is in a folder instead of a study, and what to do."""
    if not folder.exists():
        return (
            f"There is no folder '{folder}'. `affectune study run STUDY.toml --out {folder}` makes "
            "a study there."
        )
    if isinstance(error, FileNotFoundError):
        below = [path.parent for path in sorted(folder.glob("*/" + JOURNAL))]
        below += [path.parent for path in sorted(folder.glob("nested/*/" + JOURNAL))]
        if below:
            places = ", ".join(f"'{path}'" for path in below[:5])
            return f"'{folder}' holds no study itself, but there are some below it: {places}."
    return (
        f"'{folder}' holds no study: cannot read {JOURNAL} ({error.strerror}). Give the folder "
        "that `affectune study run --out` wrote."
    )
