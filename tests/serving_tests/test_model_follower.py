"""Following the registry: what answers is the champion, or the last one that worked."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.model.fused_model import FusedModel
from pipeline.storage.atomic_folder import read_folder, write_folder
from serving.metrics import Metrics
from serving.model_follower import ModelFollower
from serving.model_source import FolderSource, RegistrySource, RegistryUnavailable, find_source
from serving.settings import Settings
from serving.smoke_test import answer_once, pass_trial
from tests.serving_tests.registry import ALIAS, NAME, Registry

# mlflow 3.17 asks sqlalchemy 2.1 for something that it will no longer give.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Registry:
    """Versions 1 and 2 work; 3 was changed after it was written; 4 is no bundle; 5 is whole, but nothing reads it."""
    made = Registry(tmp_path_factory.mktemp("registry"))
    folder = tmp_path_factory.mktemp("versions")
    for name in ("changed", "empty", "odd"):
        shutil.copytree(bundle, folder / name)
    (folder / "changed" / "weights.safetensors").write_bytes(b"\0" * 100)
    (folder / "empty" / "model.json").unlink()
    files = {
        name: data for name, data in read_folder(folder / "odd").items() if name != "manifest.json"
    }
    write_folder(folder / "odd", {**files, "model.json": b'{"format": 1}'})
    for number, path in enumerate(
        [bundle, bundle, folder / "changed", folder / "empty", folder / "odd"], start=1
    ):
        assert made.register(path) == str(number)
    return made


@pytest.fixture
def settings(registry: Registry, tmp_path: Path) -> Settings:
    return Settings(
        model=f"models:/{NAME}@{ALIAS}", tracking_uri=registry.uri, cache=tmp_path / "cache"
    )


@pytest.fixture(autouse=True)
def _trials_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for every trial takes seconds; the tests of trials themselves start one."""
    monkeypatch.setattr(
        "serving.model_source.pass_trial",
        lambda folder, timeout_s: answer_once(FusedModel.load(folder)),
    )


@pytest.fixture
def follow(settings: Settings) -> Callable[..., ModelFollower]:
    def make(metrics: Metrics | None = None, **changes: object) -> ModelFollower:
        chosen = settings.model_copy(update=changes)
        return ModelFollower(find_source(chosen), chosen, metrics)

    return make


def _version(following: ModelFollower) -> str | None:
    current = following.current()
    return None if current is None else current.version


def test_the_champion_answers_and_is_followed_back_and_forth(
    registry: Registry, follow: Callable[..., ModelFollower]
) -> None:
    following = follow()
    for version in ("1", "2", "1"):
        registry.promote(version)
        following.refresh()
        assert _version(following) == version


@pytest.mark.parametrize("broken", ["3", "4", "5"])
def test_a_broken_version_never_replaces_one_that_works(
    registry: Registry, follow: Callable[..., ModelFollower], broken: str
) -> None:
    metrics = Metrics()
    following = follow(metrics)
    registry.promote("1")
    following.refresh()
    registry.promote(broken)
    following.refresh()
    following.refresh()
    assert _version(following) == "1"
    assert b"affectune_follow_failures_total 1.0" in metrics.text()
    assert b'affectune_model_replicas{name="affectune",version="1"} 1.0' in metrics.text()
    registry.promote("2")
    following.refresh()
    assert _version(following) == "2"


def test_with_the_registry_away_the_last_verified_model_answers_after_a_restart_too(
    registry: Registry, follow: Callable[..., ModelFollower], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote("2")
    running = follow()
    running.refresh()

    def away(self: RegistrySource) -> None:
        raise RegistryUnavailable("The registry is away.")

    monkeypatch.setattr(RegistrySource, "_client", away)
    running.refresh()
    assert _version(running) == "2"
    restarted = follow()
    restarted.refresh()
    assert _version(restarted) == "2"


def test_what_was_changed_in_the_cache_is_not_served_but_fetched_anew(
    registry: Registry, follow: Callable[..., ModelFollower], settings: Settings
) -> None:
    registry.promote("1")
    follow().refresh()
    weights = next((settings.cache or Path()).rglob("weights.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"\1")
    assert find_source(settings).last_verified() is None
    follow().refresh()
    assert weights.read_bytes() == whole


def test_a_version_by_its_number_is_served(follow: Callable[..., ModelFollower]) -> None:
    following = follow(model=f"models:/{NAME}/2")
    following.refresh()
    assert _version(following) == "2"


def test_without_a_registry_there_is_no_model_and_no_file_is_made(tmp_path: Path) -> None:
    settings = Settings(tracking_uri=f"sqlite:///{tmp_path}/none.db", cache=tmp_path / "cache")
    following = ModelFollower(find_source(settings), settings)
    following.refresh()
    assert _version(following) is None
    assert not (tmp_path / "none.db").exists()


def test_only_the_last_versions_are_kept(
    registry: Registry, settings: Settings, bundle: Path
) -> None:
    source = find_source(settings)
    assert isinstance(source, RegistrySource)
    for version in ("1", "2", "1"):
        kept = source.fetch(version).folder
    for number in range(6, 10):
        shutil.copytree(kept, source.cache / f"{number}-1")
    source.fetch("2")
    assert len([path for path in source.cache.iterdir() if path.name[0].isdigit()]) == 3


def test_a_registry_that_was_made_anew_is_not_taken_for_the_old_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its versions count from 1 again, at the same address: what tells them apart is when they were made."""
    source = find_source(settings)
    assert isinstance(source, RegistrySource)
    before = source.fetch("1").folder
    assert source.fetch("1").folder == before
    monkeypatch.setattr(RegistrySource, "_made_at", lambda self, version: 12345)
    after = source.fetch("1").folder
    assert after != before
    last = source.last_verified()
    assert last is not None
    assert (last.version, last.folder) == ("1", after)


def test_a_folder_is_served_under_its_hash(bundle: Path) -> None:
    settings = Settings(model=str(bundle))
    following = ModelFollower(find_source(settings), settings)
    following.refresh()
    current = following.current()
    assert current is not None
    assert (current.name, len(current.version)) == ("model", 12)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a bundle"):
        FolderSource(tmp_path).newest()
    for text in ("models:/affectune", "models:/affectune@", "models:/a/b@c", "models:/a/latest"):
        with pytest.raises(InputError, match="is not a model"):
            find_source(Settings(model=text))


def test_a_trial_in_a_process_of_its_own_passes_what_works(bundle: Path) -> None:
    pass_trial(bundle, 120)


def test_a_trial_that_ends_badly_says_why(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"failed its trial: .* is not a complete bundle"):
        pass_trial(tmp_path, 120)
    with pytest.raises(InputError, match="did not answer within"):
        pass_trial(bundle, 0.01)


def test_the_names_are_those_that_the_registry_file_fixes() -> None:
    fixed = tomllib.loads((ROOT / "mlflow" / "registry.toml").read_text(encoding="utf-8"))
    assert Settings().model == f"models:/{fixed['model']}@{fixed['aliases']['champion']}"
