"""Following the registry: the champion predicts, or the last version that worked."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.model.bundle import load_model
from pipeline.storage.atomic_folder import read_folder, write_folder
from serving.models.bundle_cache import BundleCache
from serving.models.model_follower import ModelFollower
from serving.models.model_registry import ModelRegistry, RegistryUnavailable
from serving.models.model_source import (
    FolderSource,
    ModelSource,
    RegisteredModel,
    RegistrySource,
    find_source,
)
from serving.models.smoke_test import predict_once, run_smoke_test
from serving.monitoring.metrics import Metrics
from serving.settings import Settings
from tests.serving_tests.registry import ALIAS, NAME, Registry

# mlflow 3.17 asks sqlalchemy 2.1 for something that it will no longer give.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
ROOT = Path(__file__).parents[2]


class _InterruptedRegistry(ModelRegistry):
    """Answers as long as it is available."""

    is_available = True

    def version_of_alias(self, name: str, alias: str) -> str:
        """Return the version, or fail as where there is no network."""
        if not self.is_available:
            raise RegistryUnavailable("The registry is away.")
        return super().version_of_alias(name, alias)


class _RebuiltRegistry(ModelRegistry):
    """Was made anew: its versions have the same numbers and were registered at another time."""

    def created_ms(self, name: str, version: str) -> int:
        """Return another time than the true one."""
        return 12345


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Registry:
    """A registry with five versions.

    1 and 2 work; 3 was changed after it was written; 4 is no bundle; 5 is complete, but no model.
    """
    registry = Registry(tmp_path_factory.mktemp("registry"))
    folder = tmp_path_factory.mktemp("versions")
    changed, no_bundle, no_model = (folder / name for name in ("changed", "empty", "odd"))
    for copy in (changed, no_bundle, no_model):
        shutil.copytree(bundle, copy)

    (changed / "weights.safetensors").write_bytes(b"\0" * 100)
    (no_bundle / "model.json").unlink()
    write_folder(no_model, {**read_folder(no_model), "model.json": b'{"format": 1}'})

    versions = [bundle, bundle, changed, no_bundle, no_model]
    for number, path in enumerate(versions, start=1):
        assert registry.register(path) == str(number)
    return registry


@pytest.fixture
def settings(registry: Registry, tmp_path: Path) -> Settings:
    """Settings that follow the champion."""
    return Settings(
        model=f"models:/{NAME}@{ALIAS}", tracking_uri=registry.uri, cache=tmp_path / "cache"
    )


@pytest.fixture
def follow(settings: Settings) -> Callable[..., ModelFollower]:
    """Make a follower with some settings changed."""

    def make(metrics: Metrics | None = None, **changes: object) -> ModelFollower:
        changed = settings.model_copy(update=changes)
        return ModelFollower(_find_source(changed), changed, metrics)

    return make


def _find_source(settings: Settings) -> ModelSource:
    """Smoke tests run in this process: starting one takes seconds."""
    return find_source(settings, smoke_test=lambda folder, timeout_s: _predict_once(folder))


def _registry_source(registry: ModelRegistry, cache: BundleCache) -> RegistrySource:
    model = RegisteredModel.parse(f"models:/{NAME}@{ALIAS}")
    return RegistrySource(model, registry, cache, _predict_once)


def _predict_once(folder: Path) -> None:
    predict_once(load_model(folder))


def _version(follower: ModelFollower) -> str | None:
    current = follower.current()
    return None if current is None else current.version


def test_the_champion_predicts_and_is_followed_back_and_forth(
    registry: Registry, follow: Callable[..., ModelFollower]
) -> None:
    follower = follow()
    for version in ("1", "2", "1"):
        registry.promote(version)
        follower.refresh()
        assert _version(follower) == version


@pytest.mark.parametrize("broken", ["3", "4", "5"])
def test_a_broken_version_never_replaces_one_that_works(
    registry: Registry, follow: Callable[..., ModelFollower], broken: str
) -> None:
    metrics = Metrics()
    follower = follow(metrics)
    registry.promote("1")
    follower.refresh()

    registry.promote(broken)
    follower.refresh()
    follower.refresh()
    assert _version(follower) == "1"
    assert b"affectune_follow_failures_total 1.0" in metrics.text()
    assert b'affectune_model_replicas{name="affectune",version="1"} 1.0' in metrics.text()

    registry.promote("2")
    follower.refresh()
    assert _version(follower) == "2"


def test_without_the_registry_the_last_verified_model_predicts_even_after_a_restart(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    registry.promote("2")
    cache = BundleCache(tmp_path / "kept", NAME)
    server = _InterruptedRegistry(registry.uri)
    running = ModelFollower(_registry_source(server, cache), settings)
    running.refresh()

    server.is_available = False
    running.refresh()
    assert _version(running) == "2"

    restarted = ModelFollower(_registry_source(server, cache), settings)
    restarted.refresh()
    assert _version(restarted) == "2"


def test_a_bundle_that_was_changed_in_the_cache_is_not_served_but_fetched_anew(
    registry: Registry, follow: Callable[..., ModelFollower], settings: Settings
) -> None:
    registry.promote("1")
    follow().refresh()
    weights = next((settings.cache or Path()).rglob("weights.safetensors"))
    intact = weights.read_bytes()

    weights.write_bytes(intact[:-1] + b"\1")
    assert find_source(settings).last_verified() is None
    follow().refresh()
    assert weights.read_bytes() == intact


def test_a_version_by_its_number_is_served(follow: Callable[..., ModelFollower]) -> None:
    follower = follow(model=f"models:/{NAME}/2")
    follower.refresh()
    assert _version(follower) == "2"


def test_without_a_registry_there_is_no_model_and_no_file_is_made(tmp_path: Path) -> None:
    settings = Settings(tracking_uri=f"sqlite:///{tmp_path}/none.db", cache=tmp_path / "cache")
    follower = ModelFollower(find_source(settings), settings)
    follower.refresh()
    assert _version(follower) is None
    assert not (tmp_path / "none.db").exists()
    assert "study run" in follower.advice()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("models:/affectune@champion", "registry promote affectune 2"),
        ("models:/affectune@challenger", "models:/affectune/<version>"),
        ("models:/another@champion", "'affectune'"),
    ],
)
def test_without_an_alias_the_versions_are_named_and_nothing_private_to_everybody(
    tmp_path: Path, bundle: Path, model: str, words: str
) -> None:
    registry = Registry(tmp_path)
    for _ in range(2):
        registry.register(bundle)

    settings = Settings(model=model, tracking_uri=registry.uri, cache=tmp_path / "cache")
    with pytest.raises(RegistryUnavailable) as raised:
        find_source(settings).newest()
    assert words in str(raised.value)
    assert words in raised.value.advice
    assert str(tmp_path) not in raised.value.advice


def test_only_the_last_versions_are_kept(registry: Registry, tmp_path: Path) -> None:
    cache = BundleCache(tmp_path / "kept", NAME)
    source = _registry_source(ModelRegistry(registry.uri), cache)
    for version in ("1", "2", "1"):
        kept = source.fetch(version).folder
    for number in range(6, 10):
        shutil.copytree(kept, cache.folder / f"{number}-1")

    source.fetch("2")
    assert len([path for path in cache.folder.iterdir() if path.name[0].isdigit()]) == 3


def test_a_registry_that_was_made_anew_is_not_taken_for_the_old_one(
    registry: Registry, tmp_path: Path
) -> None:
    """Its versions count from 1 again, at the same address; only their times tell them apart."""
    cache = BundleCache(tmp_path / "kept", NAME)
    source = _registry_source(ModelRegistry(registry.uri), cache)
    before = source.fetch("1").folder
    assert source.fetch("1").folder == before

    rebuilt = _registry_source(_RebuiltRegistry(registry.uri), cache)
    after = rebuilt.fetch("1").folder
    assert after != before
    last = rebuilt.last_verified()
    assert last is not None
    assert (last.version, last.folder) == ("1", after)


def test_a_folder_is_served_under_its_hash(bundle: Path) -> None:
    settings = Settings(model=str(bundle))
    follower = ModelFollower(find_source(settings), settings)
    follower.refresh()

    current = follower.current()
    assert current is not None
    assert (current.name, len(current.version)) == ("model", 12)


def test_a_name_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a bundle"):
        FolderSource(tmp_path).newest()
    for uri in ("models:/affectune", "models:/affectune@", "models:/a/b@c", "models:/a/latest"):
        with pytest.raises(InputError, match="is not a model"):
            find_source(Settings(model=uri))


@pytest.mark.slow
def test_a_smoke_test_in_another_process_passes_a_bundle_that_works(bundle: Path) -> None:
    run_smoke_test(bundle, 120)


@pytest.mark.slow
def test_a_smoke_test_that_fails_names_the_cause(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"failed its smoke test: .* is not a complete bundle"):
        run_smoke_test(tmp_path, 120)


def test_the_names_are_those_that_the_registry_file_fixes() -> None:
    path = ROOT / "tuning" / "mlflow_backend" / "registry" / "registry.toml"
    text = path.read_text(encoding="utf-8")
    fixed = tomllib.loads(text)
    assert Settings().model == f"models:/{fixed['model']}@{fixed['aliases']['champion']}"
