"""One fabricated study and its page, for all tests of a report."""

from __future__ import annotations

import pytest

from tests.tuning_tests.evaluations import fabricate_evaluation, fabricate_model
from tests.tuning_tests.journals import events
from tests.tuning_tests.report.pages import Page
from tuning.journal.events import Event
from tuning.journal.history import history_of
from tuning.report.page import render


@pytest.fixture(scope="session")
def study_events() -> list[Event]:
    """The journal of a finished study."""
    return events()


@pytest.fixture(scope="session")
def html(study_events: list[Event]) -> str:
    """The report of the finished study, with an evaluation of its winner."""
    evaluation = fabricate_evaluation()
    return render(history_of(study_events), evaluation, fabricate_model(evaluation))


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    """The same report, read."""
    return Page(html)
