"""What may follow what in a journal: a line that was lost, doubled or moved makes it impossible.

Seals find that with certainty. These rules find most of it where lines have none, in journals of
format 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from pipeline.stages.task import Task
from tuning.journal.events import (
    COMPLETE,
    FORMAT,
    Event,
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
from tuning.spec.search_table import SearchTable
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import study_tasks

RUN_THROUGH_RUNGS: tuple[Reason, ...] = ("patience", "max_epochs", "asha")
"""Why a trial of the search ends that waited for a decision at each rung before."""


@dataclass
class _Trial:
    """What lines so far say of a trial."""

    proposed: TrialProposed
    epoch: int = 0
    rungs: set[int] = field(default_factory=set)
    is_stopped: bool = False
    ended: TrialEnded | None = None


@dataclass
class _Task:
    """What lines so far say of a task."""

    upstream: tuple[str, ...] = ()
    searched: list[dict[str, object]] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    complete_keys: set[str] = field(default_factory=set)
    num_races: int = 0
    chosen: FinalistsChosen | None = None
    is_completed: bool = False


class Sequence:
    """Follows the events of a journal, and refuses one that cannot come next."""

    def __init__(self) -> None:
        self._opened: StudyOpened | None = None
        self._tables: dict[str, SearchTable] = {}
        self._tasks: dict[str, _Task] = {}
        self._targets: tuple[str, ...] = ()
        self._trials: dict[str, _Trial] = {}
        self._is_judged = self._is_finished = False

    def follow(self, event: Event) -> None:
        """Take one more event into account.

        Raises:
            ValueError: it cannot follow those before it; the message says why.
        """
        if self._opened is None:
            if not isinstance(event, StudyOpened):
                raise ValueError(f"is '{event.event}', and a journal begins with 'study_opened'")
            _raise_unless(event.format < FORMAT, "has no seal: it was changed after it was written")
            self._open(event)
            return
        if self._is_finished and not isinstance(event, StudyFinished | ModelRegistered):
            raise ValueError(f"is '{event.event}', and the study had finished before")

        match event:
            case StudyOpened():
                raise ValueError("opens a study once more")
            case TrialProposed():
                self._propose(event)
            case TrialProgressed() | RungDecision() | TrialEnded():
                self._go_on(event)
            case RaceDecision() | FinalistsChosen() | TaskCompleted():
                self._decide(event)
            case StudyJudged():
                self._judge(event)
            case StudyFinished():
                _raise_unless(self._is_judged, "finishes a study that was not judged")
                self._is_finished = True
            case ModelRegistered():
                _raise_unless(self._is_finished, "registers a study that has not finished")
            case StudyStopped() | StudyResumed():
                pass

    def _open(self, event: StudyOpened) -> None:
        try:
            study = StudySpec.model_validate(event.study)
        except ValidationError as error:
            raise ValueError("does not hold the settings of a study") from error
        self._opened, self._targets = event, study.targets or ()
        self._tables = {stage: study.table(stage) for stage in STAGES}
        tasks: tuple[Task, ...] = study_tasks(study.modalities or (), self._targets)
        self._tasks = {str(task): _Task() for task in tasks}
        for task in tasks:
            upstream = task.upstream_tasks(study.modalities or ())
            self._tasks[str(task)].upstream = tuple(str(each) for each in upstream)

    def _propose(self, event: TrialProposed) -> None:
        expected = f"{len(self._trials) + 1:04d}"
        if event.trial != expected:
            raise ValueError(f"proposes trial {event.trial[:20]}, and the next one is {expected}")
        assert self._opened is not None
        task = self._task(event.task)
        for upstream in task.upstream:
            is_ready = self._task(upstream).is_completed
            _raise_unless(is_ready, f"is of {event.task}, which reads {upstream} without a winner")
        is_fold = 0 <= event.fold < max(len(self._opened.folds), 1)
        _raise_unless(is_fold, f"proposes a trial of fold {event.fold}, which there is not")
        self._trials[event.trial] = _Trial(event)
        task.running.add(event.trial)
        if event.purpose == "search":
            task.searched.append(dict(event.configuration))

    def _go_on(self, event: TrialProgressed | RungDecision | TrialEnded) -> None:
        """Follow a trial from its proposal to its end."""
        trial = self._trials.get(event.trial)
        if trial is None:
            raise ValueError(f"is of trial {event.trial[:20]}, which was not proposed before")
        name = event.trial
        _raise_unless(trial.ended is None, f"is of trial {name}, which had ended before")

        match event:
            case TrialProgressed():
                for epoch, _, _ in event.epochs:
                    if epoch > trial.epoch + 1:
                        raise ValueError(f"lacks epoch {trial.epoch + 1} of trial {name}")
                    trial.epoch = max(trial.epoch, epoch)
            case RungDecision():
                _raise_unless(event.rung <= trial.epoch, f"decides before trial {name} was there")
                _raise_unless(event.rung not in trial.rungs, f"decides again on trial {name}")
                trial.rungs.add(event.rung)
                trial.is_stopped = trial.is_stopped or not event.continues
            case TrialEnded():
                _raise_unless(
                    event.epochs == trial.epoch,
                    f"ends trial {name} after {event.epochs} epochs, and {trial.epoch} are known",
                )
                is_decided = trial.is_stopped or event.reason != "asha"
                _raise_unless(is_decided, f"stops trial {name}, which was not decided before")
                rung = self._missing_rung(trial, event)
                _raise_unless(rung is None, f"lacks what was decided of trial {name} at {rung}")
                trial.ended, task = event, self._task(trial.proposed.task)
                task.running.discard(name)
                if event.reason in COMPLETE:
                    task.complete_keys.add(trial.proposed.key)

    def _missing_rung(self, trial: _Trial, ended: TrialEnded) -> int | None:
        """Return a rung that a trial of the search has passed without a decision; None: none."""
        if trial.proposed.purpose != "search" or ended.reason not in RUN_THROUGH_RUNGS:
            return None
        table = self._tables[trial.proposed.task.partition("/")[0]]
        rung = table.grace_epochs
        while rung < ended.epochs:
            if rung not in trial.rungs:
                return rung
            rung *= table.reduction_factor
        return None

    def _decide(self, event: RaceDecision | FinalistsChosen | TaskCompleted) -> None:
        """Follow a task from its race to its winner."""
        task, name = self._task(event.task), event.task
        _raise_unless(not task.is_completed, f"decides on {name}, which was completed before")
        running = ", ".join(sorted(task.running)[:3])
        _raise_unless(not running, f"decides on {name}, before trial {running} has ended")

        if isinstance(event, TaskCompleted):
            _raise_unless(task.chosen is not None, f"completes {name}, which has no finalists")
            keys = {key for each in event.finalists for fold in each.keys for key in fold}
            are_known = keys <= task.complete_keys
            _raise_unless(are_known, f"completes {name} by trials that are not known")
            task.is_completed = True
            return

        _raise_unless(task.chosen is None, f"decides on {name}, which had its finalists before")
        if isinstance(event, RaceDecision):
            task.num_races += 1
            _raise_unless(event.folds == task.num_races, f"lacks a round of the race of {name}")
            configurations = [standing.configuration for standing in event.standings]
        else:
            task.chosen, configurations = event, list(event.configurations)
        are_known = all(dict(each) in task.searched for each in configurations)
        _raise_unless(are_known, f"decides on {name} by trials that are not known")

    def _judge(self, event: StudyJudged) -> None:
        _raise_unless(not self._is_judged, "judges the study once more")
        are_completed = all(task.is_completed for task in self._tasks.values())
        _raise_unless(are_completed, "judges a study of which a task has no winner")
        have_ended = not any(task.running for task in self._tasks.values())
        _raise_unless(have_ended, "judges a study of which a trial has not ended")
        _raise_unless(set(event.targets) == set(self._targets), "judges other targets")
        self._is_judged = True

    def _task(self, name: str) -> _Task:
        task = self._tasks.get(name)
        if task is None:
            raise ValueError(f"is of the task '{name[:60]}', which the study does not have")
        return task


def _raise_unless(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
