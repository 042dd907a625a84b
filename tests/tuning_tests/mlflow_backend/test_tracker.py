"""A study's journal arrives in MLflow: once, whole, whatever the server does meanwhile."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.errors import InputError
from tuning.journal.events import (
    Event,
    Finalist,
    Reason,
    StudyFinished,
    StudyOpened,
    StudyResumed,
    StudyStopped,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.journal.file import JOURNAL, Journal
from tuning.mlflow_backend.client import masked
from tuning.mlflow_backend.run_updates import study_id
from tuning.mlflow_backend.tracker import TRACKING, Tracker, check, find_runs, resolve_uri

REASONS: tuple[Reason, ...] = ("patience", "max_epochs", "store", "asha", "budget", "error")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow takes seconds to create its tables."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    check(f"sqlite:///{path}", "first")
    return path


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def opened(name: str = "tracked", at: float = 1000.0) -> StudyOpened:
    return StudyOpened(
        at=at,
        study={
            "name": name,
            "folds": 3,
            "search": {"unimodal": {"trials": 4, "space": {"x": {"choice": [1]}}}},
        },
        digest="d" * 64,
        corpus={
            "name": "tiny",
            "path": "/corpus",
            "digest": "c" * 64,
            "sessions": {},
            "subjects": {},
        },
        folds=("fold 1", "fold 2", "fold 3"),
        versions={"torch": "2.13.0"},
        git_commit="abc123",
    )


def proposed(number: int, task: str = "unimodal/head/arousal") -> TrialProposed:
    return TrialProposed(
        at=1001.0 + number,
        trial=f"{number:04d}",
        task=task,
        purpose="search",
        values={
            "fit.learning_rate": 0.1 + number,
            "network.cell": "gru",
            "unimodal.the (odd) one": 2,
        },
        fold=0,
        seed=7,
        key=f"key {number}",
    )


def advanced(number: int, *epochs: int) -> TrialProgressed:
    passed = tuple((epoch, 1 / epoch, epoch / 100) for epoch in epochs)
    return TrialProgressed(
        at=1100.0 + epochs[-1],
        trial=f"{number:04d}",
        epochs=passed,
        cpu_s=epochs[-1],
        wall_s=epochs[-1],
    )


def ended(number: int, reason: Reason, error: str | None = None) -> TrialEnded:
    score = None if reason == "error" else 0.5
    return TrialEnded(
        at=1200.0 + number,
        trial=f"{number:04d}",
        reason=reason,
        score=score,
        best_epoch=2,
        epochs=4,
        cpu_s=4,
        wall_s=4,
        error=error,
    )


def trial(number: int, reason: Reason, task: str = "unimodal/head/arousal") -> list[Event]:
    error = "loss is not finite" if reason == "error" else None
    return [
        proposed(number, task),
        advanced(number, 1, 2),
        advanced(number, 3, 4),
        ended(number, reason, error),
    ]


def append(folder: Path, *events: Event) -> None:
    with Journal(folder / JOURNAL) as journal:
        journal.append(*events)


def send(folder: Path, uri: str) -> int:
    return Tracker(folder, uri, interval_s=0.05).start().close(60)


def runs(uri: str, start: StudyOpened | None = None) -> dict[str, Run]:
    """The study's runs by name; fails where one is there twice."""
    start = start or opened()
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(start.study["name"])
    assert experiment is not None
    found = find_runs(client, experiment.experiment_id, study_id(start))
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(found, 1)
    return {name: each[0] for name, each in found.items()}


