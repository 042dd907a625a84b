"""A study's progress says what its journal says, cheaply, with a terminal and without."""

from __future__ import annotations

import io
import json
from itertools import count

import pytest
from rich.console import Console

from tests.tuning_tests.journals import events
from tuning.journal.events import (
    COMPLETE,
    Event,
    StudyFinished,
    TaskCompleted,
    TrialEnded,
    TrialProposed,
)
from tuning.journal.history import History, history
from tuning.monitoring.live_table import LINE_S, StudyTable, status_json, status_table
from tuning.monitoring.status import duration, survey


@pytest.fixture(scope="module")
def story() -> list[Event]:
    return events()


def until(story: list[Event], kind: type[Event], number: int) -> History:
    """The history up to and with the n-th event of a kind."""
    found = History()
    seen = count(1)
    for event in story:
        found.apply(event)
        if isinstance(event, kind) and next(seen) == number:
            break
    return found


def text_of(found: History, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(status_table(found))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_counts_are_those_of_the_journal(story: list[Event]) -> None:
    found = history(story)
    state = status_json(found)
    reasons = [event.reason for event in story if isinstance(event, TrialEnded)]
    assert state["done"] == sum(reason in COMPLETE for reason in reasons)
    assert state["stopped"] == reasons.count("asha") > 0
    assert state["failed"] == reasons.count("error") == 6
    assert state["running"] == 0
    assert state["planned"] == len(reasons)
    assert state["finished"] is True
    assert state["left_s"] == 0
    assert state["epochs_trained"] == sum(
        event.epochs for event in story if isinstance(event, TrialEnded)
    )
    json.dumps(state, allow_nan=False)


def test_epochs_saved_are_those_that_stopped_trials_had_left(story: list[Event]) -> None:
    found = history(story)
    most = {"auto_encoder": 30, "unimodal": 40, "fusion": 30}
    saved = sum(
        most[trial.task.stage] - trial.ended.epochs
        for trial in found.trials.values()
        if trial.ended is not None and trial.ended.reason == "asha"
    )
    assert status_json(found)["epochs_saved"] == saved


def test_the_plan_made_at_the_beginning_is_what_happens_in_the_end(story: list[Event]) -> None:
    begun, ended = survey(until(story, TrialProposed, 1)), survey(history(story))
    # Only whether the winning fusions read difficulty is not known before.
    compared = sum(
        event.purpose == "comparison" for event in story if isinstance(event, TrialProposed)
    )
    assert begun.total("planned") - ended.total("planned") == 2 * 6 - compared


def test_phases_follow_each_other(story: list[Event]) -> None:
    def phases(found: History) -> dict[str, str]:
        return {task["task"]: task["phase"] for task in status_json(found)["tasks"]}

    begun = phases(until(story, TrialProposed, 1))
    assert begun["auto_encoder/pupil"] == "search"
    assert begun["unimodal/pupil/arousal"] == begun["fusion/arousal"] == "waiting"
    refit = next(number for number, event in enumerate(story) if isinstance(event, TaskCompleted))
    assert phases(history(story[:refit]))["auto_encoder/pupil"] == "refit"
    settled = phases(until(story, TaskCompleted, 1))
    assert settled["auto_encoder/pupil"] == "settled"
    assert (
        settled["unimodal/pupil/arousal"] == "search"
    )  # it does not wait for the other auto-encoders


def test_a_trial_without_an_end_runs_and_what_is_left_takes_time(story: list[Event]) -> None:
    found = until(story, TrialProposed, 60)
    state = status_json(found)
    assert state["running"] == 1
    assert 0 < state["left_s"] < 10 * status_json(history(story))["used_s"]
    assert state["finished"] is False


def test_what_came_from_the_store_was_not_trained(story: list[Event]) -> None:
    stored = [
        e.model_copy(update={"reason": "store"}) if isinstance(e, TrialEnded) else e for e in story
    ]
    state = status_json(history(stored))
    assert state["epochs_trained"] == state["epochs_saved"] == 0
    assert state["done"] == state["from_store"] == state["planned"]


def test_the_table_shows_every_task_and_errors_without_a_sign(story: list[Event]) -> None:
    found = history(story)
    text = text_of(found)
    for task in status_json(found)["tasks"]:
        assert task["task"] in text
    assert "RE 0." in text
    assert "-0." not in text
    assert "finished" in text
    assert max(len(line) for line in text_of(found, width=60).splitlines()) <= 60


def test_a_name_with_markup_is_shown_as_it_is() -> None:
    found = history(events(modalities=("[red]eye", "gaze"), targets=("arousal",))[:50])
    assert "auto_encoder/[red]eye" in text_of(found)


def test_without_a_terminal_a_plain_line_is_printed_now_and_then(story: list[Event]) -> None:
    ticks = count()
    console = Console(file=io.StringIO(), width=80)
    found = History()
    with StudyTable(console, clock=lambda: next(ticks) * 0.1) as table:
        for event in story:
            found.apply(event)
            table.update(found)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 3 + len(story) * 2 * 0.1 / LINE_S
    assert "fits ended" in lines[0]
    assert "finished" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_in_a_terminal_the_table_is_drawn_seldom_and_ends_as_the_study_stands(
    story: list[Event],
) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, width=100, height=40, force_terminal=True)
    ticks = count()
    found = History()
    with StudyTable(console, clock=lambda: next(ticks) * 0.01) as table:
        for event in story:
            found.apply(event)
            table.update(found)
    text = drawn.getvalue()
    assert text.count("Study fabricated") <= 3 + len(story) * 0.02 / 0.5
    assert "finished" in text[text.rindex("Study fabricated") :]


def test_a_low_terminal_shows_the_tasks_that_are_searched(story: list[Event]) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, width=100, height=14, force_terminal=True)
    with StudyTable(console) as table:
        table.update(until(story, TaskCompleted, 4))
    assert "unimodal/gaze/arousal" in drawn.getvalue()
    assert "further tasks" in drawn.getvalue()


def test_nothing_is_shown_before_the_study_opened() -> None:
    console = Console(file=io.StringIO())
    with StudyTable(console) as table:
        table.update(History())
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_finished_study_has_no_time_left(story: list[Event]) -> None:
    assert isinstance(story[-1], StudyFinished)
    assert survey(history(story)).left_s == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "60 s"), (600, "10 min"), (11100, "3 h 05 min"), (360000, "100 h 00 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
