"""A study's status agrees with its journal, and is shown cheaply, with a terminal and without."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from itertools import count

import pytest
from rich.console import Console

from tests.tuning_tests.journals import events
from tuning.journal.events import (
    COMPLETE,
    Event,
    RungDecision,
    StudyFinished,
    TaskCompleted,
    TrialEnded,
    TrialProposed,
)
from tuning.journal.history import History, history_of
from tuning.monitoring.live_table import LINE_S, Course, LiveTable, status_table
from tuning.monitoring.status import (
    format_duration,
    format_score,
    status_json,
    study_status,
)

MAX_EPOCHS = {"auto_encoder": 30, "unimodal": 40, "fusion": 30}
SCORE = r"(?:RE )?-?\d\.\d{3}"


@pytest.fixture(scope="module")
def journal() -> list[Event]:
    """Return the events of a study that is finished."""
    return events()


def history_until(journal: list[Event], kind: type[Event], number: int) -> History:
    """Return the history up to and with the n-th event of a kind."""
    history = History()
    numbers = count(1)

    for event in journal:
        history.apply(event)
        if isinstance(event, kind) and next(numbers) == number:
            break
    return history


def table_text(history: History, width: int = 120) -> str:
    """Return the table of a study's status as text."""
    output = io.StringIO()
    Console(file=output, width=width).print(status_table(history))
    return output.getvalue()


def printed_lines(journal: list[Event], tick_s: float) -> list[str]:
    """Return what is printed without a terminal; the clock is read every some seconds."""
    output = io.StringIO()
    ticks = count()
    history = History()

    with LiveTable(Console(file=output, width=80), clock=lambda: next(ticks) * tick_s) as table:
        for event in journal:
            history.apply(event)
            table.update(history)
    return output.getvalue().splitlines()


def phases(history: History) -> dict[str, str]:
    """Return the phase of every task."""
    return {task["task"]: task["phase"] for task in status_json(history)["tasks"]}


def histories(journal: list[Event]) -> Iterator[History]:
    """Yield the history as it was after every event."""
    history = History()
    for event in journal:
        history.apply(event)
        yield history


def test_counts_are_those_of_the_journal(journal: list[Event]) -> None:
    status = status_json(history_of(journal))
    ends = [event for event in journal if isinstance(event, TrialEnded)]
    reasons = [end.reason for end in ends]

    assert status["done"] == sum(reason in COMPLETE for reason in reasons)
    assert status["stopped"] == reasons.count("asha") > 0
    assert status["failed"] == reasons.count("error") == 6
    assert status["running"] == 0
    assert status["planned"] == len(reasons)
    assert status["finished"] is True
    assert status["left_s"] == 0
    assert status["epochs_trained"] == sum(end.epochs for end in ends)
    json.dumps(status, allow_nan=False)


def test_epochs_saved_are_those_that_stopped_trials_had_left(journal: list[Event]) -> None:
    history = history_of(journal)
    saved = sum(
        MAX_EPOCHS[trial.task.stage] - trial.ended.epochs
        for trial in history.trials.values()
        if trial.ended is not None and trial.ended.reason == "asha"
    )
    assert status_json(history)["epochs_saved"] == saved


def test_the_fits_planned_at_the_beginning_are_those_made_in_the_end(
    journal: list[Event],
) -> None:
    begun = study_status(history_until(journal, TrialProposed, 1))
    ended = study_status(history_of(journal))

    # Only whether the winning fusions read difficulty is not known before.
    proposed = [event for event in journal if isinstance(event, TrialProposed)]
    num_comparisons = sum(event.purpose == "comparison" for event in proposed)
    assert begun.total("planned") - ended.total("planned") == 2 * 6 - num_comparisons


def test_phases_follow_each_other(journal: list[Event]) -> None:
    begun = phases(history_until(journal, TrialProposed, 1))
    assert begun["auto_encoder/pupil"] == "search"
    assert begun["unimodal/pupil/arousal"] == begun["fusion/arousal"] == "waiting"

    position = next(i for i, event in enumerate(journal) if isinstance(event, TaskCompleted))
    assert phases(history_of(journal[:position]))["auto_encoder/pupil"] == "refit"

    completed = phases(history_until(journal, TaskCompleted, 1))
    assert completed["auto_encoder/pupil"] == "completed"
    # It does not wait for the other auto-encoders.
    assert completed["unimodal/pupil/arousal"] == "search"


def test_a_trial_without_an_end_runs_and_what_is_outstanding_takes_time(
    journal: list[Event],
) -> None:
    status = status_json(history_until(journal, TrialProposed, 60))
    assert status["running"] == 1
    assert 0 < status["left_s"] < 10 * status_json(history_of(journal))["used_s"]
    assert status["finished"] is False


def test_what_came_from_the_store_was_not_trained(journal: list[Event]) -> None:
    from_store = [
        event.model_copy(update={"reason": "store"}) if isinstance(event, TrialEnded) else event
        for event in journal
    ]
    status = status_json(history_of(from_store))

    assert status["epochs_trained"] == status["epochs_saved"] == 0
    assert status["done"] == status["from_store"] == status["planned"]


