"""A fused model and its bundle: a saved one predicts the same, a changed one is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affectune
from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files, save_model
from pipeline.model.correction import Correction
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.stages.fusion import FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import LabelFloors
from pipeline.storage.atomic_folder import read_folder, write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import band_calibration, tiny_corpus, tiny_session, tiny_spec


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a small corpus."""
    return tiny_corpus()


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a model that was trained on the corpus."""
    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(corpus, tiny_spec(), WorkerPool(corpus, store))


def all_series(prediction: Prediction) -> list[np.ndarray]:
    """Return everything that a prediction holds over time."""
    series = [*prediction.values.values(), *prediction.without_difficulty.values()]
    for by_modality in prediction.unimodal.values():
        series += by_modality.values()
    for floors in prediction.floors.values():
        series += floors.values()
    for difficulty in prediction.difficulty.values():
        series += [difficulty.error, difficulty.percentile]
    return series


def assert_same(one: Prediction, other: Prediction, tolerance: float = 0.0) -> None:
    """Fail unless two predictions agree."""
    for expected, series in zip(all_series(one), all_series(other), strict=True):
        np.testing.assert_allclose(series, expected, rtol=0, atol=tolerance)


def write_with_record(model: FusedModel, folder: Path, **changes: object) -> None:
    """Write a bundle whose record was changed before its hashes were taken."""
    files = bundle_files(model)
    record = {**json.loads(files["model.json"]), **changes}
    write_folder(folder, {**files, "model.json": json.dumps(record).encode()})


def test_save_and_load_give_identical_predictions(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "bundle", card="# card")
    loaded = affectune.load(tmp_path / "bundle")

    expected = model.predict_sessions(corpus.sessions)
    predictions = loaded.predict_sessions(corpus.sessions)
    for one, other in zip(expected, predictions, strict=True):
        assert_same(one, other)
    assert bundle_files(loaded, "# card") == bundle_files(model, "# card")


def test_a_loaded_bundle_has_its_label_floors_and_an_old_one_has_none(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    """Names may have any characters: they are part of a place in the file."""
    learned = [replace(s, stimulus="a/b (ä)") for s in corpus.partition("train")]
    devel = [replace(s, stimulus="a/b (ä)") for s in corpus.partition("devel")]
    floors = LabelFloors.from_sessions(learned, corpus.targets, corpus.frame_period_ms)
    save_model(replace(model, label_floors=floors), tmp_path / "new")
    save_model(replace(model, label_floors=None), tmp_path / "old")

    loaded = affectune.load(tmp_path / "new").label_floors
    assert loaded is not None
    for target in corpus.targets:
        expected, predicted = floors.predict(devel, target), loaded.predict(devel, target)
        assert set(predicted) == {"time", "stimulus"}
        for floor, series in expected.items():
            for one, other in zip(series, predicted[floor], strict=True):
                np.testing.assert_array_equal(one, other)
    assert affectune.load(tmp_path / "old").label_floors is None


def test_predict_takes_raw_arrays_and_agrees_with_evaluation(
    model: FusedModel, corpus: Corpus
) -> None:
    devel = corpus.partition("devel")
    together = model.predict_sessions(devel)[0]
    assert_same(model.predict(devel[0].features), together, tolerance=1e-6)


def test_a_data_frame_is_read_by_column_name(model: FusedModel, corpus: Corpus) -> None:
    features = corpus.partition("devel")[0].features
    shuffled = {}
    for name, values in features.items():
        table = pd.DataFrame(values, columns=list(corpus.columns[name]))
        shuffled[name] = table[table.columns[::-1]]
    assert_same(model.predict(shuffled), model.predict(features))

    lacking = shuffled["voice"].drop(columns="voice_1")
    with pytest.raises(InputError, match="'voice': column 'voice_1' is missing"):
        model.predict({**shuffled, "voice": lacking})
    further = shuffled["voice"].assign(Voice_1=1.0)
    with pytest.raises(InputError, match="'voice': column 'Voice_1' is unknown"):
        model.predict({**shuffled, "voice": further})
    with pytest.raises(InputError, match="'voice' is not an array of numbers"):
        model.predict({"voice": [["a", "b", "c", "d"]]})


def test_threads_change_no_bit_of_a_prediction(model: FusedModel, corpus: Corpus) -> None:
    session = corpus.partition("devel")[0]
    with ThreadPoolExecutor(3) as pool:
        threaded = replace(model, pool=pool).predict(session.features)
    alone = model.predict(session.features)
    for here, there in zip(all_series(alone), all_series(threaded), strict=True):
        np.testing.assert_array_equal(here, there)


def test_one_frame_is_predicted(model: FusedModel) -> None:
    session = tiny_session("one", "one", "test", frames=1)
    prediction = model.predict(session.features)
    assert prediction.values["arousal"].shape == (1,)
    assert all(np.isfinite(series).all() for series in all_series(prediction))


def test_a_missing_modality_has_no_difficulty_and_no_prediction_and_leaves_the_floors(
    model: FusedModel, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    prediction = model.predict({"voice": session.features["voice"]})

    assert np.isnan(prediction.difficulty["face"].error).all()
    assert np.isnan(prediction.difficulty["face"].percentile).all()
    for target in model.targets:
        assert np.isfinite(prediction.values[target]).all()
        unimodal = prediction.unimodal[target]
        assert np.isnan(unimodal["face"]).all()
        np.testing.assert_allclose(prediction.floors[target]["mean"], unimodal["voice"])


def test_rows_of_nan_are_missing_frames_and_single_nan_cells_are_imputed(
    model: FusedModel, corpus: Corpus
) -> None:
    features = corpus.partition("devel")[0].features
    voice = features["voice"].copy()
    voice[3:6] = np.nan
    voice[10, 0] = np.nan
    prediction = model.predict({**features, "voice": voice})

    missing = np.flatnonzero(np.isnan(prediction.difficulty["voice"].error))
    np.testing.assert_array_equal(missing, [3, 4, 5])
    assert np.isfinite(prediction.values["valence"]).all()


def test_rows_of_a_stuck_sensor_are_missing_frames(model: FusedModel, corpus: Corpus) -> None:
    session = corpus.partition("devel")[0]
    voice, stuck = session.features["voice"].copy(), session.features["voice"].copy()
    stuck[10:25] = stuck[10]
    voice[11:25] = np.nan

    prediction = model.predict({**session.features, "voice": stuck})
    assert_same(prediction, model.predict({**session.features, "voice": voice}))

    read = replace(session, features={**session.features, "voice": stuck})
    assert_same(prediction, model.predict_sessions([read])[0], tolerance=1e-6)


def test_a_bundle_keeps_the_limits_of_its_training_and_an_older_one_has_none(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    assert model.max_held_frames == corpus.max_held_frames
    save_model(model, tmp_path / "bundle")
    assert affectune.load(tmp_path / "bundle").max_held_frames == model.max_held_frames

    files = bundle_files(model)
    record = json.loads(files["model.json"])
    del record["max_held_frames"]
    write_folder(tmp_path / "old", {**files, "model.json": json.dumps(record).encode()})
    old = affectune.load(tmp_path / "old")

    frozen = {name: np.repeat(v[:1], 30, axis=0) for name, v in corpus.sessions[0].features.items()}
    assert old.max_held_frames == {}
    assert np.isfinite(old.predict(frozen).difficulty["voice"].error).all()
    assert np.isnan(model.predict(frozen).difficulty["voice"].error).all()


def test_a_model_keeps_the_limits_of_what_it_reads(corpus: Corpus, tmp_path: Path) -> None:
    voice_only = replace(corpus, columns={"voice": corpus.columns["voice"]})
    model = train(voice_only, tiny_spec(), WorkerPool(voice_only, StageStore(tmp_path)))
    assert model.max_held_frames == {"voice": corpus.max_held_frames["voice"]}


def test_difficulty_references_are_101_ascending_percentiles(model: FusedModel) -> None:
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
    save_model(model, tmp_path / "bundle", card="# card", extra_files={"summary.json": b"{}"})
    path = tmp_path / "bundle" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(InputError, match=f"{name} was changed"):
        affectune.load(tmp_path / "bundle")


def test_a_missing_file_or_manifest_is_refused(model: FusedModel, tmp_path: Path) -> None:
    save_model(model, tmp_path / "bundle")
    (tmp_path / "bundle" / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights.safetensors is missing"):
        affectune.load(tmp_path / "bundle")

    (tmp_path / "bundle" / "manifest.json").unlink()
    with pytest.raises(InputError, match="not a complete bundle"):
        affectune.load(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"nothing' is not there: .*affectune train --out"):
        affectune.load(tmp_path / "nothing")


def test_a_bundle_of_another_format_is_refused(model: FusedModel, tmp_path: Path) -> None:
    write_with_record(model, tmp_path / "b", format=99)
    with pytest.raises(InputError, match="bundle format 99"):
        affectune.load(tmp_path / "b")


@pytest.mark.parametrize("manifest", [b"[1, 2]", b"null", b"\xff", b"{"])
def test_a_manifest_that_is_none_is_refused(
    model: FusedModel, tmp_path: Path, manifest: bytes
) -> None:
    save_model(model, tmp_path / "b")
    (tmp_path / "b" / "manifest.json").write_bytes(manifest)
    with pytest.raises(InputError):
        affectune.load(tmp_path / "b")


@pytest.mark.parametrize(
    "change", [{"spec": {"unknown": 1}}, {"stages": {}}, {"targets": 3}, {"max_held_frames": [10]}]
)
def test_a_complete_bundle_with_an_unknown_record_is_refused_in_a_sentence(
    model: FusedModel, tmp_path: Path, change: dict[str, object]
) -> None:
    write_with_record(model, tmp_path / "b", **change)
    with pytest.raises(InputError, match="not a model bundle that this version can read"):
        affectune.load(tmp_path / "b")


def test_the_bundle_holds_no_pickle_and_records_what_it_is_made_of(
    model: FusedModel, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "bundle", card="# card")
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names == {"model.json", "weights.safetensors", "README.md", "manifest.json"}

    record = json.loads((tmp_path / "bundle" / "model.json").read_text())
    assert record["modalities"]["voice"] == ["voice_0", "voice_1", "voice_2", "voice_3"]
    assert record["frame_rate_hz"] == 2
    assert all(len(stage["key"]) == 64 for stage in record["stages"].values())
    assert record["versions"]["torch"].startswith("2.")


def test_a_bundle_replaces_an_older_one_and_a_failed_write_leaves_it(
    model: FusedModel, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "bundle", card="old")
    save_model(model, tmp_path / "bundle", card="new")
    assert read_folder(tmp_path / "bundle")["README.md"] == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AffectuneError, match="Cannot write"):
        save_model(model, tmp_path / "file" / "bundle")


def test_the_same_seed_gives_the_same_bundle(
    corpus: Corpus, model: FusedModel, tmp_path: Path
) -> None:
    other = train(corpus, tiny_spec(), WorkerPool(corpus, StageStore(tmp_path)))
    assert bundle_files(other, "card") == bundle_files(model, "card")


def test_a_model_without_difficulty_reads_none(corpus: Corpus, tmp_path: Path) -> None:
    spec = tiny_spec()
    without_difficulty = {
        "unimodal": spec.unimodal.model_copy(update={"difficulty": False}),
        "fusion": spec.fusion.model_copy(update={"difficulty": False}),
    }
    pool = WorkerPool(corpus, StageStore(tmp_path))
    model = train(corpus, spec.model_copy(update=without_difficulty), pool)

    for stages in (model.fusions["arousal"], *model.regressors.values()):
        assert stages[0].normalisation.difficulty_size == 0

    prediction = model.predict(corpus.partition("devel")[0].features)
    np.testing.assert_array_equal(
        prediction.values["arousal"], prediction.without_difficulty["arousal"]
    )


def banded(model: FusedModel) -> FusedModel:
    """Return the model with a band of one target, and corrections of the other."""
    corrections = {FUSION: Correction(2.0, 0.5), WITHOUT_DIFFICULTY: Correction(3.0, -1.0)}
    return replace(
        model, bands={"arousal": band_calibration()}, corrections={"valence": corrections}
    )


def test_bands_and_corrections_survive_a_bundle(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    changed = banded(model)
    save_model(changed, tmp_path / "model")
    loaded = affectune.load(tmp_path / "model")

    assert (loaded.bands, loaded.corrections) == (changed.bands, changed.corrections)
    sessions = corpus.partition("devel")
    for one, other in zip(
        changed.predict_sessions(sessions), loaded.predict_sessions(sessions), strict=True
    ):
        assert_same(one, other)
        assert set(one.bands) == set(other.bands) == {"arousal"}
        np.testing.assert_array_equal(one.bands["arousal"].low, other.bands["arousal"].low)
        np.testing.assert_array_equal(one.bands["arousal"].high, other.bands["arousal"].high)


def test_a_bundle_of_before_there_were_bands_predicts_without_them(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    files = bundle_files(banded(model))
    record = json.loads(files["model.json"])
    del record["bands"], record["corrections"], record["spec"]["calibration"]
    write_folder(tmp_path / "model", {**files, "model.json": json.dumps(record).encode()})

    sessions = corpus.partition("devel")
    loaded = affectune.load(tmp_path / "model").predict_sessions(sessions)
    for one, other in zip(model.predict_sessions(sessions), loaded, strict=True):
        assert_same(one, other)
        assert other.bands == {}


def test_a_correction_changes_the_fusion_of_its_target_and_nothing_else(
    model: FusedModel, corpus: Corpus
) -> None:
    sessions = corpus.partition("devel")
    before, after = model.predict_sessions(sessions)[0], banded(model).predict_sessions(sessions)[0]

    np.testing.assert_allclose(after.values["valence"], 2 * before.values["valence"] + 0.5)
    np.testing.assert_allclose(
        after.without_difficulty["valence"], 3 * before.without_difficulty["valence"] - 1
    )
    np.testing.assert_array_equal(after.values["arousal"], before.values["arousal"])
    np.testing.assert_array_equal(after.floors["valence"]["mean"], before.floors["valence"]["mean"])


def test_a_missing_modality_never_narrows_a_band(model: FusedModel, corpus: Corpus) -> None:
    """Of the voice alone neither the difficulty of the face nor a disagreement is known."""
    session = corpus.partition("devel")[0]
    whole = banded(model).predict(session.features).bands["arousal"]
    half = banded(model).predict({"voice": session.features["voice"]}).bands["arousal"]
    unbounded = half.low > -1.0

    assert np.all((half.high - half.low >= whole.high - whole.low)[unbounded])
    assert np.all(half.high - half.low > 2 * 2.0 * np.exp(-1.5))


def test_a_bundle_remembers_how_feature_sets_are_put_on_frames(
    model: FusedModel, tmp_path: Path
) -> None:
    save_model(replace(model, resampling={"voice": "mean"}), tmp_path / "bundle")
    loaded = affectune.load(tmp_path / "bundle")

    assert loaded.resampling == {"voice": "mean"}
    assert loaded.resampling_of_sets == {"voice": "mean", "face": "nearest"}


def test_a_bundle_of_an_earlier_version_takes_the_nearest_row(
    model: FusedModel, tmp_path: Path
) -> None:
    files = bundle_files(model)
    record = json.loads(files["model.json"])
    del record["resampling"]
    write_folder(tmp_path / "old", {**files, "model.json": json.dumps(record).encode()})

    assert set(affectune.load(tmp_path / "old").resampling_of_sets.values()) == {"nearest"}


def test_an_unknown_resampling_is_refused(model: FusedModel, tmp_path: Path) -> None:
    write_with_record(model, tmp_path / "bundle", resampling={"voice": "median"})

    with pytest.raises(InputError, match="not a model bundle"):
        affectune.load(tmp_path / "bundle")
