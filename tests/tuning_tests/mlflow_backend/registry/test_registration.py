"""A study's winner becomes one version, whatever fails meanwhile."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import LoggedModelStatus

from pipeline.errors import AffectuneError, InputError
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel
from serving.models.model_registry import ModelRegistry
from tests.tuning_tests.mlflow_backend.documented_names import (
    documented_version_tags,
    undocumented,
    unused,
)
from tests.tuning_tests.mlflow_backend.lost_answers import AFTER, UnreliableClient
from tests.tuning_tests.mlflow_backend.registry.winners import (
    comparison,
    example_features,
    finished_study,
    register_winner,
    study_opened,
)
from tuning.mlflow_backend.client import connect
from tuning.mlflow_backend.registry.promotion import promote, rollback
from tuning.mlflow_backend.registry.registration import register, registrable
from tuning.mlflow_backend.registry.versions import (
    aliases_of,
    model_names,
    registry_names,
    versions_of,
)
from tuning.mlflow_backend.tracking.run_updates import STUDY
from tuning.mlflow_backend.tracking.study_runs import (
    find_or_create_experiment,
    find_runs,
    identity_tags,
)


def test_a_version_says_where_it_comes_from_and_leads_to_its_run_and_its_logged_model(
    bundle: Path, uri: str
) -> None:
    study = finished_study()
    assert register(bundle, study, uri, example=example_features()) == ("affectune", "1")

    client = connect(uri)
    version = client.get_model_version("affectune", "1")
    assert version.description is not None
    assert version.description.startswith("# The card")
    assert version.description.endswith("The whole card is README.md in the bundle.")
    assert float(version.tags["devel_ccc.arousal"]) == 0.5
    scores = json.loads(version.tags["affectune.scores"])
    assert scores["arousal"]["ccc"] == [0.5, 0.25, None]
    assert version.tags["affectune.study_name"] == "registered"
    assert version.tags["affectune.trials"] == "1"
    assert version.tags["affectune.corpus"] == "/corpora/tiny"
    assert len(version.tags) <= 8

    experiment_id = find_or_create_experiment(client, uri, "registered")
    [run] = find_runs(client, experiment_id, study_opened().id)["study"]
    assert version.run_id == run.info.run_id
    assert run.outputs is not None
    [output] = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert version.source == f"models:/{model.model_id}"
    assert model.source_run_id == run.info.run_id
    assert model.status == LoggedModelStatus.READY
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "affectune", "version": "1"}]
    assert model.params["inference"] == "distilled from ensemble of 5 folds x 2 seeds"

    metrics = {metric.key: metric for metric in model.metrics or []}
    assert metrics["devel_ccc"].value == metrics["arousal.devel_ccc"].value == 0.5
    assert metrics["arousal.devel_ccc_low"].value == 0.25
    assert "arousal.devel_ccc_high" not in metrics
    assert metrics["devel_ccc"].dataset_name == "tiny"
    assert metrics["devel_ccc"].dataset_digest == "c" * 16


def test_every_tag_of_a_version_is_documented_and_every_documented_tag_is_set(
    bundle: Path, uri: str
) -> None:
    register_winner(bundle, uri, "a", promote_first=True)
    register_winner(bundle, uri, "b")
    client = connect(uri)
    assert promote(client, "affectune", "2", comparison(mean=0.1), against="1", force=False)
    tags = {*client.get_model_version("affectune", "2").tags}
    assert rollback(client, "affectune") == ("1", "2")
    tags |= {*client.get_model_version("affectune", "1").tags}

    documented = documented_version_tags()
    assert undocumented(tags, documented) == set()
    assert unused(tags, documented) == set()


def test_registering_twice_gives_no_second_version_and_undoes_no_decision(
    bundle: Path, uri: str
) -> None:
    def register_both() -> list[str]:
        return [
            register_winner(bundle, uri, "a", promote_first=True),
            register_winner(bundle, uri, "b"),
        ]

    assert register_both() == ["1", "2"]
    client = connect(uri)
    client.set_registered_model_alias("affectune", "champion", "2")
    client.delete_registered_model_alias("affectune", "challenger")

    assert register_both() == ["1", "2"]
    assert aliases_of(client, "affectune") == {"champion": "2"}


def test_only_a_first_version_that_is_registered_for_it_is_the_champion_at_once(
    bundle: Path, uri: str
) -> None:
    register_winner(bundle, uri, "a")
    client = connect(uri)
    assert aliases_of(client, "affectune") == {"challenger": "1"}

    register_winner(bundle, uri, "b", promote_first=True)
    assert aliases_of(client, "affectune") == {"challenger": "1", "champion": "2"}

    register_winner(bundle, uri, "c", promote_first=True)
    assert aliases_of(client, "affectune") == {"challenger": "3", "champion": "2"}


def test_a_damaged_bundle_is_not_registered(bundle: Path, uri: str, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "damaged")
    (tmp_path / "damaged" / "README.md").write_text("another card")
    with pytest.raises(InputError, match="was changed"):
        register_winner(tmp_path / "damaged", uri)


def test_a_winner_is_not_registered_into_runs_of_an_earlier_format(bundle: Path, uri: str) -> None:
    client = connect(uri)
    experiment_id = find_or_create_experiment(client, uri, "registered")
    tags = identity_tags(study_opened("d" * 64).id, STUDY) | {"affectune.kind": "study"}
    client.create_run(experiment_id, tags=tags)

    with pytest.raises(InputError, match=r"has format 1.*--resume"):
        register_winner(bundle, uri)


@pytest.mark.slow
def test_lost_answers_give_no_second_version(bundle: Path, uri: str) -> None:
    """Every request is carried out, and the first answer to each kind is lost."""
    lost = Counter[str]()

    def failure(name: str) -> str | None:
        return None if name in lost else AFTER

    def unreliable(uri: str) -> Any:
        return UnreliableClient(uri, failure, lost)

    assert register_winner(bundle, uri, promote_first=True, connect=unreliable) == "1"
    assert {"create_registered_model", "create_model_version"} <= set(lost)
    assert {"create_logged_model", "log_model_artifacts", "log_outputs"} <= set(lost)
    assert "set_registered_model_alias" in lost

    client = connect(uri)
    [version] = versions_of(client, "affectune")
    assert aliases_of(client, "affectune") == {"champion": "1"}
    run = client.get_run(str(version.run_id))
    assert len(client.search_logged_models([run.info.experiment_id])) == 1
    assert run.outputs is not None
    assert len(run.outputs.model_outputs) == 1


def test_a_registry_that_is_away_is_an_error_that_says_how_to_go_on(bundle: Path) -> None:
    with pytest.raises(AffectuneError, match="--resume") as raised:
        register_winner(bundle, "http://me:secret@127.0.0.1:9", patience_s=0.0)
    assert "secret" not in str(raised.value)


def _register_two(bundle: Path, uri: str, process: int) -> list[str]:
    """Register two winners in a process of its own."""
    versions = []
    for number in range(2):
        study = finished_study(f"{process:032d}{number:032d}")
        _, version = register(bundle, study, uri, example=example_features(), promote_first=True)
        versions.append(version)
    return versions


@pytest.mark.slow
def test_processes_that_register_at_once_make_distinct_versions_and_one_champion(
    bundle: Path, uri: str
) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        first, second = processes.map(_register_two, [bundle] * 2, [uri] * 2, range(2))
    assert sorted(map(int, first + second)) == [1, 2, 3, 4]

    client = connect(uri)
    versions = versions_of(client, "affectune")
    assert len(versions) == 4
    assert set(aliases_of(client, "affectune")) == {"champion", "challenger"}
    first_aliases = [version.tags["affectune.placed"] for version in versions]
    assert first_aliases.count("champion") == 1


def test_the_downloaded_model_is_the_registered_one(
    model: FusedModel, bundle: Path, uri: str, tmp_path: Path
) -> None:
    register_winner(bundle, uri)
    ModelRegistry(uri).download("affectune", "1", tmp_path)
    downloaded = load_model(tmp_path)
    np.testing.assert_array_equal(
        downloaded.predict(example_features()).values["arousal"],
        model.predict(example_features()).values["arousal"],
    )


def test_the_names_are_those_that_the_endpoint_reads() -> None:
    names = registry_names()
    assert (names.model, names.bundle) == ("affectune", "bundle")
    assert names.aliases.model_dump() == {
        "champion": "champion",
        "challenger": "challenger",
        "previous": "previous",
    }


@pytest.mark.parametrize("name", ["a/b", "a:b", "../a", ".", " "])
def test_a_model_that_could_not_be_registered_is_refused_before_a_study(
    uri: str, name: str
) -> None:
    with pytest.raises(InputError, match="does not take the model"), registrable(uri, name):
        pass


def test_proving_that_a_model_can_be_registered_leaves_its_versions_as_they_are(
    bundle: Path, uri: str
) -> None:
    for _ in range(2):
        with registrable(uri, "affectune"):
            pass
    assert register_winner(bundle, uri, promote_first=True) == "1"
    with pytest.raises(InputError, match="refused"), registrable(uri, "affectune"):
        raise InputError("refused")
    assert aliases_of(connect(uri), "affectune") == {"champion": "1"}


def test_a_registry_that_cannot_be_written_is_refused_before_a_study(
    uri: str, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON registered_models "
            "BEGIN SELECT RAISE(ABORT, 'read-only registry'); END"
        )
    refused = pytest.raises(InputError, match="does not take the model 'affectune'")
    with refused, registrable(uri, "affectune"):
        pass


def refuse_a_study(uri: str, holds_meanwhile: Callable[[], bool]) -> None:
    """Refuse a study when its model was proven to be registrable."""
    with registrable(uri, "affectune"):
        assert holds_meanwhile()
        raise InputError("refused")


def test_a_study_that_is_refused_afterwards_leaves_no_registered_model(uri: str) -> None:
    with pytest.raises(InputError, match="refused"):
        refuse_a_study(uri, lambda: model_names(connect(uri)) == ["affectune"])
    assert model_names(connect(uri)) == []


def test_a_version_that_another_study_registered_meanwhile_is_kept(bundle: Path, uri: str) -> None:
    with pytest.raises(InputError, match="refused"):
        refuse_a_study(uri, lambda: register_winner(bundle, uri, promote_first=True) == "1")
    assert aliases_of(connect(uri), "affectune") == {"champion": "1"}


def test_a_model_that_can_be_made_but_not_written_is_removed_again(
    uri: str, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON registered_model_tags "
            "BEGIN SELECT RAISE(ABORT, 'no tags'); END"
        )
    with pytest.raises(InputError, match="no tags"), registrable(uri, "affectune"):
        pass
    assert model_names(connect(uri)) == []