def curve(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    client = MlflowClient(uri, uri)
    return sorted(
        (metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)
    )


def test_a_study_is_a_tree_of_runs_with_parameters_curves_and_the_reason_why_each_ended(
    folder: Path, uri: str
) -> None:
    append(
        folder,
        opened(),
        *(event for number, reason in enumerate(REASONS) for event in trial(number, reason)),
    )
    assert send(folder, uri) == 0
    found = runs(uri)
    assert set(found) == {
        "study",
        "unimodal/head/arousal",
        *(f"{number:04d}" for number in range(6)),
    }
    study, task = found["study"], found["unimodal/head/arousal"]
    assert study.data.tags["corpus.digest"] == "c" * 64
    assert study.data.tags["mlflow.source.git.commit"] == "abc123"
    assert study.data.tags["version.torch"] == "2.13.0"
    assert study.data.params == {"name": "tracked", "folds": "3", "search.unimodal.trials": "4"}
    assert task.data.tags["mlflow.parentRunId"] == study.info.run_id
    for number, reason in enumerate(REASONS):
        run = found[f"{number:04d}"]
        assert run.data.tags["mlflow.parentRunId"] == task.info.run_id
        assert run.data.tags["stop_reason"] == reason
        expected = {"asha": "KILLED", "budget": "KILLED", "error": "FAILED"}.get(reason, "FINISHED")
        assert run.info.status == expected
        assert run.info.start_time == 1001000 + 1000 * number
        assert run.info.end_time == 1200000 + 1000 * number
        assert run.data.params["fit.learning_rate"] == str(0.1 + number)
        assert run.data.params["unimodal.the _odd_ one"] == "2"
        assert [
            run.data.params[key]
            for key in ("fold", "seed", "purpose", "stage", "modality", "target", "key")
        ] == [
            *("0", "7", "search", "unimodal", "head", "arousal"),
            f"key {number}",
        ]
        assert curve(uri, run, "ccc") == [(1, 0.01), (2, 0.02), (3, 0.03), (4, 0.04)]
        assert run.data.metrics["cpu_s"] == 4
        assert run.data.metrics.get("best_ccc") == (None if reason == "error" else 0.5)
    assert found["0005"].data.tags["error"] == "loss is not finite"


def test_an_auto_encoder_shows_its_error_not_minus_that(folder: Path, uri: str) -> None:
    append(folder, opened(), proposed(0, "auto_encoder/head"), advanced(0, 1))
    assert send(folder, uri) == 0
    assert curve(uri, runs(uri)["0000"], "re") == [(1, -0.01)]


def test_settled_tasks_and_the_summary_are_metrics(folder: Path, uri: str) -> None:
    finalist = Finalist(
        values={"a": 1},
        keys=(("k", "l"),),
        scores=(0.4, 0.6),
        devel=(0.5, 0.7),
        out_of_fold=(0.3, None),
        reads={},
    )
    targets = {"arousal": {"ccc": 0.5, "ccc_low": 0.3, "ccc_high": None, "floors": {"mean": 0.4}}}
    append(
        folder,
        opened(),
        *trial(0, "patience"),
        TaskCompleted(at=1300, task="unimodal/head/arousal", finalists=(finalist,)),
        StudyFinished(at=1301, summary={"trials": 1, "targets": targets}),
    )
    assert send(folder, uri) == 0
    found = runs(uri)
    task, study = found["unimodal/head/arousal"], found["study"]
    assert (task.info.status, study.info.status) == ("FINISHED", "FINISHED")
    assert {key: round(value, 3) for key, value in task.data.metrics.items()} == {
        **{
            "ccc": 0.5,
            "ccc_spread": 0.141,
            "devel_ccc": 0.6,
            "out_of_fold_ccc": 0.3,
            "seeds": 2,
            "finalists": 1,
        }
    }
    assert study.data.metrics == {
        "trials": 1,
        "arousal.ccc": 0.5,
        "arousal.ccc_low": 0.3,
        "arousal.floors.mean": 0.4,
    }


def test_an_interrupted_study_is_killed_and_runs_again_after_it_is_resumed(
    folder: Path, uri: str
) -> None:
    append(
        folder,
        opened(),
        *trial(0, "patience"),
        proposed(1),
        advanced(1, 1),
        StudyStopped(at=1400, why="Ctrl-C"),
    )
    assert send(folder, uri) == 0
    names = ("study", "unimodal/head/arousal", "0000", "0001")
    found = runs(uri)
    assert [found[name].info.status for name in names] == ["KILLED", "KILLED", "FINISHED", "KILLED"]
    append(folder, StudyResumed(at=1500), advanced(1, 1, 2))
    assert send(folder, uri) == 0
    found = runs(uri)
    assert [found[name].info.status for name in names] == [
        "RUNNING",
        "RUNNING",
        "FINISHED",
        "RUNNING",
    ]
    assert curve(uri, found["0001"], "ccc") == [(1, 0.01), (2, 0.02)]


@pytest.mark.parametrize("lost", ["position", "nothing"])
def test_a_journal_that_is_sent_again_changes_nothing(folder: Path, uri: str, lost: str) -> None:
    append(folder, opened(), *trial(0, "asha"), *trial(1, "patience"))
    assert send(folder, uri) == 0
    before = runs(uri)
    if lost == "position":
        (folder / TRACKING).unlink()
    append(folder, *trial(2, "max_epochs"))
    assert send(folder, uri) == 0
    after = runs(uri)
    assert set(after) == {*before, "0002"}
    for name, run in before.items():
        assert after[name].info.run_id == run.info.run_id
        assert after[name].data.metrics == run.data.metrics
    assert len(curve(uri, after["0000"], "ccc")) == 4


def test_another_server_gets_all_of_it(folder: Path, uri: str, tmp_path: Path) -> None:
    append(folder, opened(), *trial(0, "asha"))
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "other.db")
    assert send(folder, uri) == 0
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert send(folder, other) == 0
    assert set(runs(other)) == set(runs(uri))


