"""Targets with paths of their own: other modalities, other stages upstream, and several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.evaluation.plots import draw_plots
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.assemble import encoder_names
from pipeline.model.bundle import bundle_files, load_model, save_model
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.stages.cross_fit import CrossFitPlan, Fold
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import UnimodalTask, unimodal_predictions
from pipeline.storage.atomic_folder import write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose

Value = TypeVar("Value")
SMALLER_NETWORK = {"num_layers": 1, "hidden_size": 5, "dropout": 0.0}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a small corpus."""
    return tiny_corpus()


@pytest.fixture(scope="module")
def both(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a model that reads voice and face."""
    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(corpus, tiny_spec(), WorkerPool(corpus, store))


@pytest.fixture(scope="module")
def face_alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a model that reads the face, with networks of another size and another seed."""
    face_corpus = replace(corpus, columns={"face": corpus.columns["face"]})
    stage = {"network": SMALLER_NETWORK, "fit": {"max_epochs": 2, "batch_size": 4}}
    spec = tiny_spec(seed=7, auto_encoder=stage, unimodal=stage)

    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(face_corpus, spec, WorkerPool(face_corpus, store))


@pytest.fixture(scope="module")
def joined(both: FusedModel, face_alone: FusedModel) -> FusedModel:
    """Return a model that predicts arousal like `both`, and valence like `face_alone`."""
    return replace(
        both,
        auto_encoders={**both.auto_encoders, "face (2)": face_alone.auto_encoders["face"]},
        encoder_of={
            ("arousal", "voice"): "voice",
            ("arousal", "face"): "face",
            ("valence", "face"): "face (2)",
        },
        regressors={
            ("arousal", "voice"): both.regressors["arousal", "voice"],
            ("arousal", "face"): both.regressors["arousal", "face"],
            ("valence", "face"): face_alone.regressors["valence", "face"],
        },
        fusion_modalities={"arousal": ("voice", "face"), "valence": ("face",)},
        fusions={"arousal": both.fusions["arousal"], "valence": face_alone.fusions["valence"]},
        fusions_without_difficulty={"valence": face_alone.fusions_without_difficulty["valence"]},
        floor_weights={
            "arousal": both.floor_weights["arousal"],
            "valence": face_alone.floor_weights["valence"],
        },
        difficulty_references={
            **both.difficulty_references,
            "face (2)": face_alone.difficulty_references["face"],
        },
        out_of_fold={
            "arousal": both.out_of_fold["arousal"],
            "valence": face_alone.out_of_fold["valence"],
        },
    )


def series_of(prediction: Prediction, target: str) -> dict[str, np.ndarray]:
    """Return everything that a prediction holds of a target, by name."""
    series = {"fusion": prediction.values[target]}
    for modality, values in prediction.unimodal[target].items():
        series[f"unimodal {modality}"] = values
    for name, values in prediction.floors[target].items():
        series[f"floor {name}"] = values
    return series


def assert_same(one: Prediction, other: Prediction, target: str) -> None:
    """Fail unless two predictions of a target agree."""
    expected, series = series_of(one, target), series_of(other, target)
    assert list(expected) == list(series)
    for name, values in expected.items():
        np.testing.assert_array_equal(values, series[name], err_msg=name)


def test_each_target_is_predicted_as_by_its_own_path_alone(
    joined: FusedModel, both: FusedModel, face_alone: FusedModel, corpus: Corpus
) -> None:
    assert joined.modalities == ("voice", "face")
    devel = corpus.partition("devel")
    models = (joined, both, face_alone)

    for prediction, first, second in zip(
        *(model.predict_sessions(devel) for model in models), strict=True
    ):
        assert_same(prediction, first, "arousal")
        assert_same(prediction, second, "valence")
        assert set(prediction.without_difficulty) == {"valence"}
        np.testing.assert_array_equal(
            prediction.without_difficulty["valence"], second.without_difficulty["valence"]
        )

        assert set(prediction.difficulty) == {"voice", "face"}
        face, expected = prediction.difficulty["face"], first.difficulty["face"]
        np.testing.assert_array_equal(face.error, expected.error)
        np.testing.assert_array_equal(face.percentile, expected.percentile)
        assert not np.array_equal(face.error, second.difficulty["face"].error)


def test_a_path_of_one_modality_is_the_same_where_another_is_missing(
    joined: FusedModel, corpus: Corpus
) -> None:
    features = corpus.partition("devel")[0].features
    complete, incomplete = joined.predict(features), joined.predict({"face": features["face"]})
    np.testing.assert_array_equal(complete.values["valence"], incomplete.values["valence"])
    assert not np.array_equal(complete.values["arousal"], incomplete.values["arousal"])


def test_save_and_load_keep_every_path(joined: FusedModel, corpus: Corpus, tmp_path: Path) -> None:
    model = replace(joined, study={"name": "tiny", "trials": 3})
    save_model(model, tmp_path / "bundle", card="# card")
    loaded = load_model(tmp_path / "bundle")

    assert bundle_files(loaded, "# card") == bundle_files(model, "# card")
    assert loaded.encoder_of == model.encoder_of
    assert loaded.fusion_modalities == model.fusion_modalities
    assert loaded.study == {"name": "tiny", "trials": 3}

    devel = corpus.partition("devel")
    expected, predictions = model.predict_sessions(devel), loaded.predict_sessions(devel)
    for one, other in zip(expected, predictions, strict=True):
        for target in model.targets:
            assert_same(one, other, target)
        np.testing.assert_array_equal(
            one.without_difficulty["valence"], other.without_difficulty["valence"]
        )


def _renamed(model: FusedModel, names: Mapping[str, str]) -> FusedModel:
    """Return the same model of modalities and targets that have other names."""

    def rename(name: str) -> str:
        return names.get(name, name)

    def by_name(values: Mapping[str, Value]) -> dict[str, Value]:
        return {rename(name): value for name, value in values.items()}

    def by_path(values: Mapping[tuple[str, str], Value]) -> dict[tuple[str, str], Value]:
        return {(rename(target), rename(m)): value for (target, m), value in values.items()}

    assert model.label_floors is not None
    fusion_modalities, floor_weights, encoder_of = {}, {}, {}
    for target, modalities in by_name(model.fusion_modalities).items():
        fusion_modalities[target] = tuple(map(rename, modalities))
    for target, weights in by_name(model.floor_weights).items():
        floor_weights[target] = by_name(weights)
    for path, encoder in by_path(model.encoder_of).items():
        encoder_of[path] = rename(encoder)

    return replace(
        model,
        columns=by_name(model.columns),
        targets=tuple(map(rename, model.targets)),
        auto_encoders=by_name(model.auto_encoders),
        encoder_of=encoder_of,
        regressors=by_path(model.regressors),
        fusion_modalities=fusion_modalities,
        fusions=by_name(model.fusions),
        fusions_without_difficulty=by_name(model.fusions_without_difficulty),
        floor_weights=floor_weights,
        difficulty_references=by_name(model.difficulty_references),
        max_held_frames=by_name(model.max_held_frames),
        label_floors=replace(
            model.label_floors,
            by_time=by_name(model.label_floors.by_time),
            by_stimulus=by_path(model.label_floors.by_stimulus),
        ),
    )


@pytest.mark.parametrize(
    "names",
    [
        {"voice": "face%2F0"},
        {"voice": "face (2)", "face (2)": "face (3)"},
        {"voice": "é %2F#", "face": "é %2F", "arousal": "valence%2Fface"},
    ],
)
def test_any_name_of_a_modality_or_target_keeps_its_place_in_the_bundle(
    joined: FusedModel, corpus: Corpus, tmp_path: Path, names: dict[str, str]
) -> None:
    model = _renamed(joined, names)
    save_model(model, tmp_path / "bundle")
    loaded = load_model(tmp_path / "bundle")
    assert bundle_files(loaded) == bundle_files(model)

    features = corpus.partition("devel")[0].features
    before = joined.predict(features)
    after = loaded.predict({names.get(name, name): values for name, values in features.items()})
    for target in joined.targets:
        np.testing.assert_array_equal(
            after.values[names.get(target, target)], before.values[target]
        )


def test_auto_encoders_are_named_like_their_modality_and_counted_from_the_second_on() -> None:
    chosen = {
        ("arousal", "voice"): "a",
        ("arousal", "face"): "a",
        ("valence", "voice"): "b",
        ("valence", "face"): "a",
        ("liking", "voice"): "c",
        ("liking", "face"): "d",
    }
    assert encoder_names(chosen) == {
        ("arousal", "voice"): "voice",
        ("arousal", "face"): "face",
        ("valence", "voice"): "voice (2)",
        ("valence", "face"): "face",
        ("liking", "voice"): "voice (3)",
        ("liking", "face"): "face (2)",
    }


def test_a_modality_that_is_called_like_a_second_auto_encoder_keeps_its_name() -> None:
    chosen = {("a", "head"): 1, ("b", "head"): 2, ("c", "head (2)"): 1, ("b", "head (2)"): 9}
    assert list(encoder_names(chosen).values()) == ["head", "head (3)", "head (2)", "head (2) (2)"]


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_of": {}},
        {"fusion_modalities": {"arousal": ("voice",), "valence": ("face",)}},
        {"fusions": {}},
        {"columns": {"face": ("a", "b", "c")}},
        {"difficulty_references": {}},
    ],
)
def test_stages_that_are_not_those_of_the_paths_are_refused(
    joined: FusedModel, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="not those that the targets read"):
        replace(joined, **change)


