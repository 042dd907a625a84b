"""The report repeats the journal, loads nothing from elsewhere, and is written atomically."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.errors import AffectuneError, InputError
from pipeline.evaluation.paired_scores import PairedScores
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from tests.tuning_tests.evaluations import fabricate_evaluation, fabricate_model
from tests.tuning_tests.journals import STUDY, events
from tests.tuning_tests.report.pages import Page
from tuning.audit.cli_output import AUDIT
from tuning.journal.events import Event, RungDecision, StudyFinished, TrialEnded
from tuning.journal.history import History, history_of
from tuning.report.nested_scores import NESTED, NestedScores, OuterFoldRecord
from tuning.report.page import REPORT, render, write_report
from tuning.report.results import winner_scores

HOSTILE = '</script><img src=x onerror="alert(1)">'


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page: Page) -> None:
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)

    targets = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert targets
    assert all(target[1:] in page.ids for target in targets)


def test_links_to_mlflow_are_links_and_commands_are_commands() -> None:
    address = "http://host:5000/#/experiments/1?workflowType=machine_learning"
    lines = [f"Runs: {address}", "In MLflow, while this runs:", "  mlflow ui --port 5000"]
    html = render(history_of(events()[:1]), None, None, links=lines)

    assert ("a", {"href": address}) in Page(html).tags
    assert "<dt>In MLflow, while this runs</dt><dd><code>mlflow ui --port 5000</code></dd>" in html


def test_nothing_is_loaded_from_elsewhere(html: str, page: Page) -> None:
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "base")]
    assert not [attributes for _, attributes in page.tags if "src" in attributes]
    assert "default-src 'none'" in html
    assert page.num_scripts == 1
    packed = html.split('<script type="text/plain" id="plotly">')[1].split("</script>")[0]
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(packed))[:1000]
    assert len(html) < 3_500_000


def test_a_keyboard_reaches_all_that_scrolls_and_unfolds(page: Page) -> None:
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert scrolling
    assert all(item.get("tabindex") == "0" and item.get("aria-label") for item in scrolling)

    images = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert all(image.get("aria-label") for image in images)

    tags = [tag for tag, _ in page.tags]
    assert tags.count("summary") == tags.count("details") > 0


def test_text_from_a_study_stays_text() -> None:
    modalities, targets = ("gaze", "<b>head"), ("arousal<i>",)
    study_events = [
        event.model_copy(update={"error": HOSTILE})
        if isinstance(event, TrialEnded) and event.error
        else event
        for event in events(modalities=modalities, targets=targets, study=STUDY | {"name": "a b"})
    ]
    evaluation = fabricate_evaluation(modalities, targets, prefix=HOSTILE)
    page = Page(render(history_of(study_events), evaluation, fabricate_model(evaluation)))

    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "i")]
    assert page.num_scripts == 1
    assert HOSTILE in page.text

    # Plotly itself reads a little HTML: what it is given is escaped once more.
    charts = list(page.charts.values())
    assert "<b>head" not in json.dumps([chart["layout"] for chart in charts])
    assert "&lt;b&gt;head" in json.dumps(charts)


def test_the_winner_stands_beside_its_floors_with_intervals(page: Page) -> None:
    evaluation = fabricate_evaluation()
    for target in evaluation.targets.values():
        for name in ("fusion", "mean", "weighted mean", "without difficulty", "pupil"):
            assert str(target.scores[name]) in page.text
        gap = target.differences["mean"]
        assert f"{gap.ccc:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" in page.text

    assert str(fabricate_model(evaluation).out_of_fold) != "{}"
    assert "out of fold" in page.text


def test_without_an_evaluation_scores_come_from_the_summary() -> None:
    study_events = events(modalities=("gaze", "head"), targets=("arousal",))
    text = Page(render(history_of(study_events), None, None)).text

    assert "0.476" in text
    assert "[0.351, 0.574]" in text
    assert "0.482" in text
    assert "Intervals of floors and modalities are not at hand" in text
    assert "There are no traces" in text
    assert "nan" not in text.lower().replace("non-finite", "")


def test_without_a_model_out_of_fold_scores_come_from_the_summary(
    study_events: list[Event],
) -> None:
    *earlier, finished = study_events
    assert isinstance(finished, StudyFinished)
    record = {"arousal": {"fusion": {"ccc": 0.312, "ccc_low": 0.244, "ccc_high": 0.388}}}
    summary = {**finished.summary, "out_of_fold": record}
    finished = finished.model_copy(update={"summary": summary})

    scores = winner_scores(history_of([*earlier, finished]), None, None)
    assert str(scores["arousal"].out_of_fold["fusion"]) == "0.312 [0.244, 0.388]"
    assert scores["valence"].out_of_fold == {}


def test_a_fusion_below_a_floor_of_labels_alone_is_no_better_on_the_first_screen() -> None:
    study_events = events(modalities=("gaze", "head"), targets=("arousal",))
    evaluation = fabricate_evaluation(("gaze", "head"), ("arousal",))
    records = {
        "fusion": {"ccc": 0.3, "ccc_low": 0.2, "ccc_high": 0.4},
        "stimulus alone": {"ccc": 0.56, "ccc_low": 0.5, "ccc_high": 0.63},
    }
    model = cast(FusedModel, SimpleNamespace(out_of_fold={"arousal": records}))

    text = Page(render(history_of(study_events), evaluation, model)).text
    sentence = "CCC of arousal out of fold: fusion (0.300) is no better than stimulus alone (0.560)"
    assert sentence in text
    assert text.index(sentence) < text.index("configurations of all stages")


def test_the_split_says_for_whom_scores_out_of_fold_are() -> None:
    text = Page(render(history_of(events()), None, None)).text
    assert "folds grouped by subject" in text
    assert "new people, shown what the training people were shown" in text


@pytest.mark.parametrize("share", [0.0, 0.002, 0.02, 0.3, 0.95])
def test_a_study_that_was_stopped_anywhere_has_a_report(share: float) -> None:
    study_events = events(modalities=("gaze", "head"), targets=("arousal",))
    first_events = study_events[: 1 + int(share * len(study_events))]
    text = Page(render(history_of(first_events), None, None)).text

    assert "This study has not finished" in text
    assert "There is no winner yet" in text


def test_a_study_that_never_began_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to report"):
        render(History(), None, None)


def test_a_study_in_which_everything_failed_has_a_report(study_events: list[Event]) -> None:
    failure = {"reason": "error", "error": "out of memory", "score": None}
    failed_events = [
        event.model_copy(update=failure) if isinstance(event, TrialEnded) else event
        for event in study_events[:60]
        if not isinstance(event, RungDecision)
    ]
    text = Page(render(history_of(failed_events), None, None)).text

    assert "out of memory" in text
    assert "trials failed" in text


def test_the_page_shows_how_to_reproduce_the_study(page: Page) -> None:
    assert "affectune study run STUDY.toml --corpus somewhere/made-up" in page.text
    assert "0123456789abcdef0123456789abcdef01234567" in page.text
    assert "2.13.0" in page.text
    assert '"learning_rate"' in page.text


@pytest.mark.slow
def test_an_audit_is_in_the_report_where_there_is_one(
    study_events: list[Event], tmp_path: Path
) -> None:
    write_report(tmp_path, history_of(study_events), None, None)
    assert "early stopping cost" not in Page((tmp_path / REPORT).read_text()).text

    estimate = {"value": 0.21, "low": 0.125, "high": 0.38}
    cost = {
        "num_tasks": 1,
        "num_kept": 4,
        "num_stopped": 9,
        "num_retrained": 5,
        "epochs_saved": 70.0,
        "epochs_saved_share": 0.64,
        "rank_correlation": {"3": estimate, "9": None},
        "best_stopped": estimate,
        "regret": None,
    }
    audit = {
        "tasks": {"unimodal/voice/arousal": cost},
        "pooled": {"CCC": {**cost, "num_tasks": 2}},
        "notes": [HOSTILE],
    }
    (tmp_path / AUDIT).write_text(json.dumps(audit))
    write_report(tmp_path, history_of(study_events), None, None)
    page = Page((tmp_path / REPORT).read_text())

    assert "What early stopping cost" in page.text
    assert "3: 0.21 [0.12, 0.38]" in page.text
    assert "64%" in page.text
    assert "CCC: 2 tasks" in page.text
    assert HOSTILE in page.text
    assert "audit" in page.ids


@pytest.mark.slow
def test_nested_scores_are_in_the_report_where_there_are_any(
    study_events: list[Event], tmp_path: Path
) -> None:
    write_report(tmp_path, history_of(study_events), None, None)
    assert "nested" not in Page((tmp_path / REPORT).read_text()).ids

    score, difference = Score(0.5, 0.4, 0.6), Score(0.1, -0.05, 0.25)
    scores = PairedScores(
        {"winner": score, "default": Score(0.4, 0.3, 0.5)}, {"winner": {"default": difference}}
    )
    subjects = {"train": ["a"], "devel": ["b"], "test": ["c"]}
    fold = OuterFoldRecord("outer fold 1 of 2", subjects, {"arousal": "gaze"}, 9, 60.0, 5.0, {})
    nested = NestedScores("study", {HOSTILE: scores}, scores, (fold, fold))
    (tmp_path / NESTED).write_text(json.dumps(nested.to_json()))
    write_report(tmp_path, history_of(study_events), None, None)
    page = Page((tmp_path / REPORT).read_text())

    assert "nested" in page.ids
    table = page.tables["Nested scores for mean over targets"]
    assert table.rows == [
        ["winner", "0.500 [0.400, 0.600]", ""],
        ["default", "0.400 [0.300, 0.500]", "+0.100 [-0.050, +0.250]"],
    ]
    assert HOSTILE in page.text


def test_an_older_report_is_replaced_and_nothing_else_is_left(
    tmp_path: Path, study_events: list[Event]
) -> None:
    begun = history_of(study_events[:3])
    path = write_report(tmp_path, begun, None, None)
    assert path == tmp_path / REPORT

    new = path.read_text(encoding="utf-8")
    path.write_text(f"<!-- old -->{new}", encoding="utf-8")
    write_report(tmp_path, begun, None, None)
    assert path.read_text(encoding="utf-8") == new
    assert [entry.name for entry in tmp_path.iterdir()] == [REPORT]


def test_a_folder_that_does_not_exist_is_an_error_without_a_traceback(
    tmp_path: Path, study_events: list[Event]
) -> None:
    with pytest.raises(AffectuneError, match=r"Cannot write .*report\.html"):
        write_report(tmp_path / "gone", history_of(study_events[:3]), None, None)
