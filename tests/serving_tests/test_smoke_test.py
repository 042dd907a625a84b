"""The trial of a version: a verdict about it, or cut off by the surroundings, which is none."""

from __future__ import annotations

import hashlib
import resource
import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import affectune
from pipeline.errors import AffectuneError, InputError
from pipeline.model.bundle import WEIGHTS, load_model
from pipeline.model.correction import Correction
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FUSION
from pipeline.storage.atomic_folder import read_folder, write_folder
from serving.models import smoke_test
from serving.models.model_follower import LONGEST_PAUSE_S, SECOND_LOOK_S, ModelFollower
from serving.models.model_registry import RegistryUnavailable
from serving.models.model_source import find_source
from serving.models.smoke_test import SmokeTestCutOff, predict_once, run_smoke_test
from serving.settings import Settings
from tests.serving_tests.registry import ALIAS, Registry

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Trial:
    """A smoke test that fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.num_calls = 0

    def __call__(self, folder: Path, timeout_s: float = 0.0) -> None:
        """Fail, or load the bundle."""
        self.num_calls += 1
        if self.failures:
            raise self.failures.pop(0)
        load_model(folder)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One registry for all tests, because making one takes seconds."""
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def name(registry: Registry, bundle: Path) -> str:
    """A registered model of a test's own, whose champion, version 1, works."""
    name = f"model-{uuid.uuid4().hex[:8]}"
    registry.create_model(name)
    registry.promote(registry.register(bundle, name), name)
    return name


@pytest.fixture
def follow(registry: Registry, name: str, tmp_path: Path) -> Callable[..., ModelFollower]:
    """Make a follower of the champion with this smoke test and clock."""

    def make(trial: Trial, clock: Clock) -> ModelFollower:
        settings = Settings(
            model=f"models:/{name}@{ALIAS}", tracking_uri=registry.uri, cache=tmp_path / "cache"
        )
        return ModelFollower(find_source(settings, smoke_test=trial), settings, None, clock)

    return make


def version_of(follower: ModelFollower) -> str | None:
    """Return the version that predicts."""
    current = follower.current()
    return None if current is None else current.version