def test_a_bundle_that_lacks_a_stage_is_refused_in_a_sentence(
    joined: FusedModel, tmp_path: Path
) -> None:
    files = bundle_files(joined)
    record = json.loads(files["model.json"])
    record["stages"] = {
        name: stage
        for name, stage in record["stages"].items()
        if not name.startswith("unimodal/valence/")
    }
    write_folder(tmp_path / "b", {**files, "model.json": json.dumps(record).encode()})

    with pytest.raises(InputError, match="not a model bundle that this version can read"):
        load_model(tmp_path / "b")


def test_the_prediction_of_several_seeds_is_their_mean(both: FusedModel, corpus: Corpus) -> None:
    session = corpus.partition("devel")[0]

    def predict(models: Sequence[TrainedStage]) -> np.ndarray:
        ensemble = replace(both, fusions={**both.fusions, "arousal": tuple(models)})
        return ensemble.predict_sessions([session])[0].values["arousal"]

    models = both.fusions["arousal"]
    repeated = [*models, models[0]]
    expected = np.mean([predict([model]) for model in repeated], axis=0).astype(np.float32)
    np.testing.assert_array_equal(predict(repeated), expected)


@pytest.mark.slow
def test_each_target_is_evaluated_on_what_its_fusion_reads(
    joined: FusedModel, both: FusedModel, face_alone: FusedModel, corpus: Corpus
) -> None:
    evaluation = evaluate(joined, corpus)
    targets = evaluation.to_json("m")["targets"]
    arousal = evaluate(both, corpus).to_json("m")["targets"]["arousal"]
    valence = evaluate(face_alone, corpus).to_json("m")["targets"]["valence"]

    arousal["without_difficulty"] = None
    arousal["predictions"].pop("without difficulty")
    assert targets["arousal"] == arousal
    assert targets["valence"] == valence
    assert set(evaluation.targets["valence"].difficulty_spearman) == {"face"}
    assert all(data.startswith(b"\x89PNG") for data in draw_plots(evaluation).values())


