"""A study's runs on a server are found, or refused before the study starts."""

from __future__ import annotations

import http.server
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.errors import InputError
from tests.tuning_tests.mlflow_backend.tracking.study_events import study_opened
from tuning.mlflow_backend import client as mlflow_client
from tuning.mlflow_backend.client import connect
from tuning.mlflow_backend.tracking.run_updates import FORMAT, FORMAT_TAG, STUDY
from tuning.mlflow_backend.tracking.study_runs import (
    find_or_create_experiment,
    find_runs,
    identity_tags,
    raise_if_not_recordable,
    raise_if_unknown,
)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:9", "Cannot write to the tracking server"),
        ("sqlite:////no/such/folder/mlflow.db", "there is no folder '/no/such/folder'"),
        (
            "postgresql://me:secret@127.0.0.1:9/db",
            "Cannot write to the tracking server 'postgresql://\\*\\*\\*@",
        ),
        ("gopher://x", "Cannot write to the tracking server"),
    ],
)
def test_a_server_that_cannot_be_written_is_refused(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        raise_if_not_recordable(uri, "study")
    assert "secret" not in str(raised.value)


def test_a_deleted_experiment_is_refused(uri: str) -> None:
    client = MlflowClient(uri, uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InputError, match="'gone' was deleted in MLflow"):
        raise_if_not_recordable(uri, "gone")


@pytest.mark.parametrize("folder", ["file/runs", "file", "/proc/affectune", "50% #1 a+b?/runs"])
def test_artefacts_that_could_not_be_written_are_refused(
    uri: str, tmp_path: Path, folder: str
) -> None:
    place = tmp_path / folder
    MlflowClient(uri, uri).create_experiment("elsewhere", artifact_location=place.as_uri())
    if folder.startswith("50%"):
        raise_if_not_recordable(uri, "elsewhere")
        return

    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"keeps its artefacts in .*cannot be written"):
        raise_if_not_recordable(uri, "elsewhere")


@pytest.mark.parametrize("run_format", [None, "1", "4"])
def test_runs_of_another_format_are_refused_with_what_to_do(
    uri: str, run_format: str | None
) -> None:
    client = connect(uri)
    identity = study_opened().id
    experiment_id = find_or_create_experiment(client, uri, "tracked")
    tags = identity_tags(identity, STUDY) | {"affectune.kind": "study"}
    if run_format is not None:
        tags[FORMAT_TAG] = run_format
    run = client.create_run(experiment_id, tags=tags)

    with pytest.raises(InputError, match=r"format .*--tracking-uri.*--resume") as raised:
        find_runs(client, experiment_id, identity)
    assert run.info.run_id in str(raised.value)

    client.delete_run(run.info.run_id)
    assert find_runs(client, experiment_id, identity) == {}


@pytest.mark.parametrize("run_format", ["2", FORMAT])
def test_runs_that_can_be_continued_are_found_by_name_the_fullest_first(
    uri: str, run_format: str
) -> None:
    client = connect(uri)
    identity = study_opened().id
    experiment_id = find_or_create_experiment(client, uri, "tracked")
    tags = identity_tags(identity, STUDY) | {FORMAT_TAG: run_format}
    empty, full = (client.create_run(experiment_id, tags=tags).info.run_id for _ in range(2))
    client.log_metric(full, "trials", 1.0)

    runs = find_runs(client, experiment_id, identity)
    assert [run.info.run_id for run in runs[STUDY]] == [full, empty]


@contextmanager
def server_that_answers(status: int, kind: str, body: bytes) -> Iterator[str]:
    """Run a server that gives one answer to every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (401, "text/plain", b"Who are you?", "MLFLOW_TRACKING_USERNAME"),
        (403, "text/html", b"<html>no</html>", "MLFLOW_TRACKING_TOKEN"),
        (500, "text/plain", b"oops", "status 500"),
        (200, "text/html", b"<html>A shop</html>", "another program"),
        (200, "application/json", b'{"sold": 3}', "another program"),
    ],
)
def test_a_server_that_answers_otherwise_than_mlflow_is_refused_with_what_it_is(
    status: int, kind: str, body: bytes, words: str
) -> None:
    with server_that_answers(status, kind, body) as uri, pytest.raises(InputError, match=words):
        raise_if_unknown(uri, "study")


def test_a_server_that_never_answers_is_refused_within_seconds_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_client, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match="nothing came within") as raised:
            raise_if_unknown(uri, "study")
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database_of_mlflow_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("create table sales (price)")
        database.commit()

    for name, words in (("text.db", "no sqlite database"), ("shop.db", "another program")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match=words):
            raise_if_unknown(f"sqlite:///{tmp_path / name}", "study")
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(InputError, match="Write sqlite:///"):
        raise_if_unknown("mlflow.db", "study")


def test_looking_makes_neither_a_database_nor_an_experiment(tmp_path: Path, uri: str) -> None:
    raise_if_unknown(f"sqlite:///{tmp_path}/new.db", "study")
    assert list(tmp_path.glob("new.db*")) == []
    raise_if_unknown(uri, "never seen")
    assert connect(uri).get_experiment_by_name("never seen") is None
