"""The report in a real Chromium: the table of trials, its CSV, the brushed axes, and paper."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tuning.journal.events import Event
from tuning.journal.history import history_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="NOT TESTED in a browser: playwright is not installed"
)

PAPER_WIDTH = 690
"""Pixels of a chart on paper: less than A4 has between margins of 12 mm."""
PATIENCE_MS = 120_000  # a busy machine takes long; a quiet one a moment
CHROMIUM = (
    os.environ.get("AFFECTUNE_CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="NOT TESTED in a browser: no chromium; set AFFECTUNE_CHROMIUM"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def opened(html: str, tmp_path: Path) -> Iterator[Page]:
    """The report, opened as a file; an error in its console fails the test."""
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu"]
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = chromium.new_page(accept_downloads=True)
        page.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.extend([said.text] * (said.type == "error")))
        page.goto(path.as_uri())
        yield page
        chromium.close()
    assert complaints == []


def test_trials_are_sorted_filtered_downloaded_brushed_and_printed(
    opened: Page, study_events: list[Event], tmp_path: Path
) -> None:
    history = history_of(study_events)
    count = opened.locator("#trial-count")
    assert f"1 to 25 of {len(history.trials)} trials" in (count.text_content() or "")

    # Sorted by devel, the highest first, of one task that failed nowhere.
    opened.select_option("#filter-task", "fusion/valence")
    opened.fill("#filter-text", "search difficulty=yes devel>0.1")
    opened.click("#trial-heads th[data-key=devel] button")
    expected = sorted(
        (
            trial.best_devel or 0.0
            for trial in history.trials.values()
            if str(trial.task) == "fusion/valence"
            and trial.proposed.purpose == "search"
            and trial.proposed.configuration["difficulty"]
            and (trial.best_devel or 0) > 0.1
        ),
        reverse=True,
    )
    assert f"1 to {len(expected)} of {len(expected)} trials" in (count.text_content() or "")
    cells = opened.locator("#trial-rows td:nth-child(5)").all_text_contents()
    assert cells == [f"{score:.3f}" for score in expected]

    with opened.expect_download() as download:
        opened.click("#trial-csv")
    download.value.save_as(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["devel"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    for row in rows:
        settings = history.trials[row["trial"]].proposed.configuration
        assert row["modalities"] == settings["modalities"]
        assert float(row["fit.learning_rate"]) == settings["fit.learning_rate"]

    # The upper half of the score's axis is chosen by dragging, and shown in the table.
    opened.click("#filter-clear")
    chart = opened.locator('[data-chart=parallel][aria-label*="fusion/valence"]')
    chart.scroll_into_view_if_needed()
    zone = chart.locator("rect.zone").last
    zone.wait_for()
    box = zone.bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + 16, box["y"] + 2)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 16, box["y"] + box["height"] / 2)
    opened.mouse.up()
    chart.locator("xpath=..").get_by_role("button", name="Show them in the table").click()
    every = [
        trial.best_devel
        for trial in history.trials_of(history.trials[rows[0]["trial"]].task, "search")
        if trial.best_devel is not None and not trial.has_failed
    ]
    middle = (min(every) + max(every)) / 2
    chosen = opened.locator("#trial-rows tr")
    assert chosen.count() == sum(score >= middle for score in every)

    # On paper a chart is as wide as a page, also one that was wider on the screen.
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert chart.locator("svg").bounding_box()["width"] == PAPER_WIDTH  # type: ignore[index]
