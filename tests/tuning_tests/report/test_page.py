"""The report says what the journal says, holds nothing that runs or loads, and is whole or not there."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from pipeline.errors import AffectuneError, InputError
from tests.tuning_tests.evaluations import evaluation, model_of
from tests.tuning_tests.journals import STUDY, events
from tuning.audit.cli_output import AUDIT
from tuning.journal.events import Event, RungDecision, StudyFinished, TrialEnded, TrialProposed
from tuning.journal.history import History, history
from tuning.report.comparisons import Cell, comparisons
from tuning.report.importance import FEWEST, importance
from tuning.report.page import REPORT, render, write_report
from tuning.report.results import scores
from tuning.report.search_trials import Searches
from tuning.spec.tasks import Task, parse_task

HOSTILE = '</script><img src=x onerror="alert(1)">'


class Page(HTMLParser):
    """The elements, headings, tables and chart data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.charts: list[dict[str, Any]] = []
        self.scripts = 0
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)
        self.scripts += tag == "script" and "type" not in dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"<{tag}> ends out of place at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        within = self.open[-1] if self.open else ""
        if within == "script" and self.tags[-1][1].get("type") == "application/json":
            self.charts.append(json.loads(data))
        elif within not in ("script", "style"):
            self.text += data

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def story() -> list[Event]:
    return events()


@pytest.fixture(scope="module")
def whole(story: list[Event]) -> str:
    found = evaluation()
    return render(history(story), found, model_of(found))


def test_an_audit_is_shown_where_there_is_one(story: list[Event], tmp_path: Path) -> None:
    estimate = {"value": 0.21, "low": 0.125, "high": 0.38}
    found = {
        **{
            "tasks": 1,
            "kept": 4,
            "stopped": 9,
            "again": 5,
            "epochs_saved": 70.0,
            "epochs_saved_share": 0.64,
        },
        **{"correlation": {"3": estimate, "9": None}, "best_killed": estimate, "regret": None},
    }
    write_report(tmp_path, history(story), None, None)
    assert "early stopping cost" not in Page((tmp_path / REPORT).read_text()).text
    audit = {
        "tasks": {"unimodal/voice/arousal": found},
        "pooled": {"CCC": {**found, "tasks": 2}},
        "notes": [HOSTILE],
    }
    (tmp_path / AUDIT).write_text(json.dumps(audit))
    write_report(tmp_path, history(story), None, None)
    page = Page((tmp_path / REPORT).read_text())
    assert "What early stopping cost" in page.text
    assert "3: 0.21 [0.12, 0.38]" in page.text
    assert "64%" in page.text
    assert "CCC: 2 tasks" in page.text
    assert HOSTILE in page.text
    assert "audit" in page.ids


def series(values: Any) -> np.ndarray:
    """A plotly series as numbers."""
    if isinstance(values, dict):
        return np.frombuffer(
            base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"])
        ).astype(float)
    return np.array(values, dtype=float)


def test_the_page_is_well_formed_and_its_links_lead_somewhere(whole: str) -> None:
    page = Page(whole)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    targets = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert targets
    assert all(target[1:] in page.ids for target in targets)


def test_nothing_is_loaded_from_elsewhere(whole: str) -> None:
    page = Page(whole)
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "base")]
    assert not [attributes for _, attributes in page.tags if "src" in attributes]
    assert "default-src 'none'" in whole
    assert page.scripts == 2  # plotly and the page's own
    assert whole.count("plotly.js v") >= 1
    assert len(whole) < 6_500_000


def test_whoever_has_only_a_keyboard_reaches_what_scrolls_and_what_unfolds(whole: str) -> None:
    page = Page(whole)
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert scrolling
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)
    assert all(a.get("aria-label") for _, a in page.tags if a.get("role") == "img")
    assert (
        sum(tag == "summary" for tag, _ in page.tags)
        == sum(tag == "details" for tag, _ in page.tags)
        > 0
    )


def test_text_from_a_study_stays_text(story: list[Event]) -> None:
    hostile = events(
        modalities=("gaze", "<b>head"), targets=("arousal<i>",), study=STUDY | {"name": "a b"}
    )
    hostile = [
        event.model_copy(update={"error": HOSTILE})
        if isinstance(event, TrialEnded) and event.error
        else event
        for event in hostile
    ]
    found = evaluation(("gaze", "<b>head"), ("arousal<i>",), prefix=HOSTILE)
    text = render(history(hostile), found, model_of(found))
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "i")]
    assert page.scripts == 2
    assert HOSTILE in page.text
    # Plotly itself reads a little HTML: what it is given is escaped once more.
    assert "<b>head" not in json.dumps([chart["layout"] for chart in page.charts])
    assert "&lt;b&gt;head" in json.dumps(page.charts)


def test_out_of_fold_scores_come_from_the_summary_where_there_is_no_model(
    story: list[Event],
) -> None:
    *before, last = story
    assert isinstance(last, StudyFinished)
    said = {"arousal": {"fusion": {"ccc": 0.312, "ccc_low": 0.244, "ccc_high": 0.388}}}
    told = last.model_copy(update={"summary": {**last.summary, "out_of_fold": said}})
    found = scores(history([*before, told]), None, None)
    assert str(found["arousal"]["out of fold"]["fusion"]) == "0.312 [0.244, 0.388]"
    assert list(found["valence"]) == ["devel"]


