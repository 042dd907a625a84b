"""Targets with paths of their own: other modalities, other auto-encoders, other regressors, and several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.evaluation.plots import plots
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel, Prediction, encoder_names
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.unimodal import unimodal_predictions, unimodal_task
from pipeline.storage.atomic_folder import write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec

Value = TypeVar("Value")
WIDE, NARROW = (
    {"num_layers": 1, "hidden_size": 8, "dropout": 0.0},
    {"num_layers": 1, "hidden_size": 5, "dropout": 0.0},
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus()


@pytest.fixture(scope="module")
def both(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Reads voice and face."""
    return train(
        corpus, tiny_spec(), WorkerPool(corpus, StageStore(tmp_path_factory.mktemp("store")))
    )


@pytest.fixture(scope="module")
def face_alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Reads the face, with networks of another size and another seed."""
    seen = replace(corpus, columns={"face": corpus.columns["face"]})
    fit = {"max_epochs": 2, "batch_size": 4}
    spec = tiny_spec(
        seed=7, **{name: {"network": NARROW, "fit": fit} for name in ("auto_encoder", "unimodal")}
    )
    return train(seen, spec, WorkerPool(seen, StageStore(tmp_path_factory.mktemp("store"))))


@pytest.fixture(scope="module")
def joined(both: FusedModel, face_alone: FusedModel) -> FusedModel:
    """Arousal by `both`, valence by `face_alone`."""
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


def _of_target(prediction: Prediction, target: str) -> dict[str, np.ndarray]:
    return {
        "fusion": prediction.values[target],
        **{f"alone {name}": series for name, series in prediction.unimodal[target].items()},
        **{f"floor {name}": series for name, series in prediction.floors[target].items()},
    }


def _same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert list(one) == list(other)
    for name, series in one.items():
        np.testing.assert_array_equal(series, other[name], err_msg=name)


def test_each_target_is_predicted_as_by_its_own_path_alone(
    joined: FusedModel, both: FusedModel, face_alone: FusedModel, corpus: Corpus
) -> None:
    assert joined.modalities == ("voice", "face")
    devel = corpus.partition("devel")
    for found, first, second in zip(
        *(model.predict_sessions(devel) for model in (joined, both, face_alone)), strict=True
    ):
        _same(_of_target(found, "arousal"), _of_target(first, "arousal"))
        _same(_of_target(found, "valence"), _of_target(second, "valence"))
        assert set(found.without_difficulty) == {"valence"}
        np.testing.assert_array_equal(
            found.without_difficulty["valence"], second.without_difficulty["valence"]
        )
        assert set(found.difficulty) == {"voice", "face"}
        np.testing.assert_array_equal(
            found.difficulty["face"].error, first.difficulty["face"].error
        )
        np.testing.assert_array_equal(
            found.difficulty["face"].percentile, first.difficulty["face"].percentile
        )
        assert not np.array_equal(found.difficulty["face"].error, second.difficulty["face"].error)


def test_a_path_of_one_modality_does_not_mind_that_another_is_missing(
    joined: FusedModel, corpus: Corpus
) -> None:
    features = corpus.partition("devel")[0].features
    whole, part = joined.predict(features), joined.predict({"face": features["face"]})
    np.testing.assert_array_equal(whole.values["valence"], part.values["valence"])
    assert not np.array_equal(whole.values["arousal"], part.values["arousal"])


def test_save_and_load_keep_every_path(joined: FusedModel, corpus: Corpus, tmp_path: Path) -> None:
    model = replace(joined, study={"name": "tiny", "trials": 3})
    model.save(tmp_path / "bundle", card="# card")
    loaded = FusedModel.load(tmp_path / "bundle")
    assert loaded.files("# card") == model.files("# card")
    assert loaded.encoder_of == model.encoder_of
    assert loaded.fusion_modalities == model.fusion_modalities
    assert loaded.study == {"name": "tiny", "trials": 3}
    devel = corpus.partition("devel")
    for before, after in zip(
        model.predict_sessions(devel), loaded.predict_sessions(devel), strict=True
    ):
        for target in model.targets:
            _same(_of_target(before, target), _of_target(after, target))
        np.testing.assert_array_equal(
            before.without_difficulty["valence"], after.without_difficulty["valence"]
        )


def _renamed(model: FusedModel, names: Mapping[str, str]) -> FusedModel:
    """The same model of sets and targets that have other names."""

    def named(old: Mapping[str, Value]) -> dict[str, Value]:
        return {names.get(name, name): value for name, value in old.items()}

    def paths(old: Mapping[tuple[str, str], Value]) -> dict[tuple[str, str], Value]:
        return {(names.get(t, t), names.get(m, m)): value for (t, m), value in old.items()}

    return replace(
        model,
        columns=named(model.columns),
        targets=tuple(names.get(target, target) for target in model.targets),
        auto_encoders=named(model.auto_encoders),
        encoder_of={
            path: names.get(encoder, encoder) for path, encoder in paths(model.encoder_of).items()
        },
        regressors=paths(model.regressors),
        fusion_modalities=named(
            {t: tuple(names.get(m, m) for m in read) for t, read in model.fusion_modalities.items()}
        ),
        fusions=named(model.fusions),
        fusions_without_difficulty=named(model.fusions_without_difficulty),
        floor_weights=named(
            {target: named(weights) for target, weights in model.floor_weights.items()}
        ),
        difficulty_references=named(model.difficulty_references),
    )


@pytest.mark.parametrize(
    "names",
    [
        {"voice": "face/0"},
        {"voice": "face (2)", "face (2)": "face (3)"},
        {"voice": "é %2F/", "face": "é %2F", "arousal": "valence/face"},
    ],
)
def test_any_name_of_a_modality_or_target_keeps_its_place_in_the_bundle(
    joined: FusedModel, corpus: Corpus, tmp_path: Path, names: dict[str, str]
) -> None:
    model = _renamed(joined, names)
    model.save(tmp_path / "bundle")
    loaded = FusedModel.load(tmp_path / "bundle")
    assert loaded.files("") == model.files("")
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


def test_a_bundle_that_lacks_a_stage_is_refused_in_words(
    joined: FusedModel, tmp_path: Path
) -> None:
    files = joined.files("")
    record = json.loads(files["model.json"])
    lacking = {
        place: stage
        for place, stage in record["stages"].items()
        if not place.startswith("unimodal/valence/")
    }
    write_folder(
        tmp_path / "b", {**files, "model.json": json.dumps({**record, "stages": lacking}).encode()}
    )
    with pytest.raises(InputError, match="not a model bundle that this version can read"):
        FusedModel.load(tmp_path / "b")


def test_several_seeds_speak_by_their_mean(both: FusedModel, corpus: Corpus) -> None:
    devel = corpus.partition("devel")
    models = both.fusions["arousal"]
    each = [
        prediction.values["arousal"]
        for one in models
        for prediction in replace(
            both, fusions={**both.fusions, "arousal": (one,)}
        ).predict_sessions(devel[:1])
    ]
    together = replace(
        both, fusions={**both.fusions, "arousal": (*models, models[0])}
    ).predict_sessions(devel[:1])[0]
    expected = np.mean([*each, each[0]], axis=0).astype(np.float32)
    np.testing.assert_array_equal(together.values["arousal"], expected)


def test_each_target_is_evaluated_on_what_its_fusion_reads(
    joined: FusedModel, both: FusedModel, face_alone: FusedModel, corpus: Corpus
) -> None:
    found = evaluate(joined, corpus)
    said = found.to_json("m")["targets"]
    arousal = evaluate(both, corpus).to_json("m")["targets"]["arousal"]
    valence = evaluate(face_alone, corpus).to_json("m")["targets"]["valence"]
    assert said["arousal"] == {**arousal, "without_difficulty": None}
    assert said["valence"] == valence
    assert set(found.targets["valence"].difficulty_spearman) == {"face"}
    assert all(data.startswith(b"\x89PNG") for data in plots(found).values())


def test_the_card_tells_of_the_search_and_leaves_empty_what_a_target_does_not_read(
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


def test_a_plan_composes_from_what_models_said_what_it_lets_them_say(
    corpus: Corpus, tmp_path: Path
) -> None:
    spec = tiny_spec()
    plan = CrossFitPlan.of(corpus, spec)
    of_seed = WorkerPool(corpus, StageStore(tmp_path)).solve_all(
        {
            seed: [
                unimodal_task(
                    corpus,
                    spec.model_copy(update={"seed": seed}),
                    fold,
                    "voice",
                    "arousal",
                    None,
                    (),
                )
                for fold in plan.folds
            ]
            for seed in (0, 1)
        }
    )
    models = list(zip(*of_seed.values(), strict=True))

    def speak(voices: Any, sessions: Any) -> list[np.ndarray]:
        return unimodal_predictions(voices, sessions, "voice", None)

    devel = corpus.partition("devel")
    said = [
        [
            {
                s.session_id: speak([model], [s])[0]
                for s in [*map(corpus.session, fold.held_out_ids), *devel]
            }
            for model in seeds
        ]
        for fold, seeds in zip(plan.folds, models, strict=True)
    ]
    whole, composed = plan.say(corpus, models, speak), plan.compose(corpus, said)
    assert set(composed) == {s.session_id for s in corpus.sessions if s.partition != "test"}
    for name, series in composed.items():
        np.testing.assert_allclose(
            series, whole[name], atol=1e-6
        )  # sessions alone, and padded together
    mine, other = (columns["t0_0"] for columns in next(fold for fold in said if "t0_0" in fold[0]))
    np.testing.assert_allclose(composed["t0_0"], (mine + other) / 2, atol=1e-6)
    everyone = [columns["d1"] for fold in said for columns in fold]
    assert len(everyone) == len(plan.others(models)) == 6
    np.testing.assert_allclose(composed["d1"], np.mean(everyone, axis=0), atol=1e-6)


def test_only_the_refit_speaks_for_others_where_there_is_one(corpus: Corpus) -> None:
    plan = CrossFitPlan.of(corpus, tiny_spec(inference="refit"))
    said = [
        [
            {
                s.session_id: np.full((s.num_frames, 1), 10 * place + seed, np.float32)
                for s in corpus.sessions
            }
            for seed in (0, 1)
        ]
        for place in range(len(plan.folds))
    ]
    composed = plan.compose(corpus, said)
    assert np.unique(composed["d0"]).tolist() == [30.5]
    for place, fold in enumerate(plan.folds[:3]):
        assert {float(composed[name][0, 0]) for name in fold.held_out_ids} == {10 * place + 0.5}
