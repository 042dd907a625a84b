"""A study that a Python program runs: silent, told of by a callback, and its errors in Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import affectune
from pipeline.errors import InputError
from tests.tuning_tests.in_process import InProcess
from tests.tuning_tests.studies import EARLY_STOPPING, LEARNING_RATES, NETWORK
from tuning.study.run import StudyInterrupted

STAGE = {"network": NETWORK, "fit": {"max_epochs": 1}}
SEARCH = {
    "sampler": "random",
    "trials": 1,
    "finalists": 1,
    "seeds": 1,
    **EARLY_STOPPING,
    "space": {"fit.learning_rate": LEARNING_RATES},
}
STAGES = ("auto_encoder", "unimodal", "fusion")
STUDY: dict[str, Any] = {
    "name": "tiny",
    "modalities": ["voice"],
    "targets": ["arousal"],
    "folds": 2,
    **dict.fromkeys(STAGES, STAGE),
    "search": dict.fromkeys(STAGES, SEARCH),
}


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a small corpus."""
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    return affectune.synthesize_corpus(folder, subjects=6, minutes=0.25)


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """Return where a study is, and what it leaves elsewhere."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return {"out": tmp_path / "out", "store": tmp_path / "store", "tracking_uri": uri}


def variables() -> dict[str, str]:
    """Return the environment, without what torch sets when it is imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TORCH")}


@pytest.mark.slow
def test_a_study_is_silent_and_tells_a_callback_how_far_it_is(
    corpus_path: Path,
    arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    InProcess(monkeypatch)
    environment = variables()
    steps: list[affectune.Progress] = []
    result = affectune.run_study(STUDY, corpus_path, on_progress=steps.append, **arguments)
    assert capfd.readouterr() == ("", "")
    assert variables() == environment

    assert result.is_finished
    assert result.registered == "models:/affectune/1"
    ended = [step for step in steps if step.epoch is None]
    assert len(ended) == len(result.to_frame()) == steps[-1].done == steps[-1].total
    assert {step.score for step in ended} == set(result.to_frame()["devel"])
    assert "unimodal/voice/arousal, trial 000" in " ".join(map(str, steps))
    best = result.scores["arousal"].fusion.ccc
    assert best == result.summary["targets"]["arousal"]["ccc"]


def test_an_interruption_is_pythons_own(
    corpus_path: Path, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise StudyInterrupted("Interrupted. The same command with --resume goes on.")

    monkeypatch.setattr("tuning.api.run_study.run", interrupted)
    with pytest.raises(KeyboardInterrupt, match="same call with resume=True"):
        affectune.run_study(STUDY, corpus_path, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "demoo"}, "Did you mean 'demo'"),
        ({"study": {**STUDY, "flods": 3}}, "Did you mean 'folds'"),
        ({"corpus": None}, "names no corpus"),
        ({"time_budget": "soon"}, "`time_budget` is 'soon'"),
        ({"workers": 0}, "workers is 0"),
        ({"modalities": "voice"}, r"write a list such as \['voice'\]"),
        ({"resample": "median"}, "resample is 'median'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(
    corpus_path: Path, arguments: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    given = {"study": STUDY, "corpus": corpus_path, **arguments, **change}
    with pytest.raises(InputError, match=message):
        affectune.run_study(**given)
    assert list(Path(arguments["out"]).parent.iterdir()) == []
