"""Every number of a report stands under the name of the quantity that it is."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from pipeline.stages.fusion import FusionTask
from pipeline.stages.unimodal import UnimodalTask
from tests.tuning_tests.evaluations import fabricate_evaluation
from tests.tuning_tests.journals import STUDY, events
from tests.tuning_tests.report.pages import Page, PageTable
from tuning.audit.cli_output import AUDIT
from tuning.journal.events import Event, Finalist
from tuning.journal.history import History, history_of
from tuning.report.formats import value_text
from tuning.report.page import REPORT, render, write_report
from tuning.spec.tasks import parse_task

SCORES = ["deciding CCC", "devel CCC", "out of fold CCC"]


@pytest.fixture(scope="module")
def study_history(study_events: list[Event]) -> History:
    return history_of(study_events)


def test_scores_of_the_winner_are_devel_and_out_of_fold(page: Page) -> None:
    table = page.tables["Scores for arousal"]
    assert table.headings == [
        "prediction",
        "devel CCC",
        "devel CCC, fusion minus it",
        "out of fold CCC",
    ]

    result = fabricate_evaluation().targets["arousal"]
    fusion, pupil = _row(table, "fusion"), _row(table, "pupil")
    assert fusion[1] == str(result.scores["fusion"])
    assert fusion[2] == ""
    assert fusion[3].startswith(f"{result.scores['fusion'].ccc - 0.1:.3f}")
    assert pupil[1] == str(result.scores["pupil"])
    assert pupil[2].startswith(f"{result.differences['pupil'].ccc:+.3f}")


def test_scores_between_and_within_sessions_stand_in_a_table_of_their_own(page: Page) -> None:
    table = page.tables["Scores for arousal between and within sessions"]
    assert table.headings == ["prediction", "devel CCC between", "devel CCC within"]

    result = fabricate_evaluation().targets["arousal"]
    for name in ("fusion", "pupil"):
        expected = [str(result.between[name]), str(result.within[name])]
        assert _row(table, name)[1:] == expected
    assert (
        f"{result.label_variance_between_sessions:.0%} of the devel labels' variance" in page.text
    )


def test_the_first_screen_says_what_won_with_what_and_by_how_much(
    page: Page, study_history: History
) -> None:
    winner = study_history.completed[FusionTask(target="arousal")][0]
    begin = page.text.index("What won", page.text.index("How to reproduce"))
    answer = page.text[begin : page.text.index("All candidates, with their scores")]

    modalities = str(winner.configuration["modalities"]).replace(",", " + ")
    assert f"The winner of the search, from {modalities}." in answer
    score = fabricate_evaluation().targets["arousal"].scores["fusion"]
    assert f"{score.ccc:.3f} devel CCC [{score.low:.3f}, {score.high:.3f}]" in answer
    for path, value in winner.configuration.items():
        assert f"{path} {value_text(value)}" in answer
    assert (
        "Better than pupil alone (strongest), the mean of the modalities and their weighted mean"
        in answer
    )
    assert "not clearly different from the untuned default." in answer

    table = page.tables["arousal: deciding CCC, winner minus others"]
    assert table.headings[0].startswith("its deciding CCC, minus that of")
    default = _row(table, "untuned default")
    assert default[-2:] == ["+0.010 [-0.020, +0.040]", "≈no clear difference"]
    result = fabricate_evaluation().targets["arousal"].differences["without difficulty"]
    on_devel = _row(page.tables["arousal: devel CCC, winner minus others"], "without difficulty")
    assert on_devel[-2] == result.with_sign()


@pytest.mark.parametrize(
    ("task", "measure", "sign"),
    [("unimodal/gaze/valence", "CCC", 1), ("auto_encoder/gaze", "RE", -1)],
)
def test_finalists_have_a_deciding_a_devel_and_an_out_of_fold_score(
    page: Page, study_history: History, task: str, measure: str, sign: int
) -> None:
    table = page.tables[f"Finalists of {task}"]
    assert table.headings == [
        "rank",
        f"deciding {measure}",
        f"devel {measure}",
        f"out of fold {measure}",
        "seeds",
        "configuration",
    ]

    for row, finalist in zip(table.rows, study_history.completed[parse_task(task)], strict=True):
        assert [_mean(cell) for cell in row[1:4]] == _rounded_scores(finalist, sign)


def test_winners_have_a_deciding_a_devel_and_an_out_of_fold_score(
    page: Page, study_history: History
) -> None:
    table = page.tables["Winners of the tasks"]
    assert table.headings == ["arousal", "valence", "predicted from", *SCORES, *SCORES]

    for name, task in (
        ("gaze", UnimodalTask("gaze", "valence")),
        ("fusion", FusionTask(target="valence")),
    ):
        winner = study_history.completed[task][0]
        assert [_mean(cell) for cell in _row(table, name)[4:]] == _rounded_scores(winner, 1)


def test_comparisons_show_devel_scores_and_name_their_epoch(page: Page) -> None:
    table = page.tables["Recurrent cells"]
    assert table.headings == ["devel CCC", "LSTM", "BiLSTM", "GRU", "BiGRU"]
    assert table.caption == (
        "Devel CCC of trials: the highest and the mean of those trained to the end, and the mean "
        "at epoch 4."
    )
    cells = " ".join(cell for row in table.rows for cell in row)
    assert "highest 0." in cells
    assert "at epoch 4 0." in cells

    fusion = page.tables["Fusion with and without reconstruction errors"]
    assert fusion.headings[0] == "devel CCC"
    assert fusion.headings[-1] == "paired difference"


def test_an_audit_names_the_devel_score(study_events: list[Event], tmp_path: Path) -> None:
    (tmp_path / AUDIT).write_text(json.dumps({"tasks": {}, "pooled": {}, "notes": []}))
    write_report(tmp_path, history_of(study_events[:3]), None, None)
    page = Page((tmp_path / REPORT).read_text())

    assert page.tables["What early stopping cost"].headings == [
        "task",
        "stopped",
        "of these trained to the end",
        "rank correlation of devel by rung",
        "highest devel stopped",
        "devel regret",
        "epochs saved",
    ]


def test_in_sample_nothing_is_out_of_fold() -> None:
    study = {**STUDY, "protocol": "in_sample"}
    study_events = events(modalities=("gaze", "head"), targets=("arousal",), study=study)
    evaluation = fabricate_evaluation(("gaze", "head"), ("arousal",))
    page = Page(render(history_of(study_events), evaluation, None))

    headings = [heading for table in page.tables.values() for heading in table.headings]
    assert "devel CCC" in headings
    assert not [heading for heading in headings if "out of fold" in heading]
    assert "out of fold" not in page.text.lower()


@pytest.mark.parametrize(
    ("task", "measure", "highest"),
    [
        ("fusion/valence", "devel CCC", "highest devel CCC (trial"),
        ("auto_encoder/gaze", "devel RE", "lowest devel RE (trial"),
    ],
)
def test_learning_curves_are_devel_scores(
    page: Page, task: str, measure: str, highest: str
) -> None:
    chart = page.charts[f"Learning curves of {task}"]
    assert _axis_title(chart, "yaxis") == measure
    assert [name for name in _trace_names(chart) if name.startswith(highest)]


def test_importance_is_that_of_the_devel_score(page: Page) -> None:
    chart = page.charts["Importance of the settings of unimodal/gaze/arousal"]
    assert [name for name in _trace_names(chart) if name.startswith("devel CCC of ")]
    assert "the share of the variance of the devel CCC that each setting explains" in page.text


def test_intervals_are_those_of_devel_and_out_of_fold_scores(page: Page) -> None:
    chart = page.charts["CCC of every prediction of arousal with its interval"]
    assert _trace_names(chart) == ["devel", "out of fold"]
    assert _axis_title(chart, "xaxis") == "CCC of arousal"


def test_traces_are_headed_by_session_scores(page: Page) -> None:
    for rank in ("highest", "median", "lowest"):
        assert f"({rank})" in page.text
    assert page.text.count(": session CCC arousal") == 3


def test_nothing_is_headed_best(page: Page) -> None:
    texts = []
    for table in page.tables.values():
        texts += [table.caption, *table.headings]
    for chart in page.charts.values():
        texts += [*_trace_names(chart), _axis_title(chart, "xaxis"), _axis_title(chart, "yaxis")]

    assert len(texts) > 100
    assert not [text for text in texts if "best" in text]
    assert "best" not in page.text.split()


def _row(table: PageTable, name: str) -> list[str]:
    return next(row for row in table.rows if row[0] == name)


def _mean(cell: str) -> str:
    """The mean in a cell with a mean and its spread."""
    return cell.split(" ± ")[0]


def _rounded_scores(finalist: Finalist, sign: int) -> list[str]:
    """The deciding, devel and out-of-fold score of a finalist, each the mean over seeds."""
    out_of_fold = [score for score in finalist.out_of_fold if score is not None]
    columns = (finalist.deciding, finalist.devel, out_of_fold)
    return [f"{sign * fmean(scores):.3f}" for scores in columns]


def _axis_title(chart: dict[str, Any], axis: str) -> str:
    return str(chart["layout"].get(axis, {}).get("title", {}).get("text", ""))


def _trace_names(chart: dict[str, Any]) -> list[str]:
    return [trace.get("name", "") for trace in chart["data"]]
