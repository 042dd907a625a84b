"""Comparisons and importances count the trials of a search, each where it belongs."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev

import pytest

from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import Task
from pipeline.stages.unimodal import UnimodalTask
from tests.tuning_tests.journals import STUDY, events
from tuning.journal.events import Event, TrialEnded, TrialProposed
from tuning.journal.history import History, Trial, history_of
from tuning.report.comparisons import Comparison, comparisons
from tuning.report.importance import MIN_TRIALS, importance
from tuning.report.page import render
from tuning.report.search_trials import Searches


def test_a_cell_counts_the_trials_with_its_setting(study_events: list[Event]) -> None:
    study_history = history_of(study_events)
    trials = []
    for trial in _search_trials(study_history, UnimodalTask("gaze", "valence")):
        values = trial.proposed.configuration
        if values["network.cell"] == "gru" and values["network.bidirectional"]:
            trials.append(trial)
    complete = [
        trial.ended.devel or 0.0
        for trial in trials
        if trial.ended and trial.ended.reason in ("patience", "max_epochs")
    ]
    at_rung = [max(epoch.score for epoch in trial.epochs[:4]) for trial in trials]

    comparison = comparisons(Searches(study_history))[0]
    assert comparison.paper == "Tables 1 and 2"
    assert comparison.columns == ("LSTM", "BiLSTM", "GRU", "BiGRU")
    assert comparison.rung == 4

    valence = next(group for group in comparison.groups if group.heading == "valence")
    cell = next(row for row in valence.rows if row.name == "gaze").cells[3]
    assert cell.highest == max(complete)
    assert cell.mean is not None
    assert cell.mean.num_values == len(complete)
    assert cell.mean.value == pytest.approx(fmean(complete))
    assert cell.mean.spread == pytest.approx(stdev(complete))
    assert cell.num_stopped == len(trials) - len(complete)
    assert cell.mean_at_rung is not None
    assert cell.mean_at_rung.num_values == len(trials)
    assert cell.mean_at_rung.value == pytest.approx(fmean(at_rung))


def test_every_trial_of_a_search_is_in_every_table_of_its_stage(study_events: list[Event]) -> None:
    searches = Searches(history_of(study_events))
    num_trials = {"unimodal": 0, "fusion": 0, "auto_encoder": 0}
    for task in searches.tasks:
        num_trials[task.stage] += len(searches.trials(task))

    for comparison in comparisons(searches):
        stage = "fusion" if comparison.paper in ("Table 7", "Table 8") else "unimodal"
        assert _num_trials(comparison) == num_trials[stage], comparison.title


def test_pairs_differ_in_difficulty_alone(study_events: list[Event]) -> None:
    study_history = history_of(study_events)
    tables = {table.paper: table for table in comparisons(Searches(study_history))}

    for row in tables["Table 8"].groups[0].rows:
        pairs: dict[str, dict[bool, float]] = {}
        for trial in _search_trials(study_history, FusionTask(target=row.name)):
            if trial.is_complete and trial.best_devel is not None:
                values = dict(trial.proposed.configuration)
                has_difficulty = bool(values.pop("difficulty"))
                pairs.setdefault(str(sorted(values.items())), {})[has_difficulty] = trial.best_devel

        differences = [pair[True] - pair[False] for pair in pairs.values() if len(pair) == 2]
        assert (row.paired.num_values if row.paired else 0) == len(differences)
        if row.paired:
            assert row.paired.value == pytest.approx(fmean(differences))


def test_a_table_of_settings_that_were_not_varied_is_a_note() -> None:
    unimodal = {
        **STUDY["search"]["unimodal"],
        "space": {"fit.learning_rate": {"loguniform": [0.001, 0.01]}},
    }
    study = STUDY | {"search": {**STUDY["search"], "unimodal": unimodal}}
    study_history = history_of(events(0, ("gaze", "head"), ("arousal",), study))

    notes = {table.paper: table.note for table in comparisons(Searches(study_history))}
    assert notes["Tables 1 and 2"] == (
        "Not varied in this study: every trial had network.cell = gru, "
        "network.bidirectional = True."
    )
    assert "fit.loss = ccc" in notes["Tables 3 and 4"]
    assert notes["Table 7"] == ""
    render(study_history, None, None)


def test_importance_belongs_to_the_setting_that_decides() -> None:
    searches = Searches(history_of(_scored_by_cell(events(0, ("gaze", "head"), ("arousal",)))))

    unimodal = importance(searches, UnimodalTask("gaze", "arousal"))
    assert unimodal.basis == "35 trials that were trained to the end"
    assert unimodal.shares["network.cell"] > 0.9
    assert sum(unimodal.shares.values()) == pytest.approx(1)


def test_there_is_no_importance_from_too_few_trials() -> None:
    searches = Searches(history_of(_scored_by_cell(events(0, ("gaze", "head"), ("arousal",)))))

    auto_encoder = importance(searches, AutoEncoderTask("gaze"))
    assert auto_encoder.shares == {}
    assert f"fewer than {MIN_TRIALS}" in auto_encoder.note


def _search_trials(study_history: History, task: Task) -> list[Trial]:
    """The trials of a search that did not fail, from the journal."""
    return [
        trial
        for trial in study_history.trials_of(task)
        if trial.proposed.purpose == "search" and trial.ended and trial.ended.reason != "error"
    ]


def _num_trials(comparison: Comparison) -> int:
    count = 0
    for group in comparison.groups:
        for row in group.rows:
            count += sum(cell.num_stopped for cell in row.cells)
            count += sum(cell.mean.num_values for cell in row.cells if cell.mean)
    return count


def _scored_by_cell(study_events: Iterable[Event]) -> list[Event]:
    """Let every trial's score depend on the recurrent cell alone, but for a little noise."""
    scored: list[Event] = []
    cells = {}
    for event in study_events:
        if isinstance(event, TrialProposed):
            cells[event.trial] = event.configuration.get("network.cell")
        if isinstance(event, TrialEnded) and event.reason != "error":
            noise = 0.01 * (int(event.trial) % 7)
            score = 0.5 * (cells[event.trial] == "gru") + noise
            event = event.model_copy(update={"devel": score, "reason": "max_epochs"})
        scored.append(event)
    return scored