def test_the_table_shows_every_task_and_errors_without_a_sign(journal: list[Event]) -> None:
    history = history_of(journal)
    text = table_text(history)

    for task in status_json(history)["tasks"]:
        assert task["task"] in text
    assert "RE 0." in text
    assert "-0." not in text
    assert "finished" in text
    assert max(len(line) for line in table_text(history, width=60).splitlines()) <= 60


def with_deciding_score(event: Event) -> Event:
    """Return an event with the deciding score that a worker reports beside that on devel."""
    if isinstance(event, RungDecision):
        return event.model_copy(update={"deciding": event.score - 0.05})
    if isinstance(event, TrialEnded) and event.devel is not None:
        return event.model_copy(update={"deciding": event.devel - 0.05})
    return event


def test_the_best_score_of_a_task_is_one_quantity_and_never_falls(journal: list[Event]) -> None:
    [heading] = [line for line in table_text(history_of(journal)).splitlines() if "phase" in line]
    assert heading.split()[-2:] == ["best", "winner"]

    # At the end as at the beginning it is a trial's score, and the winner's mean is another column.
    highest: dict[str, float] = {}
    for history in histories([with_deciding_score(event) for event in journal]):
        for task in study_status(history).tasks:
            if task.best is not None:
                assert task.best >= highest.get(str(task.task), float("-inf"))
                highest[str(task.task)] = task.best
            assert task.best is not None or str(task.task) not in highest
            assert (task.winner is None) == (task.task not in history.completed)
    assert len(highest) == 3 + 6 + 2


def test_the_view_has_budget_workers_and_link_and_fits_80_columns_and_24_lines(
    journal: list[Event],
) -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, height=24, force_terminal=True, color_system=None)
    link = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
    course = Course(num_workers=4, budget_s=7200.0, mlflow=link)
    with LiveTable(console) as table:
        table.update(history_until(journal, TaskCompleted, 4), lambda: course)

    frame = re.split(r"\x1b\[[0-9;?]*[A-Za-z]", output.getvalue())
    lines = max(frame, key=len).splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert f"MLflow: {link}" in text
    assert " used of 2 h 00 min, " in text
    assert "4 workers" in text
    for task in study_status(history_of(journal)).tasks:
        assert str(task.task) in text


def test_a_name_with_markup_is_shown_as_it_is() -> None:
    history = history_of(events(modalities=("[red]eye", "gaze"), targets=("arousal",))[:50])
    assert "auto_encoder/[red]eye" in table_text(history)


def test_without_a_terminal_a_plain_line_is_printed_now_and_then(journal: list[Event]) -> None:
    lines = printed_lines(journal, tick_s=0.1)

    assert len(lines) <= 3 + len(journal) * 2 * 0.1 / LINE_S
    assert "fits ended" in lines[0]
    assert "finished" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_plain_lines_name_the_best_score_and_the_winners(journal: list[Event]) -> None:
    lines = printed_lines(journal, tick_s=LINE_S)
    for target in ("arousal", "valence"):
        scores = rf"fusion/{target}: (best {SCORE}, )?winner {SCORE}[;.]"
        assert re.search(scores, lines[-1]), lines[-1]


def test_the_last_plain_line_agrees_with_the_table(journal: list[Event]) -> None:
    history = history_of(journal)
    last_line = printed_lines(journal, tick_s=0.1)[-1]
    counts, times, *rows = table_text(history, width=200).splitlines()
    assert last_line.startswith(counts.split(": ", 1)[1].strip())
    assert times.strip().lower() in last_line

    for task in study_status(history).tasks:
        if task.task.stage == "fusion":
            winner = format_score(task.task, task.winner)
            assert re.search(rf"{task.task}: [^;]*winner {winner}", last_line)
            [row] = [row for row in rows if str(task.task) in row]
            assert row.split()[-2:] == [format_score(task.task, task.best), winner]


def test_in_a_terminal_the_table_is_drawn_seldom_and_ends_with_the_last_status(
    journal: list[Event],
) -> None:
    output = io.StringIO()
    console = Console(file=output, width=100, height=40, force_terminal=True)
    ticks = count()
    history = History()

    with LiveTable(console, clock=lambda: next(ticks) * 0.01) as table:
        for event in journal:
            history.apply(event)
            table.update(history)

    text = output.getvalue()
    assert text.count("Study fabricated") <= 3 + len(journal) * 0.02 / 0.5
    assert "finished" in text[text.rindex("Study fabricated") :]


def test_a_low_terminal_shows_the_tasks_that_are_searched(journal: list[Event]) -> None:
    output = io.StringIO()
    console = Console(file=output, width=100, height=14, force_terminal=True)
    with LiveTable(console) as table:
        table.update(history_until(journal, TaskCompleted, 4))

    assert "unimodal/gaze/arousal" in output.getvalue()
    assert "further tasks" in output.getvalue()


def test_nothing_is_shown_before_the_study_is_opened() -> None:
    output = io.StringIO()
    with LiveTable(Console(file=output)) as table:
        table.update(History())
    assert output.getvalue() == ""


def test_a_finished_study_has_no_time_left(journal: list[Event]) -> None:
    assert isinstance(journal[-1], StudyFinished)
    assert study_status(history_of(journal)).left_s == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "60 s"), (600, "10 min"), (11100, "3 h 05 min"), (360000, "100 h 00 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