def test_the_card_describes_the_search_and_leaves_empty_what_a_target_does_not_read(
    joined: FusedModel, corpus: Corpus
) -> None:
    seeds = {"arousal": {"scores": [0.4, 0.5, 0.6]}, "valence": {"scores": [0.25]}}
    model = replace(
        joined, study={"name": "tiny", "trials": 12, "epochs_saved": 345, "seeds": seeds}
    )
    card = model_card(model, evaluate(model, corpus), [])

    assert "Trials searched: 12, so devel scores are optimistic." in card
    assert "- epochs saved: 345" in card
    assert (
        "- arousal: CCC of 3 seeds 0.500 on average, standard deviation 0.100, 0.400 to 0.600"
        in card
    )
    assert "- valence: CCC of 1 seed 0.250\n" in card

    assert any(row.startswith("| voice | ") and row.endswith(" |  |") for row in card.splitlines())
    assert "## Search" not in model_card(joined, evaluate(joined, corpus), [])


def _predict_voice(models: Any, sessions: Any) -> list[np.ndarray]:
    return unimodal_predictions(models, sessions, "voice", None)


def _held_out_predictions(corpus: Corpus, fold: Fold, model: TrainedStage) -> dict[str, np.ndarray]:
    """Return what a model predicts for the sessions that its fold held out, and for devel."""
    sessions = [*map(corpus.session, fold.held_out_ids), *corpus.partition("devel")]
    return {session.session_id: _predict_voice([model], [session])[0] for session in sessions}


