"""What has happened in a study so far: its journal, read as trials and settled tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.errors import InputError
from pipeline.stage import Epoch
from tuning.events import (
    COMPLETE,
    Advanced,
    Chosen,
    Ended,
    Event,
    Finalist,
    Finished,
    Judged,
    Left,
    Opened,
    Proposed,
    Registered,
    Resumed,
    Settled,
)
from tuning.journal import JOURNAL, read_journal
from tuning.study_file import StudySpec
from tuning.task import Task, parse_task


@dataclass
class Trial:
    """One fit of a study.

    Attributes:
        proposed: what was asked for.
        epochs: those passed, in order.
        judged: what early stopping said at each rung.
        ended: None while it runs, or after a stop of the study.
    """

    proposed: Proposed
    epochs: list[Epoch] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    ended: Ended | None = None

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

    opened: Opened | None = None
    trials: dict[str, Trial] = field(default_factory=dict)
    chosen: dict[Task, Chosen] = field(default_factory=dict)
    settled: dict[Task, tuple[Finalist, ...]] = field(default_factory=dict)
    cost: dict[Task, tuple[float, int]] = field(default_factory=dict)
    """Task -> (seconds within fits, number of fits), of those that ended and were not in the store."""
    finished: Finished | None = None
    registered: Registered | None = None
    _of: dict[Task, list[Trial]] = field(default_factory=dict, repr=False)
    last_at: float = 0.0
    active_s: float = 0.0
    """Seconds in which a process was running the study."""

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        if not isinstance(event, Resumed) and self.last_at and self.finished is None:
            self.active_s += max(0.0, event.at - self.last_at)
        self.last_at = max(self.last_at, event.at)
        match event:
            case Opened():
                self.opened = event
            case Proposed():
                trial = self.trials[event.trial] = Trial(event)
                self._of.setdefault(trial.task, []).append(trial)
            case Advanced():
                trial = self.trials[event.trial]
                passed = trial.epochs[-1].epoch if trial.epochs else 0
                trial.epochs += [Epoch(*epoch) for epoch in event.epochs if epoch[0] > passed]
            case Judged():
                self.trials[event.trial].judged.append(event)
            case Ended():
                trial = self.trials[event.trial]
                trial.ended = event
                if event.reason != "store":
                    seconds, fits = self.cost.get(trial.task, (0.0, 0))
                    self.cost[trial.task] = (seconds + event.wall_s, fits + 1)
            case Chosen():
                self.chosen[parse_task(event.task)] = event
            case Settled():
                self.settled[parse_task(event.task)] = event.finalists
            case Finished():
                self.finished = event
            case Registered():
                self.registered = event
            case Left() | Resumed():
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
        return sum(trial.proposed.purpose == "refit" and trial.ended is not None for trial in self.of(task))


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
        raise InputError(f"'{folder}' holds no study: cannot read {JOURNAL} ({error.strerror}).") from error
    if found.opened is None:
        raise InputError(f"'{folder}' holds no study: its {JOURNAL} is empty. Run it again.")
    return found
