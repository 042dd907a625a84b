"""A study's runs on a server are found, or refused before the study starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.errors import InputError
from tests.tuning_tests.mlflow_backend.tracking.study_events import study_opened
from tuning.mlflow_backend.client import connect
from tuning.mlflow_backend.tracking.run_updates import FORMAT, FORMAT_TAG, STUDY, study_id
from tuning.mlflow_backend.tracking.study_runs import (
    find_or_create_experiment,
    find_runs,
    identity_tags,
    raise_if_not_recordable,
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


@pytest.mark.parametrize("folder", ["file/runs", "file", "50% #1 a+b?/runs"])
def test_artefacts_that_could_not_be_written_are_refused(
    uri: str, tmp_path: Path, folder: str
) -> None:
    place = tmp_path / folder
    MlflowClient(uri, uri).create_experiment("elsewhere", artifact_location=place.as_uri())
    if "file" not in folder:
        raise_if_not_recordable(uri, "elsewhere")
        return

    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"keeps its artefacts in .*cannot be written"):
        raise_if_not_recordable(uri, "elsewhere")


@pytest.mark.parametrize("run_format", [None, "1", "3"])
def test_runs_of_another_format_are_refused_with_what_to_do(
    uri: str, run_format: str | None
) -> None:
    client = connect(uri)
    identity = study_id(study_opened())
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


def test_runs_of_this_format_are_found_by_name_the_fullest_first(uri: str) -> None:
    client = connect(uri)
    identity = study_id(study_opened())
    experiment_id = find_or_create_experiment(client, uri, "tracked")
    tags = identity_tags(identity, STUDY) | {FORMAT_TAG: FORMAT}
    empty, full = (client.create_run(experiment_id, tags=tags).info.run_id for _ in range(2))
    client.log_metric(full, "trials", 1.0)

    runs = find_runs(client, experiment_id, identity)
    assert [run.info.run_id for run in runs[STUDY]] == [full, empty]
