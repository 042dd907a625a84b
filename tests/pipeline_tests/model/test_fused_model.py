"""FusedModel and its bundle: what is saved predicts the same, and what was changed is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affectune
from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.storage.atomic_folder import read_folder, write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_session, tiny_spec


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus()


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    return train(
        corpus, tiny_spec(), WorkerPool(corpus, StageStore(tmp_path_factory.mktemp("store")))
    )


def _series(prediction: Prediction) -> list[np.ndarray]:
    return [
        *prediction.values.values(),
        *prediction.without_difficulty.values(),
        *(
            series
            for by_modality in prediction.unimodal.values()
            for series in by_modality.values()
        ),
        *(series for floors in prediction.floors.values() for series in floors.values()),
        *(
            series
            for hard in prediction.difficulty.values()
            for series in (hard.error, hard.percentile)
        ),
    ]


def _same(one: Prediction, other: Prediction, tolerance: float = 0.0) -> None:
    for a, b in zip(_series(one), _series(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_save_and_load_give_identical_predictions(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    model.save(tmp_path / "bundle", card="# card")
    loaded = affectune.load(tmp_path / "bundle")
    for before, after in zip(
        model.predict_sessions(corpus.sessions),
        loaded.predict_sessions(corpus.sessions),
        strict=True,
    ):
        _same(before, after)
    assert loaded.files("# card") == model.files("# card")


def test_predict_takes_raw_arrays_and_agrees_with_evaluation(
    model: FusedModel, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    together = model.predict_sessions(corpus.partition("devel"))[0]
    _same(model.predict(session.features), together, tolerance=1e-6)


def test_a_data_frame_is_read_by_column_name(model: FusedModel, corpus: Corpus) -> None:
    features = corpus.partition("devel")[0].features
    tables = {
        name: pd.DataFrame(values, columns=list(corpus.columns[name]))
        for name, values in features.items()
    }
    shuffled = {
        name: table[table.columns[::-1]].assign(further=1.0) for name, table in tables.items()
    }
    _same(model.predict(shuffled), model.predict(features))
    with pytest.raises(InputError, match="'voice' has no column 'voice_1'"):
        model.predict({**tables, "voice": tables["voice"].drop(columns="voice_1")})
    with pytest.raises(InputError, match="'voice' is not an array of numbers"):
        model.predict({"voice": [["a", "b", "c", "d"]]})


def test_one_frame_is_predicted(model: FusedModel) -> None:
    session = tiny_session("one", "one", "test", frames=1)
    prediction = model.predict(session.features)
    assert prediction.values["arousal"].shape == (1,)
    assert all(np.isfinite(series).all() for series in _series(prediction))


def test_a_missing_modality_is_hard_has_no_opinion_and_leaves_the_floors(
    model: FusedModel, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    prediction = model.predict({"voice": session.features["voice"]})
    assert np.isnan(prediction.difficulty["face"].error).all()
    assert np.isnan(prediction.difficulty["face"].percentile).all()
    for target in model.targets:
        assert np.isfinite(prediction.values[target]).all()
        assert np.isnan(prediction.unimodal[target]["face"]).all()
        np.testing.assert_allclose(
            prediction.floors[target]["mean"], prediction.unimodal[target]["voice"]
        )


def test_rows_of_nan_are_missing_frames_and_single_nan_cells_are_imputed(
    model: FusedModel, corpus: Corpus
) -> None:
    features = {
        name: values.copy() for name, values in corpus.partition("devel")[0].features.items()
    }
    features["voice"][3:6] = np.nan
    features["voice"][10, 0] = np.nan
    prediction = model.predict(features)
    np.testing.assert_array_equal(
        np.flatnonzero(np.isnan(prediction.difficulty["voice"].error)), [3, 4, 5]
    )
    assert np.isfinite(prediction.values["valence"]).all()


def test_percentiles_place_training_frames_evenly(model: FusedModel) -> None:
    reference = model.difficulty_references["voice"]
    assert reference == sorted(reference)
    assert len(reference) == 101


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "No features were given"),
        ({"smell": np.zeros((3, 2))}, "no feature set 'smell'"),
        (
            {"voice": np.zeros((3, 2))},
            r"'voice' has shape \(3, 2\); it must be \(3 frames, 4 columns\)",
        ),
        ({"voice": np.zeros((3, 4)), "face": np.zeros((2, 3))}, r"'face' has shape \(2, 3\)"),
        ({"voice": np.zeros((0, 4))}, "at least one"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    model: FusedModel, features: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(features)


def test_descending_timestamps_are_refused(model: FusedModel) -> None:
    with pytest.raises(InputError, match="ascending"):
        model.predict({"voice": np.ones((3, 4))}, timestamps_ms=[0, 500, 500])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "README.md", "summary.json"])
def test_a_changed_file_is_refused(model: FusedModel, tmp_path: Path, name: str) -> None:
    model.save(tmp_path / "bundle", card="# card", others={"summary.json": b"{}"})
    path = tmp_path / "bundle" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=f"{name} was changed"):
        affectune.load(tmp_path / "bundle")


def test_a_missing_file_or_manifest_is_refused(model: FusedModel, tmp_path: Path) -> None:
    model.save(tmp_path / "bundle")
    (tmp_path / "bundle" / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights.safetensors is missing"):
        affectune.load(tmp_path / "bundle")
    (tmp_path / "bundle" / "manifest.json").unlink()
    with pytest.raises(InputError, match="not a complete bundle"):
        affectune.load(tmp_path / "bundle")
    with pytest.raises(InputError, match="not a complete bundle"):
        affectune.load(tmp_path / "nothing")


def test_a_bundle_of_another_format_is_refused(model: FusedModel, tmp_path: Path) -> None:
    files = model.files("")
    record = json.loads(files["model.json"])
    write_folder(
        tmp_path / "b", {**files, "model.json": json.dumps({**record, "format": 99}).encode()}
    )
    with pytest.raises(InputError, match="bundle format 99"):
        affectune.load(tmp_path / "b")


@pytest.mark.parametrize("manifest", [b"[1, 2]", b"null", b"\xff", b"{"])
def test_a_manifest_of_another_kind_is_refused(
    model: FusedModel, tmp_path: Path, manifest: bytes
) -> None:
    model.save(tmp_path / "b")
    (tmp_path / "b" / "manifest.json").write_bytes(manifest)
    with pytest.raises(InputError):
        affectune.load(tmp_path / "b")


@pytest.mark.parametrize(
    "change", [{"spec": {"unknown": 1}}, {"stages": {}}, {"targets": 3}, {"stages": None}]
)
def test_a_whole_bundle_of_another_making_is_refused_in_words(
    model: FusedModel, tmp_path: Path, change: dict[str, object]
) -> None:
    files = model.files("")
    record = {**json.loads(files["model.json"]), **change}
    write_folder(tmp_path / "b", {**files, "model.json": json.dumps(record).encode()})
    with pytest.raises(InputError, match="not a model bundle that this version can read"):
        affectune.load(tmp_path / "b")


def test_the_bundle_holds_no_pickle_and_says_what_it_is_made_of(
    model: FusedModel, tmp_path: Path
) -> None:
    model.save(tmp_path / "bundle", card="# card")
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names == {"model.json", "weights.safetensors", "README.md", "manifest.json"}
    record = json.loads((tmp_path / "bundle" / "model.json").read_text())
    assert record["modalities"]["voice"] == ["voice_0", "voice_1", "voice_2", "voice_3"]
    assert record["frame_rate_hz"] == 2
    assert all(len(stage["key"]) == 64 for stage in record["stages"].values())
    assert record["versions"]["torch"].startswith("2.")


def test_a_bundle_is_replaced_whole_and_a_failed_write_leaves_the_old_one(
    model: FusedModel, tmp_path: Path
) -> None:
    model.save(tmp_path / "bundle", card="old")
    model.save(tmp_path / "bundle", card="new")
    assert read_folder(tmp_path / "bundle")["README.md"] == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AffectuneError, match="Cannot write"):
        model.save(tmp_path / "file" / "bundle")


def test_the_same_seed_gives_the_same_bundle(
    corpus: Corpus, model: FusedModel, tmp_path: Path
) -> None:
    again = train(corpus, tiny_spec(), WorkerPool(corpus, StageStore(tmp_path)))
    assert again.files("card") == model.files("card")


def test_a_model_without_difficulty_reads_none(corpus: Corpus, tmp_path: Path) -> None:
    spec = tiny_spec()
    spec = spec.model_copy(
        update={
            "unimodal": spec.unimodal.model_copy(update={"difficulty": False}),
            "fusion": spec.fusion.model_copy(update={"difficulty": False}),
        }
    )
    bare = train(corpus, spec, WorkerPool(corpus, StageStore(tmp_path)))
    assert bare.fusions["arousal"][0].scale.difficulty_size == 0
    assert all(models[0].scale.difficulty_size == 0 for models in bare.regressors.values())
    prediction = bare.predict(corpus.partition("devel")[0].features)
    np.testing.assert_array_equal(
        prediction.values["arousal"], prediction.without_difficulty["arousal"]
    )