def test_averages_of_stored_predictions_are_what_the_models_predict(
    corpus: Corpus, tmp_path: Path
) -> None:
    plan, task = CrossFitPlan.from_spec(corpus, tiny_spec()), UnimodalTask("voice", "arousal")
    problems = {
        seed: [pose(task, corpus, tiny_spec(seed=seed), fold) for fold in plan.folds]
        for seed in (0, 1)
    }
    by_seed = WorkerPool(corpus, StageStore(tmp_path)).fit_named(problems)
    by_fold = list(zip(*by_seed.values(), strict=True))
    stored = [
        [_held_out_predictions(corpus, fold, model) for model in models]
        for fold, models in zip(plan.folds, by_fold, strict=True)
    ]

    predictions = plan.predict(corpus, by_fold, _predict_voice)
    averages = plan.average(corpus, stored)
    labelled = {s.session_id for s in corpus.sessions if s.partition != "test"}
    assert set(averages) == labelled
    # One comes from sessions alone, the other from sessions that were padded together.
    for session_id, average in averages.items():
        np.testing.assert_allclose(average, predictions[session_id], atol=1e-6)

    first, second = next(by_model for by_model in stored if "t0_0" in by_model[0])
    np.testing.assert_allclose(averages["t0_0"], (first["t0_0"] + second["t0_0"]) / 2, atol=1e-6)

    of_devel = [columns["d1"] for by_model in stored for columns in by_model]
    assert len(of_devel) == len(plan.inference_models(by_fold)) == 6
    np.testing.assert_allclose(averages["d1"], np.mean(of_devel, axis=0), atol=1e-6)


def test_only_the_refit_predicts_devel_where_there_is_one(corpus: Corpus) -> None:
    plan = CrossFitPlan.from_spec(corpus, tiny_spec(inference="refit"))

    def constant(value: float) -> dict[str, np.ndarray]:
        return {
            session.session_id: np.full((session.num_frames, 1), value, np.float32)
            for session in corpus.sessions
        }

    stored = [[constant(10 * fold), constant(10 * fold + 1)] for fold in range(len(plan.folds))]
    averages = plan.average(corpus, stored)
    assert np.unique(averages["d0"]).tolist() == [30.5]
    for number, fold in enumerate(plan.folds[:3]):
        values = {float(averages[session_id][0, 0]) for session_id in fold.held_out_ids}
        assert values == {10 * number + 0.5}
