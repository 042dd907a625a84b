"""Every setting does something, and everything that changes a result changes its key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.fitting.trainer import fit
from pipeline.spec import (
    AutoEncoderSpec,
    FitSpec,
    FusionSpec,
    NetworkSpec,
    Spec,
    UnimodalSpec,
    read_spec,
)
from pipeline.stages.auto_encoder import auto_encoder_task
from pipeline.stages.cross_fit import CrossFitPlan, Fold
from pipeline.stages.fusion import fusion_task
from pipeline.stages.stage import StageTask
from pipeline.stages.unimodal import unimodal_task
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec

SMALL_NETWORK = {"num_layers": 2, "hidden_size": 6, "dropout": 0.1}
SMALL_FIT = {"max_epochs": 2, "batch_size": 4, "window_frames": 12, "hop_frames": 5}


def _fold(corpus: Corpus) -> Fold:
    return CrossFitPlan.of(corpus, tiny_spec()).folds[0]


def _weights(
    network: dict[str, object], settings: dict[str, object], normalisation: str = "both"
) -> bytes:
    corpus = tiny_corpus()
    stage = {
        "network": {**SMALL_NETWORK, **network},
        "fit": {**SMALL_FIT, **settings},
        "normalisation": normalisation,
    }
    task = unimodal_task(
        corpus, tiny_spec(unimodal=stage), _fold(corpus), "voice", "arousal", None, ()
    )
    return fit(task, corpus).to_files()["weights.safetensors"]


@pytest.fixture(scope="module")
def plain() -> bytes:
    return _weights({}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "lstm"},
        {"num_layers": 1},
        {"hidden_size": 7},
        {"bidirectional": False},
        {"dropout": 0.5},
        {"input_dropout": 0.3},
        {"projection_size": 3},
        {"bottleneck_size": 3},
        {"skip": True},
    ],
)
def test_every_setting_of_a_network_changes_what_is_learned(
    plain: bytes, change: dict[str, object]
) -> None:
    assert set(change) <= set(NetworkSpec.model_fields)
    assert _weights(change, {}) != plain


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "mse"},
        {"loss": "l1"},
        {"ccc_over": "window"},
        {"learning_rate": 0.01},
        {"weight_decay": 0.1},
        {"gradient_clip": 1e-9},
        {"input_noise": 0.5},
        {"batch_size": 3},
        {"window_frames": 8},
        {"hop_frames": 3},
        {"max_epochs": 1},
    ],
)
def test_every_setting_of_a_fit_changes_what_is_learned(
    plain: bytes, change: dict[str, object]
) -> None:
    assert set(change) <= set(FitSpec.model_fields)
    assert _weights({}, change) != plain


def test_normalisation_changes_what_is_learned(plain: bytes) -> None:
    assert len({plain, _weights({}, {}, "train"), _weights({}, {}, "session")}) == 3


def test_weight_decay_shrinks_weights_and_a_tiny_clip_leaves_them_nearly_still() -> None:
    corpus = tiny_corpus()

    def size(**settings: object) -> float:
        stage = {"network": SMALL_NETWORK, "fit": {**SMALL_FIT, "max_epochs": 30, **settings}}
        task = unimodal_task(
            corpus, tiny_spec(unimodal=stage), _fold(corpus), "voice", "arousal", None, ()
        )
        weights = fit(replace(task, devel_ids=task.train_ids), corpus).weights
        return float(sum(weight.square().sum() for weight in weights.values()))

    assert size(weight_decay=0.5) < 0.7 * size()


def _tasks(
    corpus: Corpus, spec: Spec, *, upstream: tuple[str, ...] = ("a",)
) -> dict[str, StageTask]:
    fold = _fold(corpus)
    said = {s.session_id: np.zeros((s.num_frames, 1), dtype=np.float32) for s in corpus.sessions}
    return {
        "auto_encoder": auto_encoder_task(corpus, spec, fold, "voice"),
        "unimodal": unimodal_task(corpus, spec, fold, "voice", "arousal", said, upstream),
        "fusion": fusion_task(corpus, spec, fold, "arousal", said, said, upstream),
    }


def _changed(before: dict[str, StageTask], after: dict[str, StageTask]) -> set[str]:
    return {stage for stage in before if before[stage].key != after[stage].key}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"seed": 1}, {"auto_encoder", "unimodal", "fusion"}),
        ({"protocol": "in_sample"}, {"unimodal", "fusion"}),
        ({"inference": "refit"}, {"unimodal", "fusion"}),
        ({"difficulty_scale": "raw"}, {"unimodal", "fusion"}),
        ({"auto_encoder": {"network": {"hidden_size": 9}}}, {"auto_encoder"}),
        ({"auto_encoder": {"fit": {"input_noise": 0.1}}}, {"auto_encoder"}),
        ({"unimodal": {"network": {"cell": "lstm"}}}, {"unimodal"}),
        ({"unimodal": {"fit": {"weight_decay": 0.1}}}, {"unimodal"}),
        ({"unimodal": {"normalisation": "train"}}, {"unimodal"}),
        ({"fusion": {"network": {"skip": False}}}, {"fusion"}),
        ({"fusion": {"fit": {"learning_rate": 0.01}}}, {"fusion"}),
    ],
)
def test_a_changed_setting_changes_the_keys_of_the_stages_it_concerns(
    change: dict[str, object], stages: set[str]
) -> None:
    corpus = tiny_corpus()
    assert (
        _changed(
            _tasks(corpus, Spec(folds=3)),
            _tasks(corpus, Spec.model_validate({"folds": 3, **change})),
        )
        == stages
    )


def test_other_upstream_stages_change_the_key() -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    assert _changed(_tasks(corpus, spec), _tasks(corpus, spec, upstream=("b",))) == {
        "unimodal",
        "fusion",
    }


def test_reading_no_difficulty_changes_the_key() -> None:
    corpus, spec, fold = tiny_corpus(), tiny_spec(), _fold(tiny_corpus())
    bare = unimodal_task(corpus, spec, fold, "voice", "arousal", None, ("a",))
    assert bare.key != _tasks(corpus, spec)["unimodal"].key
    said = {s.session_id: np.zeros((s.num_frames, 1), dtype=np.float32) for s in corpus.sessions}
    assert (
        fusion_task(corpus, spec, fold, "arousal", said, None, ("a",)).key
        != _tasks(corpus, spec)["fusion"].key
    )


@pytest.mark.parametrize(
    ("kind", "stages"),
    [
        ("features", {"auto_encoder", "unimodal"}),
        ("present", {"auto_encoder", "unimodal"}),
        ("labels", {"unimodal", "fusion"}),
        ("other features", set()),
        ("other labels", set()),
        ("test", set()),
        ("held out", set()),
    ],
)
def test_changed_data_change_the_keys_of_what_reads_them_and_no_others(
    kind: str, stages: set[str]
) -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    fold = _fold(corpus)
    chosen = {"test": corpus.partition("test")[0].session_id, "held out": fold.held_out_ids[0]}.get(
        kind, fold.train_ids[0]
    )
    session = corpus.session(chosen)
    voice = session.features["voice"].copy()
    voice[3] += 1
    face = session.features["face"] + np.float32(1)
    present = session.present["voice"].copy()
    present[3] = False
    other = {
        "features": replace(session, features={**session.features, "voice": voice}),
        "present": replace(session, present={**session.present, "voice": present}),
        "labels": replace(
            session, labels={**session.labels, "arousal": session.labels["arousal"] + 0.1}
        ),
        "other features": replace(session, features={**session.features, "face": face}),
        "other labels": replace(
            session, labels={**session.labels, "valence": session.labels["valence"] + 0.1}
        ),
        "test": replace(session, features={**session.features, "voice": voice}),
        "held out": replace(session, features={**session.features, "voice": voice}),
    }[kind]
    after = corpus_of([other if s.session_id == chosen else s for s in corpus.sessions])
    assert _changed(_tasks(corpus, spec), _tasks(after, spec)) == stages


def test_a_fusion_begins_as_the_mean_of_the_predictions() -> None:
    corpus = tiny_corpus()
    random = np.random.default_rng(0)
    opinions = {
        s.session_id: np.stack(
            [s.labels["arousal"] * 0.5 + 0.2, random.normal(size=s.num_frames)], axis=1
        ).astype(np.float32)
        for s in corpus.sessions
    }
    still = FusionSpec.model_validate({"fit": {"learning_rate": 1e-30, "max_epochs": 1}})
    task = fusion_task(
        corpus, tiny_spec(fusion=still), _fold(corpus), "arousal", opinions, None, ()
    )
    stage = fit(task, corpus)
    session = tiny_session("t0_0", "t0", "train", frames=24, seed=0)
    said = opinions[session.session_id]
    np.testing.assert_allclose(stage.predict([said])[0][:, 0], said.mean(axis=1), atol=1e-5)


def test_a_spec_file_lies_over_the_defaults_of_each_stage(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text("[auto_encoder.network]\nhidden_size = 8\n[fusion.network]\nnum_layers = 1\n")
    spec = read_spec(path)
    assert spec.auto_encoder.network.hidden_size == 8
    assert spec.auto_encoder.network.bottleneck_size == AutoEncoderSpec().network.bottleneck_size
    assert spec.fusion.network.skip
    assert spec.unimodal == UnimodalSpec()
    assert read_spec("pipeline/specs/small.toml").unimodal.network.num_layers == 1
    refused = {
        "[unimodal]\nnormalisation = 'none'": "unimodal.normalisation",
        "seed = -1": "seed",
        "seed = true": "seed",
        "[fusion.network]\nnum_layers = '4'": "num_layers",
        "[fusion.fit]\nhop_frames = 400": "must not exceed window_frames, 300",
    }
    for text, message in refused.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_spec(path)
