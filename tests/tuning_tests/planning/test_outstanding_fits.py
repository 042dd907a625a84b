"""The planner, the time budget and the status count the same fits that a study still needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuning_tests.studies import Worker, tiny_study
from tuning.journal.events import (
    Event,
    FinalistsChosen,
    StudyFinished,
    TaskCompleted,
    TrialEnded,
    TrialProposed,
)
from tuning.journal.file import JOURNAL, Journal, read_journal
from tuning.journal.history import History, history_of
from tuning.monitoring.status import study_status
from tuning.planning import time_budget
from tuning.planning.outstanding_fits import FitPlan, OutstandingFits
from tuning.planning.time_budget import TimeBudget
from tuning.spec.study_spec import StudySpec

NUM_FOLDS = 3
NOTHING = OutstandingFits(search=0, race=0, refit=0, comparison=0, default=0)


@pytest.fixture(scope="module")
def study() -> StudySpec:
    """Return a study whose fits are all known from the beginning: every fusion reads difficulty."""
    space = {"modalities": {"subsets": 1}, "unimodal": {"top": 2}}
    # How many an ensemble compares, and how many a race drops, is not known before.
    known = {"ensemble": 1, "race_folds": 1}
    # A finalist that was stopped early is trained anew on its first fold: here none is.
    fusion = {"space": space, "seeds": 2, "grace_epochs": 4, **known}
    return tiny_study(unimodal={"seeds": 1, **known}, fusion=fusion)


@pytest.fixture(scope="module")
def finished(study: StudySpec, tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """Return the worker of a study that is done."""
    worker = Worker(tmp_path_factory.mktemp("finished"), study)
    assert worker.run().is_done
    return worker


@pytest.fixture(scope="module")
def events(finished: Worker) -> list[Event]:
    """Return the events of the study that is done; every fit took one second."""
    return [
        event.model_copy(update={"wall_s": 1.0}) if isinstance(event, TrialEnded) else event
        for event, _ in read_journal(finished.folder / JOURNAL)
    ]


def num_proposed(events: Sequence[Event]) -> int:
    """Return how many fits a planner asked for."""
    return sum(isinstance(event, TrialProposed) for event in events)


def outstanding(study: StudySpec, history: History) -> list[OutstandingFits]:
    """Count what each task has not asked for yet."""
    plan = FitPlan(study, NUM_FOLDS)
    return [plan.outstanding(history, task) for task in plan.tasks]


def total(study: StudySpec, history: History) -> int:
    """Count what all tasks have not asked for yet."""
    return sum(fits.total for fits in outstanding(study, history))


def budget_share(study: StudySpec, history: History, left_s: float) -> float:
    """Return the share of the outstanding fits that fits into some seconds."""
    plan = FitPlan(study, NUM_FOLDS)
    return TimeBudget(plan, history, history.active_s + left_s).share


def test_what_the_planner_asks_for_is_what_was_outstanding_at_every_event(
    study: StudySpec, events: list[Event]
) -> None:
    history = History()
    for position, event in enumerate(events, start=1):
        history.apply(event)
        assert total(study, history) == num_proposed(events[position:]), position


def test_the_status_counts_the_outstanding_fits_at_every_event(
    study: StudySpec, events: list[Event]
) -> None:
    history = History()
    for event in events:
        history.apply(event)
        planned = study_status(history).total("planned")
        assert planned - len(history.trials) == total(study, history)


def test_the_time_budget_is_shared_by_the_outstanding_fits_at_every_event(
    study: StudySpec, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History()
    monkeypatch.setattr(time_budget, "now", lambda: history.last_at)

    for event in events:
        history.apply(event)
        num_fits = total(study, history)
        expected = 0.5 / num_fits if num_fits else 1.0
        assert budget_share(study, history, left_s=0.5) == pytest.approx(expected)


@pytest.mark.slow
def test_a_fit_that_failed_at_once_does_not_make_its_task_look_cheap(
    study: StudySpec, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History()
    monkeypatch.setattr(time_budget, "now", lambda: history.last_at)
    ends = [event for event in events if isinstance(event, TrialEnded)]

    # The second fit of the study is another task's first one.
    for event in events[: events.index(ends[1])]:
        history.apply(event)
    history.apply(ends[1].model_copy(update={"wall_s": 0.0}))

    num_fits = total(study, history)
    assert budget_share(study, history, left_s=0.25) == pytest.approx(0.25 / (0.5 * num_fits))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])
def test_a_planner_that_resumes_asks_for_the_outstanding_fits(
    study: StudySpec, events: list[Event], finished: Worker, tmp_path: Path, share: float
) -> None:
    cut = events[: 1 + int(share * (len(events) - 1))]
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*cut)
    before = history_of(cut)

    planner = Worker(tmp_path, study, store=str(finished.folder / "store")).run()
    assert planner.is_done
    assert len(planner.history.trials) - len(before.trials) == total(study, before)


def test_nothing_is_outstanding_at_the_end(study: StudySpec, events: list[Event]) -> None:
    assert outstanding(study, history_of(events)) == [NOTHING] * (2 + 4 + 2)

    end = StudyFinished(at=events[-1].at, summary={})
    status = study_status(history_of([*events, end]))
    assert status.num_ended == status.total("planned") == num_proposed(events)
    assert status.left_s == 0


def test_the_fit_of_a_finalist_that_the_search_has_trained_is_not_counted_again(
    study: StudySpec, events: list[Event]
) -> None:
    plan = FitPlan(study, NUM_FOLDS)
    history = History()
    for event in events:
        history.apply(event)
        if not isinstance(event, FinalistsChosen):
            continue

        [task] = [task for task in plan.tasks if str(task) == event.task]
        fits = plan.refits(history, task)
        assert len(fits) == len(event.configurations) * event.seeds * NUM_FOLDS
        assert plan.outstanding(history, task).refit == len(fits) - len(event.configurations)


def test_a_finalist_that_early_stopping_ended_in_the_search_is_trained_on_every_fold(
    study: StudySpec, events: list[Event]
) -> None:
    index = next(index for index, event in enumerate(events) if isinstance(event, FinalistsChosen))
    chosen = events[index]
    assert isinstance(chosen, FinalistsChosen)
    [task] = [task for task in FitPlan(study, NUM_FOLDS).tasks if str(task) == chosen.task]

    stopped = [
        event.model_copy(update={"reason": "asha"}) if isinstance(event, TrialEnded) else event
        for event in events[: index + 1]
    ]
    num_fits = len(chosen.configurations) * chosen.seeds * NUM_FOLDS
    assert FitPlan(study, NUM_FOLDS).outstanding(history_of(stopped), task).refit == num_fits


def test_comparison_fits_are_counted_from_the_beginning_and_until_they_are_asked_for(
    study: StudySpec, events: list[Event]
) -> None:
    proposed = [event for event in events if isinstance(event, TrialProposed)]
    num_comparisons = sum(event.purpose == "comparison" for event in proposed)
    assert num_comparisons == 2 * 2 * NUM_FOLDS  # targets, seeds, folds

    begun = outstanding(study, history_of(events[:1]))
    assert sum(fits.comparison for fits in begun) == num_comparisons

    last_winner = max(
        index for index, event in enumerate(events) if isinstance(event, TaskCompleted)
    )
    rest = outstanding(study, history_of(events[: last_winner + 1]))
    assert rest[-2:] == [replace(NOTHING, comparison=num_comparisons // 2, default=NUM_FOLDS)] * 2


def test_the_default_is_counted_from_the_beginning_and_until_it_is_asked_for(
    study: StudySpec, events: list[Event]
) -> None:
    proposed = [event for event in events if isinstance(event, TrialProposed)]
    num_defaults = sum(event.purpose == "default" for event in proposed)
    assert num_defaults == (2 + 4 + 2) * NUM_FOLDS

    begun = outstanding(study, history_of(events[:1]))
    assert [fits.default for fits in begun] == [NUM_FOLDS] * (2 + 4 + 2)


def test_what_would_read_a_default_that_failed_is_not_trained(
    study: StudySpec, events: list[Event]
) -> None:
    trials = history_of(events).trials
    index, ended = next(
        (index, event)
        for index, event in enumerate(events)
        if isinstance(event, TrialEnded) and trials[event.trial].proposed.purpose == "default"
    )
    assert trials[ended.trial].proposed.task == "auto_encoder/voice"
    failed = ended.model_copy(update={"reason": "error", "error": "the loss is not finite"})

    counts = outstanding(study, history_of([*events[:index], failed]))
    assert [fits.default for fits in counts] == [0, NUM_FOLDS, 0, NUM_FOLDS, 0, NUM_FOLDS, 0, 0]


def test_a_winner_that_reads_no_difficulty_is_not_compared(
    study: StudySpec, events: list[Event]
) -> None:
    blind = study.model_copy(
        update={"fusion": study.fusion.model_copy(update={"difficulty": False})}
    )
    for index in (1, len(events)):
        fits = outstanding(blind, history_of(events[:index]))
        assert [count.comparison for count in fits] == [0] * (2 + 4 + 2)


def test_a_configuration_that_failed_is_not_trained_further(
    study: StudySpec, events: list[Event]
) -> None:
    trials = history_of(events).trials
    index = next(
        index
        for index, event in enumerate(events)
        if isinstance(event, TrialEnded) and trials[event.trial].proposed.purpose == "refit"
    )
    ended = events[index]
    assert isinstance(ended, TrialEnded)

    plan = FitPlan(study, NUM_FOLDS)
    before = history_of(events[:index])
    trial = before.trials[ended.trial]
    failed = ended.model_copy(update={"reason": "error", "error": "the loss is not finite"})
    after = history_of([*events[:index], failed])

    refits = plan.refits(before, trial.task)
    missing_before = plan.missing(before, trial.task, refits, "refit")
    configuration = trial.proposed.configuration
    expected = [fit for fit in missing_before if fit.configuration != configuration]
    assert len(expected) < len(missing_before)
    assert plan.missing(after, trial.task, refits, "refit") == expected
    assert plan.outstanding(after, trial.task).refit == len(expected)
