"""Ensembles whose members differ, in encoders and networks, and models without a fusion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.evaluation.evaluate import evaluate
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files, load_model, save_model
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.stages.trained_stage import TrainedStage
from pipeline.storage.atomic_folder import write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec

PATH = ("arousal", "face")
SMALLER_NETWORK = {"num_layers": 1, "hidden_size": 5, "dropout": 0.0}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a small corpus."""
    return tiny_corpus()


@pytest.fixture(scope="module")
def reader(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a model whose stages read difficulty."""
    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(corpus, tiny_spec(), WorkerPool(corpus, store))


@pytest.fixture(scope="module")
def other(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return one with networks of another size, so with other difficulties."""
    stage = {"network": SMALLER_NETWORK, "fit": {"max_epochs": 2, "batch_size": 4}}
    spec = tiny_spec(seed=7, auto_encoder=stage, unimodal=stage, fusion=stage)
    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(corpus, spec, WorkerPool(corpus, store))


@pytest.fixture(scope="module")
def blind(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return one whose regressors and fusion read no difficulty, and z-score within sessions."""
    unimodal = {**tiny_spec().unimodal.model_dump(), "difficulty": False}
    spec = tiny_spec(
        unimodal={**unimodal, "normalisation": "session"}, fusion={"difficulty": False}
    )
    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(corpus, spec, WorkerPool(corpus, store))


def models_of(*parts: FusedModel) -> tuple[TrainedStage, ...]:
    """Return the regressors of the face that several models have."""
    return tuple(stage for model in parts for stage in model.regressors[PATH])


@pytest.fixture(scope="module")
def mixed(reader: FusedModel, other: FusedModel, blind: FusedModel) -> FusedModel:
    """Return `reader` with all models' regressors of the face; those of `other` count twice."""
    parts = (reader, other, other, blind)
    names = ("face", "face (2)", "face (2)", "face")
    return replace(
        reader,
        auto_encoders={**reader.auto_encoders, "face (2)": other.auto_encoders["face"]},
        difficulty_references={
            **reader.difficulty_references,
            "face (2)": other.difficulty_references["face"],
        },
        regressors={**reader.regressors, PATH: models_of(*parts)},
        regressor_encoders={
            PATH: tuple(
                name for name, part in zip(names, parts, strict=True) for _ in part.regressors[PATH]
            )
        },
    )


def saved_and_loaded(model: FusedModel, folder: Path) -> FusedModel:
    """Return what a bundle keeps of a model."""
    save_model(model, folder)
    return load_model(folder)


def devel_predictions(model: FusedModel, corpus: Corpus) -> list[Prediction]:
    """Return a model's predictions of devel."""
    return model.predict_sessions(corpus.partition("devel"))


def assert_same(model: FusedModel, loaded: FusedModel, corpus: Corpus) -> None:
    """Fail unless two models predict the same."""
    predictions = (devel_predictions(model, corpus), devel_predictions(loaded, corpus))
    for one, two in zip(*predictions, strict=True):
        for target in model.targets:
            np.testing.assert_array_equal(one.values[target], two.values[target])
            for modality, values in one.unimodal[target].items():
                np.testing.assert_array_equal(values, two.unimodal[target][modality])


def test_each_regressor_reads_the_difficulty_that_it_was_trained_with(
    mixed: FusedModel, reader: FusedModel, other: FusedModel, blind: FusedModel, corpus: Corpus
) -> None:
    parts = [devel_predictions(model, corpus) for model in (reader, other, other, blind)]
    for place, prediction in enumerate(devel_predictions(mixed, corpus)):
        alone = [part[place].unimodal["arousal"]["face"] for part in parts]
        np.testing.assert_allclose(
            prediction.unimodal["arousal"]["face"], np.mean(alone, axis=0), atol=1e-6
        )
        # What is reported, and what the fusion reads, is the first encoder's.
        expected = parts[0][place].difficulty["face"].error
        np.testing.assert_array_equal(prediction.difficulty["face"].error, expected)


def test_members_that_differ_and_repeat_are_kept_in_a_bundle_once(
    mixed: FusedModel, reader: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    loaded = saved_and_loaded(mixed, tmp_path / "model")
    assert loaded.regressor_encoders == mixed.regressor_encoders
    assert_same(mixed, loaded, corpus)

    places = json.loads(bundle_files(mixed)["model.json"])["stages"]
    num_stages = sum(place.startswith("unimodal/arousal/face/") for place in places)
    assert num_stages == 3 * len(reader.regressors[PATH])
    assert len(loaded.regressors[PATH]) == 4 * len(reader.regressors[PATH])


def test_a_fusion_that_reads_difficulty_and_one_that_reads_none_are_one_ensemble(
    reader: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    fusions = (reader.fusions["arousal"], reader.fusions_without_difficulty["arousal"])
    both = replace(reader, fusions={**reader.fusions, "arousal": (*fusions[0], *fusions[1])})

    for one, mean in zip(
        devel_predictions(reader, corpus), devel_predictions(both, corpus), strict=True
    ):
        expected = (one.values["arousal"] + one.without_difficulty["arousal"]) / 2
        np.testing.assert_allclose(mean.values["arousal"], expected, atol=1e-6)
    assert_same(both, saved_and_loaded(both, tmp_path / "model"), corpus)


@pytest.mark.parametrize("floor", ["mean", "weighted_mean"])
def test_a_floor_stands_in_for_a_fusion(
    reader: FusedModel, corpus: Corpus, tmp_path: Path, floor: str
) -> None:
    model = replace(
        reader,
        fusions={**reader.fusions, "valence": ()},
        fusions_without_difficulty={},
        floor_of={"valence": floor},
    )
    for prediction in devel_predictions(model, corpus):
        expected = prediction.floors["valence"][floor].astype(np.float32)
        np.testing.assert_array_equal(prediction.values["valence"], expected)

    loaded = saved_and_loaded(model, tmp_path / "model")
    assert loaded.fusions["valence"] == ()
    assert_same(model, loaded, corpus)
    scores = evaluate(loaded, corpus).targets["valence"].scores
    assert scores["fusion"].ccc == pytest.approx(scores[floor.replace("_", " ")].ccc, abs=1e-6)


def test_a_bundle_of_an_earlier_version_has_one_encoder_and_a_fusion(
    reader: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    files = bundle_files(reader)
    record = json.loads(files["model.json"])
    for name in ("regressor_encoders", "without_fusion", "floor_of", "repeats"):
        del record[name]
    write_folder(tmp_path / "old", {**files, "model.json": json.dumps(record).encode()})
    assert_same(reader, load_model(tmp_path / "old"), corpus)


@pytest.mark.parametrize(
    "change",
    [
        {"regressor_encoders": {PATH: ("face",)}},
        {"regressor_encoders": {("arousal", "hand"): ("face",)}},
        {"floor_of": {"arousal": "mean"}},
    ],
)
def test_encoders_and_floors_that_do_not_fit_are_refused(
    reader: FusedModel, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="not those that the targets read"):
        replace(reader, **change)
