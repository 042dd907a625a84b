"""A study's journal arrives in MLflow once and complete, whatever the server does meanwhile."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.errors import InputError
from tests.tuning_tests.mlflow_backend.lost_answers import AFTER, BEFORE, UnreliableClient
from tests.tuning_tests.mlflow_backend.server import Server, free_port
from tests.tuning_tests.mlflow_backend.tracking.study_events import (
    TASK,
    append,
    finalist,
    study_opened,
    trial_ended,
    trial_progressed,
    trial_proposed,
    whole_trial,
)
from tuning.journal.events import (
    Reason,
    StudyFinished,
    StudyOpened,
    StudyResumed,
    StudyStopped,
    TaskCompleted,
)
from tuning.mlflow_backend.tracking.record import TRACKING
from tuning.mlflow_backend.tracking.run_updates import FORMAT_TAG
from tuning.mlflow_backend.tracking.study_runs import find_runs, raise_if_not_recordable
from tuning.mlflow_backend.tracking.tracker import Tracker

REASONS: tuple[Reason, ...] = ("patience", "max_epochs", "store", "asha", "budget", "error")
INTERVAL_S = 0.05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study's folder without a journal."""
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[Server]:
    """A running `mlflow server`."""
    shutil.copy(empty_database, tmp_path / "server.db")
    server = Server(tmp_path, free_port())
    server.start()
    yield server
    server.stop()


def send(folder: Path, uri: str) -> int:
    """Send a study's journal; the number of events that were not sent."""
    return Tracker(folder, uri, interval_s=INTERVAL_S).start().close(60)


def runs(uri: str, opened: StudyOpened | None = None) -> dict[str, Run]:
    """Return the study's runs by name; fail where one is there twice."""
    opened = opened or study_opened()
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(opened.study["name"])
    assert experiment is not None

    runs_by_name = find_runs(client, experiment.experiment_id, opened.id)
    assert [name for name, same_name in runs_by_name.items() if len(same_name) > 1] == []
    return {name: run for name, (run,) in runs_by_name.items()}


