"""MLflow's client: pages of searches, and passwords in messages."""

from __future__ import annotations

from mlflow.store.entities import PagedList

from tuning.mlflow_backend.client import MAX_CAUSE, cause_of, connect, masked, search_all

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


def test_passwords_are_masked() -> None:
    assert masked("postgresql://me:p@ss/word@host:5432/db") == "postgresql://***@host:5432/db"
    assert (
        masked("cannot reach https://me:secret@host/x, try later")
        == "cannot reach https://***@host/x, try later"
    )
    assert masked("models:/affectune@champion") == "models:/affectune@champion"


def test_the_cause_of_an_error_is_the_innermost_one_in_one_line() -> None:
    error = RuntimeError("it failed")
    error.__cause__ = ConnectionError(OSError("no route to http://me:secret@host.\nTry later."))

    assert cause_of(error) == "no route to http://***@host"
    assert cause_of(ValueError()) == "ValueError"
    assert len(cause_of(ValueError("x" * 1000))) == MAX_CAUSE