def test_the_winner_stands_beside_its_floors_with_intervals(whole: str) -> None:
    found = evaluation()
    text = Page(whole).text
    for target in found.targets.values():
        for name in ("fusion", "mean", "weighted mean", "without difficulty", "pupil"):
            assert str(target.scores[name]) in text
        gap = target.differences["mean"]
        assert f"{gap.ccc:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" in text
    assert str(model_of(found).out_of_fold) != "{}"
    assert "out of fold" in text


def test_without_an_evaluation_scores_come_from_the_summary() -> None:
    text = Page(
        render(history(events(modalities=("gaze", "head"), targets=("arousal",))), None, None)
    ).text
    assert "0.476" in text
    assert "[0.351, 0.574]" in text
    assert "0.482" in text
    assert "Intervals of floors and modalities are not at hand" in text
    assert "There are no traces" in text
    assert "nan" not in text.lower().replace("non-finite", "")


@pytest.mark.parametrize("share", [0.0, 0.002, 0.02, 0.3, 0.95])
def test_a_study_that_was_stopped_anywhere_has_a_report(share: float) -> None:
    story = events(modalities=("gaze", "head"), targets=("arousal",))
    text = Page(render(history(story[: 1 + int(share * len(story))]), None, None)).text
    assert "This study has not finished" in text
    assert "There is no winner yet" in text


def test_a_study_that_never_began_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to report"):
        render(History(), None, None)


def test_a_study_in_which_everything_failed_has_a_report(story: list[Event]) -> None:
    begun = [event for event in story[:60] if not isinstance(event, RungDecision)]
    failed = [
        e.model_copy(update={"reason": "error", "error": "out of memory", "score": None})
        if isinstance(e, TrialEnded)
        else e
        for e in begun
    ]
    text = Page(render(history(failed), None, None)).text
    assert "out of memory" in text
    assert "fits failed" in text


def test_cells_count_only_what_is_alike(story: list[Event]) -> None:
    found = history(story)
    task = Task("unimodal", "gaze", "valence")
    trials = [
        trial
        for trial in found.of(task)
        if trial.proposed.purpose == "search" and trial.ended and trial.ended.reason != "error"
    ]
    bigru = [
        t
        for t in trials
        if t.proposed.values["network.cell"] == "gru" and t.proposed.values["network.bidirectional"]
    ]
    complete = [
        trial.ended.score or 0.0
        for trial in bigru
        if trial.ended and trial.ended.reason in ("patience", "max_epochs")
    ]
    early = [max(epoch.score for epoch in trial.epochs[:4]) for trial in bigru]
    cells = comparisons(Searches(found))[0]
    assert (cells.paper, cells.columns, cells.rung) == (
        "Tables 1 and 2",
        ("LSTM", "BiLSTM", "GRU", "BiGRU"),
        4,
    )
    rows = {row.name: row for row in dict(cells.groups)["valence"]}
    cell: Cell = rows["gaze"].cells[3]
    assert cell.best == max(complete)
    assert cell.trained is not None
    assert cell.trained.number == len(complete)
    assert cell.trained.value == pytest.approx(fmean(complete))
    assert cell.trained.spread == pytest.approx(stdev(complete))
    assert cell.stopped == len(bigru) - len(complete)
    assert cell.early is not None
    assert cell.early.number == len(bigru)
    assert cell.early.value == pytest.approx(fmean(early))


def test_every_trial_of_a_search_is_in_every_table_of_its_stage(story: list[Event]) -> None:
    found = Searches(history(story))
    for comparison in comparisons(found):
        stage = "fusion" if comparison.paper in ("Table 7", "Table 8") else "unimodal"
        cells = [cell for _, rows in comparison.groups for row in rows for cell in row.cells]
        counted = sum(cell.stopped + (cell.trained.number if cell.trained else 0) for cell in cells)
        assert counted == sum(len(found.of(task)) for task in found.tasks if task.stage == stage), (
            comparison.title
        )


def test_pairs_differ_in_difficulty_alone(story: list[Event]) -> None:
    found = history(story)
    for comparison in comparisons(Searches(found)):
        if comparison.paper != "Table 8":
            continue
        for row in comparison.groups[0][1]:
            alike: dict[str, dict[bool, float]] = {}
            for trial in found.of(Task("fusion", "", row.name)):
                if trial.proposed.purpose == "search" and trial.complete and trial.best is not None:
                    values = dict(trial.proposed.values)
                    alike.setdefault(str(sorted(values.items())).replace("True", "False"), {})[
                        bool(values["difficulty"])
                    ] = trial.best
            gaps = [best[True] - best[False] for best in alike.values() if len(best) == 2]
            assert (row.paired.number if row.paired else 0) == len(gaps)
            if row.paired:
                assert row.paired.value == pytest.approx(fmean(gaps))