def curve(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    """Return a metric's steps and values."""
    history = MlflowClient(uri, uri).get_metric_history(run.info.run_id, key)
    return sorted((metric.step, metric.value) for metric in history)


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for what a thread or a process does."""
    for _ in range(3000):
        if happened():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen")


def test_a_study_is_a_tree_of_runs_with_parameters_curves_and_the_reason_why_each_ended(
    folder: Path, uri: str
) -> None:
    append(folder, study_opened())
    for number, reason in enumerate(REASONS):
        append(folder, *whole_trial(number, reason))
    assert send(folder, uri) == 0

    sent = runs(uri)
    trials = [f"{number:04d}" for number in range(len(REASONS))]
    assert set(sent) == {"study", TASK, *trials}

    study, task = sent["study"], sent[TASK]
    assert study.info.run_name == "tracked 1970-01-01 00:16 UTC"
    assert study.data.tags["mlflow.source.git.commit"] == "abc123"
    assert "torch 2.13.0" in study.data.tags["mlflow.note.content"]
    assert study.inputs is not None
    [corpus] = [logged.dataset for logged in study.inputs.dataset_inputs]
    assert (corpus.name, corpus.digest) == ("tiny", "c" * 16)
    assert json.loads(corpus.source) == {"uri": "/corpus"}
    assert study.data.params == {"name": "tracked", "folds": "3", "search.unimodal.trials": "4"}
    assert task.data.tags["mlflow.parentRunId"] == study.info.run_id

    for number, reason in enumerate(REASONS):
        run = sent[f"{number:04d}"]
        assert run.data.tags["mlflow.parentRunId"] == task.info.run_id
        assert run.data.tags["stop_reason"] == reason
        assert run.info.status == ("FAILED" if reason == "error" else "FINISHED")
        assert run.info.start_time == 1001000 + 1000 * number
        assert run.info.end_time == 1200000 + 1000 * number
        assert run.data.params == {
            "fit.learning_rate": str(0.1 + number),
            "network.cell": "gru",
            "unimodal.the _x28_odd_x29_ one": "2",
            "fold": "0",
            "seed": "7",
            "purpose": "search",
            "stage": "unimodal",
            "modality": "head",
            "target": "arousal",
            "key": f"key {number}",
        }
        assert curve(uri, run, "devel_ccc") == [(1, 0.01), (2, 0.02), (3, 0.03), (4, 0.04)]
        assert run.data.metrics["cpu_s"] == 4
        scores = {"best_devel_ccc": 0.5, "held_out_ccc": 0.25, "deciding_ccc": 0.375}
        for name, score in scores.items():
            assert run.data.metrics.get(name) == (None if reason == "error" else score)
    assert sent["0005"].data.tags["error"] == "loss is not finite"


def test_an_auto_encoder_logs_its_error_not_minus_that(folder: Path, uri: str) -> None:
    trial = whole_trial(0, "patience", "auto_encoder/head")
    append(folder, study_opened(), *trial)
    assert send(folder, uri) == 0

    run = runs(uri)["0000"]
    assert curve(uri, run, "devel_re")[0] == (1, -0.01)
    assert run.data.metrics["best_devel_re"] == -0.5
    assert run.data.metrics["held_out_re"] == -0.25
    assert run.data.metrics["deciding_re"] == -0.375


def test_completed_tasks_and_the_summary_are_metrics(folder: Path, uri: str) -> None:
    scores = {"ccc": 0.5, "ccc_low": 0.3, "ccc_high": None, "frames": 7, "floors": {"mean": 0.4}}
    append(
        folder,
        study_opened(),
        *whole_trial(0, "patience"),
        *whole_trial(1, "patience", "unimodal/it's/arousal"),
        *whole_trial(2, "asha"),
        TaskCompleted(at=1300, task=TASK, finalists=(finalist(),)),
        StudyFinished(at=1301, summary={"trials": 1, "targets": {"arousal": scores}}),
    )
    assert send(folder, uri) == 0

    sent = runs(uri)
    task, study = sent[TASK], sent["study"]
    assert (task.info.status, study.info.status) == ("FINISHED", "FINISHED")
    assert {key: round(value, 3) for key, value in task.data.metrics.items()} == {
        "deciding_ccc": 0.5,
        "deciding_ccc_spread": 0.141,
        "devel_ccc": 0.6,
        "out_of_fold_ccc": 0.3,
        "seeds": 2,
        "finalists": 1,
    }
    assert study.data.metrics == {
        "trials": 1,
        "devel_ccc": 0.5,
        "arousal.devel_ccc": 0.5,
        "arousal.devel_ccc_low": 0.3,
        "arousal.devel_frames": 7,
        "arousal.devel_ccc.floor.mean": 0.4,
    }
    assert task.data.params["a"] == study.data.params[f"winner.{TASK}.a"] == "1, 2"
    assert task.data.params["members"] == "1, 2"

    note = study.data.tags["mlflow.note.content"]
    assert note.startswith("**CCC on devel: arousal 0.500**")
    link = next(word for word in note.split("](") if "searchFilter" in word).split(")")[0]
    query = parse_qs(link.split("?", 1)[1])
    client = MlflowClient(uri, uri)
    found = client.search_runs([study.info.experiment_id], query["searchFilter"][0])
    assert {run.info.run_name for run in found} == {"0000", "0002"}


def test_an_interrupted_study_is_killed_and_runs_again_after_it_is_resumed(
    folder: Path, uri: str
) -> None:
    def statuses() -> list[str]:
        sent = runs(uri)
        return [sent[name].info.status for name in ("study", TASK, "0000", "0001")]

    append(
        folder,
        study_opened(),
        *whole_trial(0, "patience"),
        trial_proposed(1),
        trial_progressed(1, 1),
        StudyStopped(at=1400, reason="Ctrl-C"),
    )
    assert send(folder, uri) == 0
    assert statuses() == ["KILLED", "KILLED", "FINISHED", "KILLED"]
    assert runs(uri)["study"].data.tags["stop_reason"] == "Ctrl-C"

    append(folder, StudyResumed(at=1500), trial_progressed(1, 1, 2))
    assert send(folder, uri) == 0
    assert statuses() == ["RUNNING", "RUNNING", "FINISHED", "RUNNING"]
    assert curve(uri, runs(uri)["0001"], "devel_ccc") == [(1, 0.01), (2, 0.02)]


@pytest.mark.parametrize("is_position_lost", [True, False])
def test_a_journal_that_is_sent_twice_changes_nothing(
    folder: Path, uri: str, is_position_lost: bool
) -> None:
    append(folder, study_opened(), *whole_trial(0, "asha"), *whole_trial(1, "patience"))
    assert send(folder, uri) == 0
    before = runs(uri)

    if is_position_lost:
        (folder / TRACKING).unlink()
    append(folder, *whole_trial(2, "max_epochs"))
    assert send(folder, uri) == 0

    after = runs(uri)
    assert set(after) == {*before, "0002"}
    for name, run in before.items():
        assert after[name].info.run_id == run.info.run_id
        assert after[name].data.metrics == run.data.metrics
    assert len(curve(uri, after["0000"], "devel_ccc")) == 4


def test_another_server_gets_all_of_it(folder: Path, uri: str, tmp_path: Path) -> None:
    append(folder, study_opened(), *whole_trial(0, "asha"))
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "other.db")
    assert send(folder, uri) == 0

    other_uri = f"sqlite:///{tmp_path / 'other.db'}"
    assert send(folder, other_uri) == 0
    assert set(runs(other_uri)) == set(runs(uri))


def test_a_study_whose_run_was_deleted_is_sent_from_the_beginning(folder: Path, uri: str) -> None:
    append(folder, study_opened(), *whole_trial(0, "asha"))
    assert send(folder, uri) == 0
    before = runs(uri)["study"]
    MlflowClient(uri, uri).delete_run(before.info.run_id)

    assert send(folder, uri) == 0
    after = runs(uri)["study"]
    assert after.info.run_id != before.info.run_id
    assert after.data.params == before.data.params
    assert after.data.tags[FORMAT_TAG] == before.data.tags[FORMAT_TAG]


def test_the_same_study_in_another_folder_is_another_run(
    folder: Path, uri: str, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    append(folder, study_opened(at=1000), *whole_trial(0, "asha"))
    append(second, study_opened(at=2000), *whole_trial(0, "store"))
    assert [send(folder, uri), send(second, uri)] == [0, 0]

    first_runs, second_runs = runs(uri, study_opened(at=1000)), runs(uri, study_opened(at=2000))
    assert first_runs["0000"].data.tags["stop_reason"] == "asha"
    assert second_runs["0000"].data.tags["stop_reason"] == "store"


def test_many_epochs_and_parameters_go_in_parts(folder: Path, uri: str) -> None:
    values = {f"network.setting {number}": number for number in range(150)}
    proposed = trial_proposed(0).model_copy(update={"configuration": values})
    append(folder, study_opened(), proposed, trial_progressed(0, *range(1, 701)))
    assert send(folder, uri) == 0

    run = runs(uri)["0000"]
    assert len(curve(uri, run, "devel_ccc")) == 700
    assert run.data.params["network.setting 149"] == "149"


def test_runs_of_an_earlier_format_are_refused_before_the_study_goes_on(
    folder: Path, uri: str
) -> None:
    append(folder, study_opened(), *whole_trial(0, "asha"))
    assert send(folder, uri) == 0
    client = MlflowClient(uri, uri)
    study_run_id = runs(uri)["study"].info.run_id
    client.delete_tag(study_run_id, FORMAT_TAG)

    with pytest.raises(InputError, match=r"Delete the study's runs.*or give another") as raised:
        Tracker(folder, uri).start()
    assert study_run_id in str(raised.value)

    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        client.delete_run(run.info.run_id)
    assert send(folder, uri) == 0
    assert set(runs(uri)) == {"study", TASK, "0000"}


def test_lost_answers_give_no_second_run_and_cost_no_metric(folder: Path, uri: str) -> None:
    """A third of the requests fails, and half of these were carried out all the same."""
    drawn = random.Random(1)
    lost = Counter[str]()

    def failure(name: str) -> str | None:
        if drawn.random() < 2 / 3:
            return None
        return AFTER if drawn.random() < 1 / 2 else BEFORE

    def unreliable(uri: str) -> Any:
        return UnreliableClient(uri, failure, lost)

    append(folder, study_opened())
    for number in range(8):
        append(folder, *whole_trial(number, "asha"))
    tracker = Tracker(folder, uri, interval_s=INTERVAL_S, first_wait_s=0.0, connect=unreliable)
    assert tracker.start().close(60) == 0

    assert {"create_run", "log_batch", "set_terminated"} <= set(lost)
    sent = runs(uri)
    assert len(sent) == 10
    for number in range(8):
        assert len(curve(uri, sent[f"{number:04d}"], "devel_ccc")) == 4
        assert sent[f"{number:04d}"].info.status == "FINISHED"


def test_a_server_that_is_away_does_not_stop_the_driver_and_a_resume_sends_the_rest(
    folder: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    append(folder, study_opened(), *whole_trial(0, "asha"))
    tracker = Tracker(folder, "http://user:secret@127.0.0.1:9", interval_s=INTERVAL_S).start()
    with caplog.at_level(logging.WARNING):
        assert tracker.close(1.0) == 5
    assert "--resume" in caplog.text
    assert "secret" not in caplog.text

    assert send(folder, uri) == 0
    assert len(curve(uri, runs(uri)["0000"], "devel_ccc")) == 4


def test_artefacts_are_kept_with_the_study(folder: Path, uri: str) -> None:
    append(folder, study_opened())
    (folder / "report.html").write_text("<html>")
    (folder / "plots").mkdir()
    (folder / "plots" / "traces.png").write_bytes(b"png")
    tracker = Tracker(folder, uri, interval_s=INTERVAL_S).start()
    tracker.log_artifacts(folder / "report.html", folder / "plots", folder / "not there")
    assert tracker.close(60) == 0

    client, run_id = MlflowClient(uri, uri), runs(uri)["study"].info.run_id
    assert [file.path for file in client.list_artifacts(run_id)] == ["plots", "report.html"]
    assert [file.path for file in client.list_artifacts(run_id, "plots")] == ["plots/traces.png"]


def test_a_run_that_somebody_deleted_does_not_hold_up_the_others(folder: Path, uri: str) -> None:
    append(folder, study_opened(), trial_proposed(0), trial_proposed(1))
    tracker = Tracker(folder, uri, interval_s=INTERVAL_S).start()
    wait_until(lambda: (folder / TRACKING).exists())
    MlflowClient(uri, uri).delete_run(runs(uri)["0000"].info.run_id)
    append(folder, trial_progressed(0, 1), trial_progressed(1, 1))
    assert tracker.close(60) == 0

    assert "0000" not in runs(uri)
    assert len(curve(uri, runs(uri)["0001"], "devel_ccc")) == 1


@pytest.mark.slow
def test_a_server_that_hangs_in_the_middle_costs_nothing(
    folder: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    raise_if_not_recordable(server.uri, "tracked")
    append(folder, study_opened(), *whole_trial(0, "asha"), trial_proposed(1))
    tracker = Tracker(folder, server.uri, interval_s=INTERVAL_S).start()
    wait_until(lambda: (folder / TRACKING).exists())

    # Each request is given up, and carried out all the same when the server goes on.
    server.signal(signal.SIGSTOP)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    append(
        folder,
        *whole_trial(2, "max_epochs"),
        trial_progressed(1, 1, 2),
        trial_ended(1, "patience"),
    )
    (folder / "report.html").write_text("<html>")
    tracker.log_artifacts(folder / "report.html")
    wait_until(lambda: "Training goes on" in caplog.text)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    server.signal(signal.SIGCONT)
    assert tracker.close(300) == 0
    assert capsys.readouterr().out == ""

    sent = runs(server.uri)
    num_epochs = [len(curve(server.uri, sent[f"{number:04d}"], "devel_ccc")) for number in range(3)]
    assert num_epochs == [4, 2, 4]
    assert sent["0002"].info.status == "FINISHED"

    client = MlflowClient(server.uri, server.uri)
    artifacts = client.list_artifacts(sent["study"].info.run_id)
    assert [file.path for file in artifacts] == ["report.html"]


def test_the_queue_to_mlflow_grows_while_it_is_away_and_empties(
    empty_database: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    opened = study_opened()
    append(folder, opened)
    away = Tracker(folder, "http://127.0.0.1:9", first_wait_s=0.05)
    away.start()
    length, age_s = away.backlog(1)
    time.sleep(0.01)
    assert (length, age_s >= 0) == (1, True)
    assert away.backlog(5)[0] == 5
    assert away.backlog(1)[1] > age_s
    away.close(0.1)

    there = Tracker(folder, f"sqlite:///{empty_database}", interval_s=0.05)
    there.start()
    deadline = time.monotonic() + 60
    while there.backlog(1) != (0, 0.0):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    there.close(30)
    again = Tracker(folder, f"sqlite:///{empty_database}")
    again.start()
    assert again.backlog(1) == (0, 0.0)
    again.close(30)