def test_the_same_study_in_another_folder_is_another_run(
    folder: Path, uri: str, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    append(folder, opened(at=1000), *trial(0, "asha"))
    append(second, opened(at=2000), *trial(0, "store"))
    assert [send(folder, uri), send(second, uri)] == [0, 0]
    first, other = runs(uri, opened(at=1000)), runs(uri, opened(at=2000))
    assert first["0000"].data.tags["stop_reason"] == "asha"
    assert other["0000"].data.tags["stop_reason"] == "store"


def test_many_epochs_and_parameters_go_in_parts(folder: Path, uri: str) -> None:
    many = proposed(0).model_copy(
        update={"values": {f"network.setting {i}": i for i in range(150)}}
    )
    append(folder, opened(), many, advanced(0, *range(1, 701)))
    assert send(folder, uri) == 0
    run = runs(uri)["0000"]
    assert len(curve(uri, run, "ccc")) == 700
    assert run.data.params["network.setting 149"] == "149"


class Flaky:
    """A client of which every third call fails, and half of these were carried out all the same."""

    def __init__(self, client: MlflowClient) -> None:
        self._client, self._random, self.lost = client, random.Random(0), Counter[str]()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._random.random() < 2 / 3:
                return real(*args, **kwargs)
            if self._random.random() < 1 / 2:
                real(*args, **kwargs)
            self.lost[name] += 1
            raise ConnectionError("the answer was lost")

        return call


def test_lost_answers_give_no_second_run_and_cost_no_metric(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[Flaky] = []

    def flaky(uri: str) -> Flaky:
        clients.append(Flaky(MlflowClient(uri, uri)))
        return clients[-1]

    monkeypatch.setattr("tuning.mlflow_backend.tracker.connect", flaky)
    monkeypatch.setattr("tuning.mlflow_backend.tracker.FIRST_WAIT_S", 0.0)
    append(folder, opened(), *(event for number in range(8) for event in trial(number, "asha")))
    assert send(folder, uri) == 0
    assert {"create_run", "log_batch", "set_terminated"} <= set(clients[0].lost)
    found = runs(uri)
    assert len(found) == 10
    for number in range(8):
        assert len(curve(uri, found[f"{number:04d}"], "ccc")) == 4
        assert found[f"{number:04d}"].info.status == "KILLED"


def test_a_server_that_is_away_is_no_business_of_the_driver_and_a_resume_sends_the_rest(
    folder: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    append(folder, opened(), *trial(0, "asha"))
    tracker = Tracker(folder, "http://user:secret@127.0.0.1:9", interval_s=0.05).start()
    with caplog.at_level(logging.WARNING):
        assert tracker.close(1.0) == 5
    assert "--resume" in caplog.text
    assert "secret" not in caplog.text
    assert send(folder, uri) == 0
    assert len(curve(uri, runs(uri)["0000"], "ccc")) == 4


def test_artefacts_are_kept_with_the_study(folder: Path, uri: str) -> None:
    append(folder, opened())
    (folder / "report.html").write_text("<html>")
    (folder / "plots").mkdir()
    (folder / "plots" / "traces.png").write_bytes(b"png")
    tracker = Tracker(folder, uri, interval_s=0.05).start()
    tracker.log_artifacts(folder / "report.html", folder / "plots", folder / "not there")
    assert tracker.close(60) == 0
    client, run_id = MlflowClient(uri, uri), runs(uri)["study"].info.run_id
    assert [file.path for file in client.list_artifacts(run_id)] == ["plots", "report.html"]
    assert [file.path for file in client.list_artifacts(run_id, "plots")] == ["plots/traces.png"]


def test_a_run_that_somebody_deleted_does_not_hold_up_the_others(folder: Path, uri: str) -> None:
    append(folder, opened(), proposed(0), proposed(1))
    tracker = Tracker(folder, uri, interval_s=0.05).start()
    client = MlflowClient(uri, uri)
    until(lambda: (folder / TRACKING).exists())
    client.delete_run(runs(uri)["0000"].info.run_id)
    append(folder, advanced(0, 1), advanced(1, 1))
    assert tracker.close(60) == 0
    assert "0000" not in runs(uri)
    assert len(curve(uri, runs(uri)["0001"], "ccc")) == 1


def test_where_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert resolve_uri(None) == "http://server"
    assert resolve_uri("sqlite:///other.db") == "sqlite:///other.db"


def test_passwords_are_not_shown() -> None:
    assert masked("postgresql://me:p@ss/word@host:5432/db") == "postgresql://***@host:5432/db"
    assert (
        masked("cannot reach https://me:secret@host/x, try later")
        == "cannot reach https://***@host/x, try later"
    )
    assert masked("models:/affectune@champion") == "models:/affectune@champion"


@pytest.mark.parametrize(
    ("uri", "said"),
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
def test_a_store_that_cannot_be_written_is_found_before_the_study_starts(
    uri: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as raised:
        check(uri, "study")
    assert "secret" not in str(raised.value)


def test_a_deleted_experiment_is_found_before_the_study_starts(uri: str) -> None:
    client = MlflowClient(uri, uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InputError, match="was deleted in MLflow"):
        check(uri, "gone")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def server(empty_database: Path, tmp_path: Path, port: int) -> Iterator[Server]:
    shutil.copy(empty_database, tmp_path / "server.db")
    server = Server(tmp_path, port)
    server.start()
    yield server
    server.stop()


class Server:
    """`mlflow server` in a process of its own, on loopback."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port, self.uri = folder, port, f"http://127.0.0.1:{port}"

    def start(self) -> None:
        store = f"sqlite:///{self._folder / 'server.db'}"
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
        ]
        command += [
            "--workers",
            "1",
            "--backend-store-uri",
            store,
            "--artifacts-destination",
            str(self._folder / "kept"),
        ]
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        log = open(self._folder / "server.log", "ab")  # noqa: SIM115 - the server's, as long as it lives
        with log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
                start_new_session=True,
            )
        for _ in range(1800):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            threading.Event().wait(0.1)
        self.stop()
        raise AssertionError((self._folder / "server.log").read_text())

    def signal(self, number: int) -> None:
        """To all of its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """As a power cut would."""
        self.signal(signal.SIGKILL)
        self._process.wait()


def test_a_server_that_hangs_in_the_middle_costs_nothing(
    folder: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    check(server.uri, "tracked")
    append(folder, opened(), *trial(0, "asha"), proposed(1))
    tracker = Tracker(folder, server.uri, interval_s=0.05).start()
    until(lambda: (folder / TRACKING).exists())
    server.signal(signal.SIGSTOP)
    # Each request is given up, and carried out all the same when the server goes on.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    append(folder, *trial(2, "max_epochs"), advanced(1, 1, 2), ended(1, "patience"))
    (folder / "report.html").write_text("<html>")
    tracker.log_artifacts(folder / "report.html")
    until(lambda: "Training goes on" in caplog.text)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    server.signal(signal.SIGCONT)
    assert tracker.close(300) == 0
    assert capsys.readouterr().out == ""
    found = runs(server.uri)
    assert [len(curve(server.uri, found[f"{number:04d}"], "ccc")) for number in range(3)] == [
        4,
        2,
        4,
    ]
    assert found["0002"].info.status == "FINISHED"
    client = MlflowClient(server.uri, server.uri)
    assert [file.path for file in client.list_artifacts(found["study"].info.run_id)] == [
        "report.html"
    ]


def until(happened: Callable[[], bool]) -> None:
    """Wait for what a thread or a process does."""
    for _ in range(3000):
        if happened():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen")
