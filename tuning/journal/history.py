"""What has happened in a study so far: its journal, read as trials and settled tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.errors import InputError
from pipeline.stages.stage import Epoch
from tuning.journal.events import (
    COMPLETE,
    Event,
    Finalist,
    FinalistsChosen,
    ModelRegistered,
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
from tuning.journal.file import JOURNAL, read_journal
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task, parse_task


@dataclass
class Trial:
    """One fit of a study.

    Attributes:
        proposed: what was asked for.
        epochs: those passed, in order.
        judged: what early stopping said at each rung.
        ended: None while it runs, or after a stop of the study.
    """

    proposed: TrialProposed
    epochs: list[Epoch] = field(default_factory=list)
    judged: list[RungDecision] = field(default_factory=list)
    ended: TrialEnded | None = None

    @property
    def name(self) -> str:
        return self.proposed.trial

    @cached_property
    def task(self) -> Task:
        return parse_task(self.proposed.task)

    @property
    def complete(self) -> bool:
        """It left a trained stage in the store."""
        return self.ended is not None and self.ended.reason in COMPLETE

    @property
    def best(self) -> float | None:
        """The best score so far."""
        if self.ended is not None and self.ended.score is not None:
            return self.ended.score
        return max((epoch.score for epoch in self.epochs), default=None)


@dataclass
class History:
    """A journal as trials and settled tasks; `apply` is the only thing that changes it.

    Attributes:
        trials: by name, in the order in which they were proposed.
        chosen: task -> the configurations that are or were refitted.
        settled: task -> its finalists, the best first.
    """

    opened: StudyOpened | None = None
    trials: dict[str, Trial] = field(default_factory=dict)
    chosen: dict[Task, FinalistsChosen] = field(default_factory=dict)
    settled: dict[Task, tuple[Finalist, ...]] = field(default_factory=dict)
    cost: dict[Task, tuple[float, int]] = field(default_factory=dict)
    """Task -> (seconds within fits, number of fits), of those that ended and were not in the store."""
    finished: StudyFinished | None = None
    registered: ModelRegistered | None = None
    _of: dict[Task, list[Trial]] = field(default_factory=dict, repr=False)
    last_at: float = 0.0
    active_s: float = 0.0
    """Seconds in which a process was running the study."""

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        if not isinstance(event, StudyResumed) and self.last_at and self.finished is None:
            self.active_s += max(0.0, event.at - self.last_at)
        self.last_at = max(self.last_at, event.at)
        match event:
            case StudyOpened():
                self.opened = event
            case TrialProposed():
                trial = self.trials[event.trial] = Trial(event)
                self._of.setdefault(trial.task, []).append(trial)
            case TrialProgressed():
                trial = self.trials[event.trial]
                passed = trial.epochs[-1].epoch if trial.epochs else 0
                trial.epochs += [Epoch(*epoch) for epoch in event.epochs if epoch[0] > passed]
            case RungDecision():
                self.trials[event.trial].judged.append(event)
            case TrialEnded():
                trial = self.trials[event.trial]
                trial.ended = event
                if event.reason != "store":
                    seconds, fits = self.cost.get(trial.task, (0.0, 0))
                    self.cost[trial.task] = (seconds + event.wall_s, fits + 1)
            case FinalistsChosen():
                self.chosen[parse_task(event.task)] = event
            case TaskCompleted():
                self.settled[parse_task(event.task)] = event.finalists
            case StudyFinished():
                self.finished = event
            case ModelRegistered():
                self.registered = event
            case StudyStopped() | StudyResumed():
                pass

    @property
    def study(self) -> StudySpec:
        """The study as it was opened."""
        assert self.opened is not None
        return StudySpec.model_validate(self.opened.study)

    def of(self, task: Task) -> list[Trial]:
        """The trials of a task."""
        return self._of.get(task, [])

    def searched(self, task: Task) -> list[Trial]:
        """Those that tried a configuration for the first time."""
        return [trial for trial in self.of(task) if trial.proposed.purpose == "search"]

    def refitted(self, task: Task) -> int:
        """How many fits of its finalists have ended."""
        return sum(
            trial.proposed.purpose == "refit" and trial.ended is not None for trial in self.of(task)
        )


def history(events: Iterable[Event]) -> History:
    """All events, applied in order."""
    found = History()
    for event in events:
        found.apply(event)
    return found


def read_history(folder: Path) -> History:
    """What a study's folder says.

    Raises:
        InputError: it holds no study, or its journal is damaged.
    """
    try:
        found = history(event for event, _ in read_journal(folder / JOURNAL))
    except OSError as error:
        raise InputError(
            f"'{folder}' holds no study: cannot read {JOURNAL} ({error.strerror})."
        ) from error
    if found.opened is None:
        raise InputError(f"'{folder}' holds no study: its {JOURNAL} is empty. Run it again.")
    return found
