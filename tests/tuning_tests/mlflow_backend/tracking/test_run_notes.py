"""The descriptions of runs say what matters first, whatever names they hold, and fit."""

from __future__ import annotations

import re

from tests.tuning_tests.journals import events
from tests.tuning_tests.mlflow_backend.tracking.study_events import (
    TASK,
    finalist,
    study_opened,
    whole_trial,
)
from tuning.journal.events import Event, ModelRegistered, StudyJudged, TaskCompleted
from tuning.mlflow_backend.tracking.run_notes import MAX_NOTE, NOTE_TAG
from tuning.mlflow_backend.tracking.run_updates import STUDY, RunTree


def notes(journal: list[Event]) -> dict[str, str]:
    """Return the last description of every run of a finished study that was registered."""
    tree = RunTree("3")
    last: dict[str, str] = {}
    for event in (*journal, ModelRegistered(at=2e9, model="my model", version="4")):
        for update in tree.apply(event):
            if NOTE_TAG in update.tags:
                last[update.name] = update.tags[NOTE_TAG]
    return last


def test_a_study_says_what_it_registered_how_good_it_is_and_with_which_settings() -> None:
    note = notes(events())[STUDY]
    first_lines = note[:1200]
    assert "[my model version 4](#/models/my%20model/versions/4?workflowType=machine" in first_lines

    judged = next(event for event in events() if isinstance(event, StudyJudged))
    for target, judgement in judged.targets.items():
        deciding = f"{judgement.chosen.deciding:.3f}"
        assert re.search(rf"\| {target} \| \*\*.*\*\* \| {deciding} \|", first_lines)

    completed = [event for event in events() if isinstance(event, TaskCompleted)]
    assert note.count("[compare](#/experiments/3/runs?") == len(completed)
    tasks = re.findall(r"^\| (\S+/\S+) \|", note, flags=re.MULTILINE)
    assert len(tasks) == len(completed)
    assert tasks[0].startswith("fusion/")


def test_a_task_lists_its_finalists_and_the_trials_that_trained_its_winner() -> None:
    best = finalist().model_copy(update={"keys": (("key 2", "key 0"), ("of another study",))})
    completed = TaskCompleted(at=1300, task=TASK, finalists=(best, finalist()))
    tree = RunTree("3")
    for event in (study_opened(), *whole_trial(0, "store"), *whole_trial(2, "patience")):
        tree.apply(event)

    note = next(u for u in tree.apply(completed) if u.name == TASK).tags[NOTE_TAG]
    assert "| 1 | 1 x (a 1); 2 x (a 2) | 0.500 | 0.300 | 0.600 |" in note
    assert "| 2 | 1 x" in note
    assert "trained by the trials 0000, 0002." in note


def test_a_note_of_many_tasks_fits_and_says_what_is_left_out() -> None:
    modalities = tuple(f"modality | {number} **b**" for number in range(8))
    journal = events(modalities=modalities, targets=("it's | arousal",))
    note = notes(journal)[STUDY]
    assert len(note) <= MAX_NOTE
    assert re.search(r"\d+ further rows are left out here", note)
    assert "\n| it's \\| arousal |" in note
