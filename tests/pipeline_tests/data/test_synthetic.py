"""The synthetic corpus: the same bytes each time, the traps of real files, and something to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic import ULM_TSST, VIEWS, _ulm_tsst_plans, synthesize
from pipeline.errors import InputError
from pipeline.metrics.ccc import ccc


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("small") / "corpus")


@pytest.fixture
def corpus(small: Path) -> Corpus:
    return read_corpus(small)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, small: Path) -> None:
    assert contents(synthesize(tmp_path / "again")) == contents(small)
    assert contents(synthesize(tmp_path / "other", seed=1)) != contents(small)


def test_it_has_people_partitions_and_lengths_as_asked(tmp_path: Path) -> None:
    corpus = read_corpus(synthesize(tmp_path / "out", subjects=5, minutes=0.5))
    assert [len(corpus.partition(name)) for name in ("train", "devel", "test")] == [3, 1, 1]
    assert len({session.subject for session in corpus.sessions}) == 5
    assert {session.num_frames for session in corpus.sessions} == {60}


def test_it_has_the_traps_of_real_files(small: Path, corpus: Corpus) -> None:
    assert corpus.modalities == tuple(view.name for view in VIEWS["small"])
    kinds = {finding.kind for finding in corpus.findings}
    assert kinds >= {
        "other headers",
        "frames without a row",
        "cells imputed",
        "zero rows",
        "constant columns",
    }
    assert not [finding for finding in corpus.findings if finding.level != "note"]
    tests = {session.session_id for session in corpus.partition("test")}
    labelled = {file.stem for file in (small / "label_segments/arousal").iterdir()}
    assert len(tests & labelled) == len(tests - labelled) == 1
    assert all(np.isnan(session.labels["arousal"]).all() for session in corpus.partition("test"))
    assert "synthetic" in (small / "README.md").read_text()


def inputs(session: Session, name: str) -> NDArray[np.float64]:
    """What a linear reader sees: the set's columns now and in the frames around, and a one. Shape (frames, ...)."""
    values = session.features[name].astype(np.float64)
    around = [np.roll(values, shift, axis=0) for shift in range(-4, 5)]
    return np.hstack([*around, np.ones((len(values), 1))])


def linear_predictions(corpus: Corpus, target: str) -> dict[str, NDArray[np.float64]]:
    """Ridge regression per set, by its normal equations: set -> devel predictions."""
    truth = np.concatenate([session.labels[target] for session in corpus.partition("train")])
    predictions = {}
    for name in corpus.modalities:
        x = np.vstack([inputs(session, name) for session in corpus.partition("train")])
        weights = np.linalg.solve(x.T @ x + 300 * np.eye(x.shape[1]), x.T @ truth)
        predictions[name] = (
            np.vstack([inputs(session, name) for session in corpus.partition("devel")]) @ weights
        )
    return predictions


@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_fusing_what_even_a_linear_model_learns_beats_chance_and_is_not_trivial(
    corpus: Corpus, target: str
) -> None:
    truth = np.concatenate([session.labels[target] for session in corpus.partition("devel")])
    predictions = linear_predictions(corpus, target)
    assert 0.5 < ccc(truth, np.mean(list(predictions.values()), axis=0)) < 0.95
    assert all(ccc(truth, prediction) < 0.9 for prediction in predictions.values())


def test_ulm_tsst_has_the_official_split_and_about_its_lengths() -> None:
    plans = _ulm_tsst_plans(seed=0)
    assert len({plan.subject for plan in plans}) == 69
    frames = {}
    for name, expected in (("train", 41), ("devel", 14), ("test", 14)):
        chosen = [plan for plan in plans if plan.partition == name]
        assert len(chosen) == expected
        frames[name] = sum(plan.num_frames for plan in chosen)
    assert {plan.session_id for plan in plans if plan.partition == "devel"} == set(
        map(str, ULM_TSST["devel"])
    )
    assert frames == pytest.approx({"train": 24_600, "devel": 8_500, "test": 8_400}, rel=0.02)
    assert {view.name: view.width for view in VIEWS["ulm-tsst"]} == {
        "bert": 768, "deepspectrum": 4096, "egemaps": 88, "fau_intensity": 17, "vggface": 512
    }  # fmt: skip


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        synthesize(tmp_path)
    with pytest.raises(InputError, match="nothing is overwritten"):
        synthesize(tmp_path / "precious.txt")
    with pytest.raises(InputError, match="Name another folder"):
        synthesize(tmp_path / "precious.txt" / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    (tmp_path / "empty").mkdir()
    assert synthesize(tmp_path / "empty", subjects=3, minutes=0.1) == tmp_path / "empty"


@pytest.mark.parametrize(("subjects", "minutes", "seed"), [(2, 1, 0), (12, 0.05, 0), (12, 1, -1)])
def test_sizes_out_of_range_are_refused(
    tmp_path: Path, subjects: int, minutes: float, seed: int
) -> None:
    with pytest.raises(InputError, match="are needed"):
        synthesize(tmp_path / "out", subjects=subjects, minutes=minutes, seed=seed)
    assert not (tmp_path / "out").exists()
