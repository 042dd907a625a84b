"""The report says what was registered, what it is no better than, and of what an ensemble is."""

from __future__ import annotations

from collections.abc import Iterator

from tests.tuning_tests.journals import events
from tests.tuning_tests.report.pages import Page
from tuning.journal.events import Event, Member, TaskCompleted
from tuning.journal.history import history_of
from tuning.report.page import render
from tuning.report.results import finalist_rows, judgement_tables
from tuning.report.search_trials import Searches


def test_the_verdict_and_all_candidates_are_in_the_summary() -> None:
    history = history_of(events())
    html = render(history, None, None)
    page = Page(html)

    for target in ("arousal", "valence"):
        judgement = judgement_tables(history)[target]
        assert judgement.is_doubtful
        assert f"<p>{judgement.verdict}</p>" in html
        doubt = "not clearly better than the untuned default (+0.010 [-0.020, +0.040])"
        assert doubt in judgement.verdict

        table = page.tables[f"What was compared for {target}"]
        assert [row[0] for row in table.rows] == [row.name for row in judgement.rows]
        assert [row[-1] for row in table.rows][:2] == ["registered", "+0.020 [+0.005, +0.040]"]
        assert html.index(judgement.verdict) < html.index('id="scores"')


def with_ensembles() -> Iterator[Event]:
    """Yield a study whose regressors were won by the best finalist twice and the second once."""
    for event in events():
        if not isinstance(event, TaskCompleted) or not event.task.startswith("unimodal"):
            yield event
            continue
        members = tuple(
            Member(configuration=finalist.configuration, upstream_ranks={}, count=count)
            for finalist, count in zip(event.finalists, (2, 1), strict=True)
        )
        first = event.finalists[0].model_copy(update={"members": members})
        yield event.model_copy(update={"finalists": (first, *event.finalists)})


def test_an_ensemble_is_named_by_the_ranks_of_its_members() -> None:
    rows = finalist_rows(Searches(history_of(with_ensembles())))
    for task, ranked in rows.items():
        is_ensemble = task.stage == "unimodal"
        assert len(ranked) == (3 if is_ensemble else 2)
        if is_ensemble:
            assert ranked[0].values == {"mean of": "rank 2 (2 times), rank 3"}
            assert "mean of" not in ranked[1].values
