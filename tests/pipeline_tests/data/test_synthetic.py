"""The synthetic corpus: reproducible, with the flaws of real files, and learnable."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.data.synthetic.presets import MODALITIES, ULM_TSST, plan_sessions
from pipeline.errors import InputError
from pipeline.metrics.ccc import ccc
from tests.pipeline_tests.full_disk import REFUSED, with_small_files


@pytest.fixture(scope="module")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a corpus of the preset "small"."""
    return synthesize(tmp_path_factory.mktemp("small") / "corpus")


@pytest.fixture
def corpus(small_path: Path) -> Corpus:
    """Read the small corpus."""
    return read_corpus(small_path)


def file_contents(root: Path) -> dict[str, bytes]:
    """Return path -> content of all files in a folder."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, small_path: Path) -> None:
    same_seed = synthesize(tmp_path / "same")
    other_seed = synthesize(tmp_path / "other", seed=1)

    assert file_contents(same_seed) == file_contents(small_path)
    assert file_contents(other_seed) != file_contents(small_path)


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("size", [0, 500, 3_000])
def test_a_full_disk_leaves_nothing_in_the_way_of_the_next_attempt(
    tmp_path: Path, small_path: Path, is_there: bool, size: int
) -> None:
    out = tmp_path / "corpus"
    if is_there:
        out.mkdir()
    status, said = with_small_files(size, partial(synthesize, out))
    assert (status, out.exists()) == (REFUSED, is_there)
    assert "cannot be written: File too large. Raise the limit" in said
    assert file_contents(synthesize(out)) == file_contents(small_path)


def test_it_has_the_requested_subjects_and_lengths(tmp_path: Path) -> None:
    corpus = read_corpus(synthesize(tmp_path / "out", subjects=5, minutes=0.5))

    assert [len(corpus.partition(name)) for name in ("train", "devel", "test")] == [3, 1, 1]
    assert len({session.subject for session in corpus.sessions}) == 5
    assert {session.num_frames for session in corpus.sessions} == {60}


def test_it_has_the_flaws_of_real_files(small_path: Path, corpus: Corpus) -> None:
    assert corpus.modalities == tuple(modality.name for modality in MODALITIES["small"])
    assert {finding.kind for finding in corpus.findings} >= {
        "other headers",
        "frames without a row",
        "cells imputed",
        "zero rows",
        "constant columns",
    }
    worrying = {finding.kind for finding in corpus.findings if finding.level != "note"}
    assert worrying == {"stuck rows"}
    assert "synthetic" in (small_path / "README.md").read_text()


def test_it_withholds_the_labels_of_test_with_and_without_a_file(
    small_path: Path, corpus: Corpus
) -> None:
    test_ids = {session.session_id for session in corpus.partition("test")}
    ids_with_file = {file.stem for file in (small_path / "label_segments/arousal").iterdir()}

    assert len(test_ids & ids_with_file) == len(test_ids - ids_with_file) == 1
    assert all(np.isnan(session.labels["arousal"]).all() for session in corpus.partition("test"))


def linear_inputs(session: Session, modality: str) -> NDArray[np.float64]:
    """Return the columns of a frame and the frames around it, and a one: shape (frames, inputs)."""
    values = session.features[modality].astype(np.float64)
    shifted = [np.roll(values, shift, axis=0) for shift in range(-4, 5)]
    return np.hstack([*shifted, np.ones((len(values), 1))])


def linear_predictions(corpus: Corpus, target: str) -> dict[str, NDArray[np.float64]]:
    """Fit a ridge regression per modality by its normal equations, and predict devel."""
    labels = np.concatenate([session.labels[target] for session in corpus.partition("train")])
    predictions = {}

    for modality in corpus.modalities:
        train = np.vstack([linear_inputs(each, modality) for each in corpus.partition("train")])
        devel = np.vstack([linear_inputs(each, modality) for each in corpus.partition("devel")])

        penalty = 300 * np.eye(train.shape[1])
        weights = np.linalg.solve(train.T @ train + penalty, train.T @ labels)
        predictions[modality] = devel @ weights
    return predictions


@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_a_fusion_of_linear_models_beats_chance_and_is_not_perfect(
    corpus: Corpus, target: str
) -> None:
    labels = np.concatenate([session.labels[target] for session in corpus.partition("devel")])
    predictions = linear_predictions(corpus, target)
    fused = np.mean(list(predictions.values()), axis=0)

    assert 0.5 < ccc(labels, fused) < 0.95
    assert all(ccc(labels, prediction) < 0.9 for prediction in predictions.values())


def test_ulm_tsst_has_the_official_split_and_about_its_lengths() -> None:
    plans = plan_sessions("ulm-tsst", subjects=12, minutes=1, seed=0)
    num_sessions = Counter(plan.partition for plan in plans)
    num_frames: Counter[str] = Counter()
    for plan in plans:
        num_frames[plan.partition] += plan.num_frames
    devel_ids = {plan.session_id for plan in plans if plan.partition == "devel"}

    assert len({plan.session_id for plan in plans}) == 69
    assert num_sessions == {"train": 41, "devel": 14, "test": 14}
    assert devel_ids == {str(number) for number in ULM_TSST["devel"]}
    assert num_frames == pytest.approx({"train": 24_600, "devel": 8_500, "test": 8_400}, rel=0.02)


def test_ulm_tsst_has_the_official_feature_sets() -> None:
    assert {modality.name: modality.width for modality in MODALITIES["ulm-tsst"]} == {
        "bert": 768,
        "deepspectrum": 4096,
        "egemaps": 88,
        "fau_intensity": 17,
        "vggface": 512,
    }


def test_a_folder_that_is_not_empty_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")

    with pytest.raises(InputError, match="nothing is overwritten"):
        synthesize(tmp_path)
    with pytest.raises(InputError, match="nothing is overwritten"):
        synthesize(tmp_path / "precious.txt")
    with pytest.raises(InputError, match="or name another folder"):
        synthesize(tmp_path / "precious.txt" / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_an_empty_folder_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = synthesize(tmp_path / "empty", subjects=3, minutes=0.1)

    assert out == tmp_path / "empty"
    assert len(read_corpus(out).sessions) == 3


@pytest.mark.parametrize(("subjects", "minutes", "seed"), [(2, 1, 0), (12, 0.05, 0), (12, 1, -1)])
def test_sizes_out_of_range_are_input_errors(
    tmp_path: Path, subjects: int, minutes: float, seed: int
) -> None:
    with pytest.raises(InputError, match="are needed"):
        synthesize(tmp_path / "out", subjects=subjects, minutes=minutes, seed=seed)

    assert not (tmp_path / "out").exists()
