"""Charts draw every trial and every session, and no more points than a browser likes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tuning_tests.evaluations import fabricate_evaluation
from tests.tuning_tests.journals import events
from tests.tuning_tests.report.pages import Page, numbers
from tuning.journal.events import Event
from tuning.journal.history import history_of
from tuning.report.page import render
from tuning.spec.tasks import parse_task


def test_learning_curves_show_every_trial_and_where_it_was_stopped(
    page: Page, study_events: list[Event]
) -> None:
    study_history = history_of(study_events)
    trials = [
        trial
        for trial in study_history.trials_of(parse_task("fusion/valence"))
        if trial.proposed.purpose == "search"
    ]
    stopped = [trial for trial in trials if trial.ended and trial.ended.reason == "asha"]
    num_complete = len(trials) - len(stopped)

    chart = page.charts["Learning curves of fusion/valence"]
    num_lines = {}
    for trace in chart["data"]:
        # Every line of a trace ends with a gap.
        num_lines[trace.get("name", "")] = int(np.isnan(numbers(trace["x"])).sum())
    assert num_lines[f"stopped early ({len(stopped)})"] == len(stopped)
    assert num_lines[f"trained to the end ({num_complete})"] == num_complete

    marks = next(trace for trace in chart["data"] if trace["mode"] == "markers")
    assert sorted(numbers(marks["x"])) == sorted(trial.epochs[-1].epoch for trial in stopped)
    assert {shape["x0"] for shape in chart["layout"]["shapes"]} == {5, 15}


def test_reconstruction_errors_are_drawn_without_a_sign(page: Page) -> None:
    chart = page.charts["Learning curves of auto_encoder/gaze"]
    assert all(np.nanmin(numbers(trace["y"])) > 0 for trace in chart["data"])


def test_the_table_of_trials_repeats_the_journal(page: Page, study_events: list[Event]) -> None:
    history = history_of(study_events)
    data = page.trial_data
    assert [row[0] for row in data["trials"]] == list(history.trials)

    for row in data["trials"]:
        name, task, purpose, state, devel, _, epochs, begin, end, *_, values = row
        trial = history.trials[name]
        record = data["tasks"][task]
        assert record["name"] == str(trial.task)
        assert data["purposes"][purpose] == trial.proposed.purpose
        assert epochs == len(trial.epochs)
        # An error is written as people read it: without the sign that makes it a score.
        sign = 1 if record["measure"] == "CCC" else -1
        score = None if trial.best_devel is None else sign * trial.best_devel
        assert devel == (None if score is None else pytest.approx(score, abs=1e-5))
        assert 0 <= begin <= end

        paths = [dimension["path"] for dimension in data["dimensions"][record["stage"]]]
        settings = dict(zip(paths, values, strict=True))
        known = {path: value for path, value in settings.items() if value is not None}
        assert known.keys() == trial.proposed.configuration.keys()
        for path, value in trial.proposed.configuration.items():
            is_number = isinstance(value, float)
            assert known[path] == (pytest.approx(value, rel=1e-5) if is_number else value)
        assert trial.ended is not None
        is_stopped = trial.ended.reason == "asha"
        assert (data["states"][state] == "stopped early") == is_stopped


def test_sessions_are_ranked_by_their_ccc(page: Page) -> None:
    result = fabricate_evaluation().targets["valence"]
    chart = page.charts["CCC of valence by session"]
    defined = sorted((ccc for ccc in result.session_ccc.values() if np.isfinite(ccc)), reverse=True)
    assert numbers(chart["data"][0]["x"]) == pytest.approx(defined, abs=1e-6)
    assert "1 without a defined CCC left out" in page.text


def test_long_sessions_are_thinned() -> None:
    evaluation = fabricate_evaluation(num_frames=5000, num_sessions=3)
    page = Page(render(history_of(events()[:1]), evaluation, None))

    traces = [chart for label, chart in page.charts.items() if label.startswith("Annotated")]
    assert len(traces) == 3
    for chart in traces:
        assert len(chart["data"]) > 6
        assert max(len(numbers(trace["x"])) for trace in chart["data"]) <= 600
    assert "Every 9th frame is drawn" in page.text


def test_a_session_without_variation_is_undefined_and_drawn_nonetheless(
    study_events: list[Event],
) -> None:
    evaluation = fabricate_evaluation(num_sessions=1)
    page = Page(render(history_of(study_events[:1]), evaluation, None))

    assert "P00: session CCC arousal" in page.text
    assert "valence undefined" in page.text
    assert [label for label in page.charts if "of session P00" in label]
