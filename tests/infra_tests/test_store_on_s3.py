"""A study in an object store: published, gone on with, served by URI, and tidied up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import affectune
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.store_address import object_address
from serving.models.model_source import find_source
from serving.settings import Settings
from tests.s3 import KEY_ID, SECRET, Proxy, s3
from tests.tuning_tests.damages.recovery import winner_of
from tests.tuning_tests.in_process import InProcess
from tuning.cli.study import study_app
from tuning.garbage.collection import collect
from tuning.journal.history import read_history

pytestmark = pytest.mark.cluster


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """An S3 server, whose keys are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "cache"))
    with s3(tmp_path) as server:
        yield server


def _status(store: str, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(study_app, ["status", store, "--json", *options])
    assert result.exception is None, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_study_goes_on_from_an_object_store_and_its_winner_is_read_from_there(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, store = InProcess(monkeypatch), proxy.uri("lab/store", keys="")
    undisturbed = process.run(tmp_path / "undisturbed", tmp_path / "store")
    assert process.run(tmp_path / "first", store, num_reports=24) is None
    [listed] = _status(store)["studies"]
    assert (listed["state"], listed["finished"]) == ("stopped", False)

    # Whatever is old is removed, but for what the study needs.
    objects = ObjectStore(object_address(store))
    objects.write("lab/notes.txt", b"mine")
    objects.write(f"{'ab' * 32}.zip", b"an entry that nothing needs")
    objects.write(f"leases/{'ab' * 32}.json", b"{}")
    found = collect(store, older_than_s=-60.0, remove=True)
    assert {f"{'ab' * 32}", f"leases/{'ab' * 32}.json"} <= set(found.names)
    assert found.total("foreign").entries == 1
    assert objects.read("lab/notes.txt") == b"mine"
    known = read_history(tmp_path / "first").trials.values()

    summary = process.run(tmp_path / "second", store)
    assert summary is not None
    assert undisturbed is not None
    assert winner_of(summary) == winner_of(undisturbed)
    assert not set(process.trained) & {trial.name for trial in known if trial.is_complete}

    study = _status(store, "--study", "small")
    model = affectune.load(study["model"])
    assert model.targets == ("arousal",)
    source = find_source(Settings(model=study["model"], cache=tmp_path / "other"))
    assert source.fetch(source.newest()).version == source.newest()
    place, _, query = store.partition("?")
    assert _status(f"{place}/studies/{study['id']}?{query}")["id"] == study["id"]
    for each in list(objects.names()):
        assert SECRET.encode() not in (objects.read(each.name) or b"")


def test_a_store_that_refuses_now_and_then_or_is_away_costs_a_study_nothing(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, store = InProcess(monkeypatch), proxy.uri("lab/store", keys="")
    undisturbed = process.run(tmp_path / "undisturbed", tmp_path / "store")
    proxy.fail(*["503", "lost"] * 4)
    summary = process.run(tmp_path / "out", store)
    assert summary is not None
    assert undisturbed is not None
    assert winner_of(summary) == winner_of(undisturbed)
    assert _status(store, "--study", "small")["state"] == "completed"
