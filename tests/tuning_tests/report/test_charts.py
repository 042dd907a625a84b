"""Charts draw every trial and every session, and no more points than a browser likes."""

from __future__ import annotations

import numpy as np

from tests.tuning_tests.evaluations import fabricate_evaluation
from tests.tuning_tests.journals import events
from tests.tuning_tests.report.pages import Page, numbers
from tuning.journal.events import Event, TrialEnded
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


def test_the_lowest_reconstruction_error_is_on_top_of_its_axis(
    page: Page, study_events: list[Event]
) -> None:
    trials = history_of(study_events).trials_of(parse_task("auto_encoder/gaze"), "search")
    errors = [-trial.best_devel for trial in trials if trial.best_devel is not None]

    layout = page.charts["Parallel coordinates of auto_encoder/gaze"]["layout"]
    score_axis = len(layout["xaxis"]["ticktext"]) - 1
    ticks = {note["y"]: note["text"] for note in layout["annotations"] if note["x"] == score_axis}
    assert ticks == {0.0: f"{max(errors):.3f}", 1.0: f"{min(errors):.3f}"}


def test_a_negative_ccc_keeps_its_sign_under_the_pointer() -> None:
    study_events = [
        event.model_copy(update={"devel": -0.25})
        if isinstance(event, TrialEnded) and event.reason == "asha"
        else event
        for event in events(modalities=("gaze", "head"), targets=("arousal",))
    ]
    page = Page(render(history_of(study_events), None, None))

    chart = page.charts["Parallel coordinates of fusion/arousal"]
    stopped = next(trace for trace in chart["data"] if trace["name"].startswith("stopped"))
    scores = numbers(stopped["customdata"]).reshape(-1, 2)[:, 1]
    assert set(scores[np.isfinite(scores)]) == {-0.25}


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