@pytest.mark.parametrize(
    "failure",
    [
        SmokeTestCutOff("The smoke test was cut off: it was killed by SIGKILL."),
        SmokeTestCutOff("The smoke test did not start: Cannot allocate memory."),
        AffectuneError("The cache '/x' cannot be used: No space left on device."),
        RegistryUnavailable("Version 1 cannot be downloaded: Connection reset by peer"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_a_check_that_was_cut_off_is_repeated_after_a_pause(
    follow: Callable[..., ModelFollower], failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    trial, clock = Trial(failure, failure), Clock()
    follower = follow(trial, clock)
    for _ in range(3):  # no pause has passed yet
        follower.refresh()
    assert (trial.num_calls, version_of(follower)) == (1, None)
    assert "could not be checked yet" in follower.advice()

    clock.now_s += 5
    follower.refresh()
    clock.now_s += 5  # the second pause is twice the first
    follower.refresh()
    assert (trial.num_calls, version_of(follower)) == (2, None)

    clock.now_s += 5
    follower.refresh()
    assert (trial.num_calls, version_of(follower)) == (3, "1")
    told = [record.message for record in caplog.records if "attempt" in record.message]
    assert len(told) == 2
    assert "attempt 2 follows in 5 s. No model answers." in told[0]


def test_the_pauses_are_bounded(follow: Callable[..., ModelFollower]) -> None:
    trial, clock = Trial(*[SmokeTestCutOff("It was cut off.")] * 2000), Clock()
    follower = follow(trial, clock)
    for _ in range(12):
        follower.refresh()
        clock.now_s += LONGEST_PAUSE_S
    assert trial.num_calls == 12


def test_a_version_that_was_refused_is_not_tried_again_until_it_holds_another_bundle(
    follow: Callable[..., ModelFollower], registry: Registry, name: str
) -> None:
    trial, clock = Trial(InputError("The model failed its smoke test: it is broken")), Clock()
    follower = follow(trial, clock)
    for _ in range(4):
        follower.refresh()
        clock.now_s += SECOND_LOOK_S
    assert (trial.num_calls, version_of(follower)) == (1, None)
    assert "Version 1 was refused: The model failed its smoke test" in follower.advice()

    folder = registry.bundle_folder("1", name)
    write_folder(folder, {**read_folder(folder), "README.md": b"# mended"})
    clock.now_s += SECOND_LOOK_S
    follower.refresh()
    assert (trial.num_calls, version_of(follower)) == (2, "1")


def test_a_replica_that_starts_while_the_champion_is_broken_serves_the_last_that_worked(
    follow: Callable[..., ModelFollower],
    registry: Registry,
    name: str,
    bundle: Path,
    tmp_path: Path,
) -> None:
    follow(Trial(), Clock()).refresh()
    broken = tmp_path / "broken"
    write_folder(broken, {**read_folder(bundle), WEIGHTS: b"\0" * 100})
    registry.promote(registry.register(broken, name), name)

    restarted = follow(Trial(), Clock())
    restarted.refresh()
    assert version_of(restarted) == "1"
    assert "'version 2' is not a model bundle" in restarted.advice()


def test_a_version_whose_bundle_was_exchanged_is_refused(
    follow: Callable[..., ModelFollower], registry: Registry, name: str
) -> None:
    folder = registry.bundle_folder("1", name)
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    registry.client.set_model_version_tag(name, "1", "affectune.bundle", f"study/{digest}")
    whole = read_folder(folder)
    write_folder(folder, {**whole, "README.md": b"# another"})

    follower = follow(Trial(), Clock())
    follower.refresh()
    assert version_of(follower) is None
    assert "holds another bundle than the one that was registered" in follower.advice()

    write_folder(folder, whole)
    follower = follow(Trial(), Clock())
    follower.refresh()
    assert version_of(follower) == "1"


def test_why_there_is_no_model_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    write_folder(folder, {"model.json": b"{}", WEIGHTS: b""})
    settings = Settings(model=str(folder))
    follower = ModelFollower(find_source(settings), settings)
    follower.refresh()

    assert "'b' is not a model bundle" in follower.advice()
    assert str(tmp_path) not in follower.advice()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -9 $$", "it was killed by SIGKILL"),
        ("kill -SEGV $$", "it was killed by SIGSEGV"),
        ("echo 'OSError: [Errno 28] No space left on device' >&2; exit 4", "No space left"),
        (
            "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1",
            "ModuleNotFoundError",
        ),
        ("exec sleep 60", "did not predict within"),
    ],
)
def test_a_trial_that_did_not_end_by_itself_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SmokeTestCutOff, match=words):
        run_smoke_test(tmp_path, 0.5)


def test_a_trial_that_cannot_start_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(SmokeTestCutOff, match="did not start: No such file"):
        run_smoke_test(tmp_path, 5)


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (InputError("x"), smoke_test.REFUSED),
        (IndexError("x"), smoke_test.REFUSED),
        (MemoryError(), smoke_test.CUT_OFF),
        (OSError(28, "No space left"), smoke_test.CUT_OFF),
        (RuntimeError("[enforce fail] not enough memory: you tried"), smoke_test.CUT_OFF),
    ],
)
def test_the_exit_status_tells_a_verdict_from_the_surroundings(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: Exception,
    status: int,
) -> None:
    def fail(model: FusedModel) -> None:
        raise raised

    monkeypatch.setattr(smoke_test, "predict_once", fail)
    monkeypatch.setattr(resource, "setrlimit", lambda *limits: None)  # this process goes on
    assert smoke_test.main([str(bundle)]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def _scaled(stages: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """Return trained stages with a tensor so large that what it gives is no number."""
    return tuple(
        replace(s, weights={**s.weights, name: torch.full_like(s.weights[name], 3e38)})
        for s in stages
    )


def test_everything_that_a_model_predicts_must_be_a_number(bundle: Path) -> None:
    model = load_model(bundle)
    predict_once(model)

    encoders = {**model.auto_encoders, "face": _scaled(model.auto_encoders["face"], "head.weight")}
    with pytest.raises(InputError, match="the difficulty of 'face'"):
        predict_once(replace(model, auto_encoders=encoders))

    path = ("valence", "voice")
    regressors = {**model.regressors, path: _scaled(model.regressors[path], "head.weight")}
    with pytest.raises(InputError, match="number for every frame of 'valence'"):
        predict_once(replace(model, regressors=regressors))

    corrections = {"arousal": {FUSION: Correction(float("inf"), 0.0)}}
    with pytest.raises(InputError, match="'arousal'"):
        predict_once(replace(model, corrections=corrections))

    bands = {"arousal": replace(model.bands["arousal"], quantile=1e308, intercept=700.0)}
    with pytest.raises(InputError, match="the band of 'arousal'"):
        predict_once(replace(model, bands=bands))


@pytest.mark.slow
def test_a_broken_folder_is_refused_before_anything_is_served(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    write_folder(tmp_path / "b", {**read_folder(bundle), WEIGHTS: b"\0" * 100})
    monkeypatch.setattr("sys.argv", ["affectune", "serve", "--model", str(tmp_path / "b")])

    with pytest.raises(SystemExit) as ended:
        affectune.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "is not a model bundle that this version can read" in told.err
    assert "Serving" not in told.out
