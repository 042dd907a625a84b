"""MLflow's client: pages of searches, and passwords in messages."""

from __future__ import annotations

import pytest
from mlflow.store.entities import PagedList

from tuning.mlflow_backend.client import MAX_CAUSE, answer_of, cause_of, connect, search_all

PAGES = {None: PagedList([1, 2], "second"), "second": PagedList([3], "third")}
LAST_PAGE: PagedList[int] = PagedList([], None)


def test_a_search_reads_all_pages() -> None:
    tokens: list[str | None] = []

    def search(token: str | None) -> PagedList[int]:
        tokens.append(token)
        return PAGES.get(token, LAST_PAGE)

    assert list(search_all(search)) == [1, 2, 3]
    assert tokens == [None, "second", "third"]


def test_more_runs_than_a_page_holds_are_all_found(uri: str) -> None:
    client = connect(uri)
    experiment_id = client.create_experiment("many")
    run_ids = {client.create_run(experiment_id).info.run_id for _ in range(5)}

    runs = search_all(
        lambda token: client.search_runs([experiment_id], max_results=2, page_token=token)
    )

    assert {run.info.run_id for run in runs} == run_ids


def test_the_cause_of_an_error_is_the_innermost_one_in_one_line() -> None:
    error = RuntimeError("it failed")
    error.__cause__ = ConnectionError(OSError("no route to http://me:secret@host.\nTry later."))

    assert cause_of(error) == "no route to http://***@host"
    assert cause_of(ValueError()) == "ValueError"
    assert len(cause_of(ValueError("x" * 1000))) == MAX_CAUSE


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (
            "API request to http://h/api failed with exception HTTPConnectionPool(host='h', "
            'port=1): Max retries exceeded (Caused by ReadTimeoutError("Read timed out."))',
            "no answer in time",
        ),
        ("API request to http://h/api failed with exception Exceeded 30 redirects.", "login page"),
        ("API request to endpoint /api failed with error code 401 != 200.", "status 401"),
        ("API request to http://h/api failed with too many 503 error responses", "status 503"),
        ("API request to endpoint /api failed. Response body: '<html>'", "another program"),
        ("database is locked", "database is locked"),
    ],
)
def test_what_is_no_answer_of_mlflow_is_told_in_words(raised: str, answer: str) -> None:
    told = answer_of(RuntimeError(raised))
    assert answer in told
    assert "HTTPConnectionPool" not in told