def test_what_was_not_varied_is_said() -> None:
    search = {**STUDY["search"]}
    search["unimodal"] = {
        **search["unimodal"],
        "space": {"fit.learning_rate": {"loguniform": [0.001, 0.01]}},
    }
    found = history(events(0, ("gaze", "head"), ("arousal",), STUDY | {"search": search}))
    notes = {comparison.paper: comparison.note for comparison in comparisons(Searches(found))}
    assert notes["Tables 1 and 2"] == (
        "Not varied in this study: every trial had network.cell = gru, network.bidirectional = True."
    )
    assert "fit.loss = ccc" in notes["Tables 3 and 4"]
    assert notes["Table 7"] == ""
    render(found, None, None)


def test_importance_finds_the_setting_that_decides_and_says_where_there_are_too_few() -> None:
    def scored(event: Event, proposed: dict[str, TrialProposed]) -> Event:
        """Scores that depend on the cell alone."""
        if not isinstance(event, TrialEnded) or event.reason == "error":
            return event
        noise = 0.01 * (int(event.trial) % 7)
        better = proposed[event.trial].values.get("network.cell") == "gru"
        return event.model_copy(update={"score": 0.5 * better + noise, "reason": "max_epochs"})

    story = events(modalities=("gaze", "head"), targets=("arousal",))
    proposed = {event.trial: event for event in story if isinstance(event, TrialProposed)}
    found = Searches(history(scored(event, proposed) for event in story))
    unimodal = importance(found, Task("unimodal", "gaze", "arousal"))
    assert unimodal.basis == "35 trials that were trained to the end"
    assert unimodal.shares["network.cell"] > 0.9
    assert sum(unimodal.shares.values()) == pytest.approx(1)
    few = importance(found, Task("auto_encoder", "gaze", ""))
    assert few.shares == {}
    assert f"fewer than {FEWEST}" in few.note


def test_learning_curves_show_every_trial_and_where_it_was_stopped(
    whole: str, story: list[Event]
) -> None:
    found = history(story)
    chart = _charts_of(whole, "Learning curves of fusion/valence")
    trials = [t for t in found.of(parse_task("fusion/valence")) if t.proposed.purpose == "search"]
    stopped = [t for t in trials if t.ended and t.ended.reason == "asha"]
    by_name = {trace.get("name", ""): trace for trace in chart["data"]}
    gaps = {
        name: int(np.isnan(series(trace["x"])).sum()) for name, trace in by_name.items() if name
    }
    assert gaps[f"stopped early ({len(stopped)})"] == len(stopped)
    assert gaps[f"trained to the end ({len(trials) - len(stopped)})"] == len(trials) - len(stopped)
    ends = next(trace for trace in chart["data"] if trace["mode"] == "markers")
    assert sorted(series(ends["x"])) == sorted(trial.epochs[-1].epoch for trial in stopped)
    rungs = {shape["x0"] for shape in chart["layout"]["shapes"]}
    assert rungs == {5, 15}


def test_reconstruction_errors_are_drawn_without_a_sign(whole: str) -> None:
    chart = _charts_of(whole, "Learning curves of auto_encoder/gaze")
    assert all(np.nanmin(series(trace["y"])) > 0 for trace in chart["data"])


def test_long_sessions_and_searches_are_thinned() -> None:
    found = evaluation(frames=5000, sessions=3)
    text = render(history(events()[:1]), found, None)
    traces = [chart for chart in Page(text).charts if len(chart["data"]) > 6]
    assert len(traces) == 3
    assert max(len(series(trace["x"])) for chart in traces for trace in chart["data"]) <= 600
    assert "Every 9th frame is drawn" in text


def test_a_session_without_variation_is_undefined_and_drawn_nonetheless(story: list[Event]) -> None:
    text = Page(render(history(story[:1]), evaluation(sessions=1), None)).text
    assert "P00: CCC arousal" in text
    assert "valence undefined" in text


def test_it_is_written_whole_and_replaces_what_was_there(
    tmp_path: Path, story: list[Event]
) -> None:
    begun = history(story[:3])
    first = write_report(tmp_path, begun, None, None)
    assert first == tmp_path / REPORT
    first.write_text("old")
    write_report(tmp_path, begun, None, None)
    assert first.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == [REPORT]


def test_a_folder_that_is_not_there_is_an_error_without_a_traceback(
    tmp_path: Path, story: list[Event]
) -> None:
    with pytest.raises(AffectuneError, match="Cannot write the report"):
        write_report(tmp_path / "gone", history(story[:3]), None, None)


def test_it_says_how_to_run_the_study_again(whole: str) -> None:
    text = Page(whole).text
    assert "affectune study run STUDY.toml --corpus somewhere/made-up" in text
    assert "0123456789abcdef0123456789abcdef01234567" in text
    assert "2.13.0" in text
    assert '"learning_rate"' in text


def _charts_of(text: str, label: str) -> dict[str, Any]:
    found = re.search(
        rf'aria-label="{re.escape(label)}"[^>]*></div>\s*<script type="application/json">(.*?)</script>',
        text,
        re.S,
    )
    assert found, label
    chart: dict[str, Any] = json.loads(found[1])
    return chart
