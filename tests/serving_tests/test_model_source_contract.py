"""What every model source does: its bundles come from a folder, a store or the registry."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from pipeline.model.bundle import load_model, save_model
from pipeline.storage.atomic_folder import read_folder
from pipeline.storage.folder_store import FolderStore
from serving.models.bundle_cache import BundleCache
from serving.models.model_source import ModelSource, StoreSource, find_source
from serving.models.smoke_test import predict_once
from serving.settings import Settings
from tests.serving_tests.registry import ALIAS, Registry

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@dataclass(frozen=True)
class Served:
    """A source of one model.

    Attributes:
        source: what is tested.
        stored: the folder of the bundle that the source serves.
        is_cached: whether the source keeps a copy of what it fetched.
        replace: serves another bundle.
    """

    source: ModelSource
    stored: Path
    is_cached: bool
    replace: Callable[[Path], None]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One registry for all tests; each has a registered model of its own."""
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(params=["folder", "store", "registry"])
def served(request: pytest.FixtureRequest, bundle: Path, tmp_path: Path) -> Served:
    """A source of each kind."""
    if request.param == "folder":
        return _from_folder(bundle, tmp_path)
    if request.param == "store":
        return _from_store(bundle, tmp_path)
    return _from_registry(request.getfixturevalue("registry"), bundle, tmp_path)


def _from_folder(bundle: Path, tmp_path: Path) -> Served:
    folder = tmp_path / "model"

    def replace(other: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(other, folder)

    shutil.copytree(bundle, folder)
    return Served(_source(str(folder), tmp_path), folder, False, replace)


def _from_store(bundle: Path, tmp_path: Path) -> Served:
    """Return a source of a bundle in a store; a folder stands for the service."""
    folder = tmp_path / "bucket"

    def replace(other: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(other, folder)

    shutil.copytree(bundle, folder)
    source = StoreSource(
        "s3://bucket/model",
        FolderStore(folder),
        BundleCache(tmp_path / "cache", "model"),
        lambda fetched: predict_once(load_model(fetched)),
    )
    return Served(source, folder, True, replace)


def _from_registry(registry: Registry, bundle: Path, tmp_path: Path) -> Served:
    name = f"model-{uuid.uuid4().hex[:8]}"
    registry.create_model(name)

    def replace(other: Path) -> None:
        registry.promote(registry.register(other, name), name)

    replace(bundle)
    source = _source(f"models:/{name}@{ALIAS}", tmp_path, registry.uri)
    return Served(source, registry.bundle_folder("1", name), True, replace)


def _source(model: str, tmp_path: Path, tracking_uri: str | None = None) -> ModelSource:
    settings = Settings(model=model, tracking_uri=tracking_uri, cache=tmp_path / "cache")
    return find_source(
        settings, smoke_test=lambda folder, timeout_s: predict_once(load_model(folder))
    )


def _other_bundle(bundle: Path, tmp_path: Path) -> Path:
    """The same model with another card."""
    save_model(load_model(bundle), tmp_path / "other", card="Another one.")
    return tmp_path / "other"


def test_the_newest_version_stays_the_same_until_the_model_is_replaced(
    served: Served, bundle: Path, tmp_path: Path
) -> None:
    version = served.source.newest()
    assert version
    assert served.source.newest() == version

    served.replace(_other_bundle(bundle, tmp_path))
    assert served.source.newest() != version


def test_a_fetched_bundle_has_the_files_that_were_stored_and_names_its_version(
    served: Served,
) -> None:
    version = served.source.newest()
    bundle = served.source.fetch(version)

    assert bundle.version == version
    assert bundle.name
    assert read_folder(bundle.folder) == read_folder(served.stored)


def test_a_version_is_fetched_twice_to_the_same_bundle(served: Served) -> None:
    version = served.source.newest()
    assert served.source.fetch(version) == served.source.fetch(version)


def test_a_replaced_model_is_fetched_with_its_own_files(
    served: Served, bundle: Path, tmp_path: Path
) -> None:
    served.source.fetch(served.source.newest())

    served.replace(_other_bundle(bundle, tmp_path))
    fetched = served.source.fetch(served.source.newest())
    assert (fetched.folder / "README.md").read_text() == "Another one."


def test_a_bundle_with_a_changed_file_is_refused(served: Served) -> None:
    weights = served.stored / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")

    with pytest.raises(InputError, match="changed after it was written"):
        served.source.fetch(served.source.newest())
    assert served.source.last_verified() is None


def test_a_bundle_that_lacks_a_file_is_refused(served: Served) -> None:
    (served.stored / "weights.safetensors").unlink()

    with pytest.raises(InputError, match="is missing"):
        served.source.fetch(served.source.newest())
    assert served.source.last_verified() is None


def test_a_model_that_is_gone_is_an_error_for_a_person(served: Served) -> None:
    shutil.rmtree(served.stored)

    with pytest.raises(AffectuneError):
        served.source.fetch(served.source.newest())


def test_nothing_is_kept_before_anything_was_fetched(served: Served) -> None:
    assert served.source.last_verified() is None


def test_a_source_with_a_cache_keeps_the_last_verified_bundle(served: Served) -> None:
    bundle = served.source.fetch(served.source.newest())
    assert served.source.last_verified() == (bundle if served.is_cached else None)


def test_a_kept_bundle_that_was_changed_is_no_longer_verified(served: Served) -> None:
    bundle = served.source.fetch(served.source.newest())
    (bundle.folder / "model.json").write_bytes(b"{}")
    assert served.source.last_verified() is None


def test_a_model_that_never_was_has_no_newest_version(
    served: Served, registry: Registry, tmp_path: Path
) -> None:
    name = f"models:/none@{ALIAS}" if served.is_cached else str(tmp_path / "none")
    source = _source(name, tmp_path, registry.uri)

    with pytest.raises(AffectuneError, match="none"):
        source.newest()
