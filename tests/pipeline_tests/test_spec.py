"""Every setting has an effect, and everything that changes a result changes its key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.fitting.trainer import fit
from pipeline.spec import (
    AutoEncoderSpec,
    FitSpec,
    FusionSpec,
    NetworkSpec,
    Spec,
    UnimodalSpec,
    override,
    read_spec,
)
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import CrossFitPlan, Fold
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import SupervisedProblem, UpstreamKeys
from pipeline.stages.unimodal import UnimodalTask
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec
from tests.pipeline_tests.problems import pose

SMALL_NETWORK = {"num_layers": 2, "hidden_size": 6, "dropout": 0.1}
SMALL_FIT = {"max_epochs": 2, "batch_size": 4, "window_frames": 12, "hop_frames": 5}


def _fold(corpus: Corpus) -> Fold:
    return CrossFitPlan.from_spec(corpus, tiny_spec()).folds[0]


def _weights(
    network: dict[str, object], settings: dict[str, object], normalisation: str = "both"
) -> bytes:
    """Return the weights that a regressor learns with these settings."""
    corpus = tiny_corpus()
    stage = {
        "network": {**SMALL_NETWORK, **network},
        "fit": {**SMALL_FIT, **settings},
        "normalisation": normalisation,
    }
    spec = tiny_spec(unimodal=stage)
    task = pose(UnimodalTask("voice", "arousal"), corpus, spec, _fold(corpus))
    return fit(task, corpus).to_files()["weights.safetensors"]


@pytest.fixture(scope="module")
def plain() -> bytes:
    """Return the weights that are learned without any change."""
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
    """No setting of a network is without effect."""
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
    """No setting of a fit is without effect."""
    assert set(change) <= set(FitSpec.model_fields)
    assert _weights({}, change) != plain


def test_normalisation_changes_what_is_learned(plain: bytes) -> None:
    """All three normalisations differ."""
    assert len({plain, _weights({}, {}, "train"), _weights({}, {}, "session")}) == 3


@pytest.mark.slow
def test_weight_decay_shrinks_weights() -> None:
    """Weight decay makes weights smaller."""
    corpus = tiny_corpus()

    def size(**settings: object) -> float:
        stage = {"network": SMALL_NETWORK, "fit": {**SMALL_FIT, "max_epochs": 30, **settings}}
        spec = tiny_spec(unimodal=stage)
        task = pose(UnimodalTask("voice", "arousal"), corpus, spec, _fold(corpus))
        weights = fit(replace(task, devel_ids=task.train_ids), corpus).weights
        return float(sum(weight.square().sum() for weight in weights.values()))

    assert size(weight_decay=0.5) < 0.7 * size()


def _columns(corpus: Corpus) -> dict[str, np.ndarray]:
    return {s.session_id: np.zeros((s.num_frames, 1), dtype=np.float32) for s in corpus.sessions}


def _problems(
    corpus: Corpus, spec: Spec, *, upstream: str = "a", reads_difficulty: bool = True
) -> dict[str, SupervisedProblem]:
    """One problem of each stage; the later ones read an upstream stage of this key."""
    fold, columns = _fold(corpus), _columns(corpus)
    stages = {"voice": ((upstream,),)}
    encoders = stages if reads_difficulty else {}
    difficulty = columns if reads_difficulty else None
    return {
        "auto_encoder": pose(AutoEncoderTask("voice"), corpus, spec, fold),
        "unimodal": pose(
            UnimodalTask("voice", "arousal"),
            corpus,
            spec,
            fold,
            keys=UpstreamKeys(encoders),
            difficulty=difficulty,
        ),
        "fusion": pose(
            FusionTask(target="arousal"),
            corpus,
            spec,
            fold,
            keys=UpstreamKeys(encoders, stages),
            predictions=columns,
            difficulty=difficulty,
        ),
    }


def _changed(before: dict[str, SupervisedProblem], after: dict[str, SupervisedProblem]) -> set[str]:
    return {stage for stage in before if before[stage].key != after[stage].key}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"seed": 1}, {"auto_encoder", "unimodal", "fusion"}),
        ({"protocol": "in_sample"}, {"unimodal", "fusion"}),
        ({"inference": "refit"}, {"unimodal", "fusion"}),
        ({"inference": "distilled"}, set()),
        ({"difficulty_scale": "raw"}, {"unimodal", "fusion"}),
        ({"calibration": "linear"}, set()),
        ({"auto_encoder": {"network": {"hidden_size": 9}}}, {"auto_encoder"}),
        ({"auto_encoder": {"fit": {"input_noise": 0.1}}}, {"auto_encoder"}),
        ({"unimodal": {"network": {"cell": "lstm"}}}, {"unimodal"}),
        ({"unimodal": {"fit": {"weight_decay": 0.1}}}, {"unimodal"}),
        ({"unimodal": {"normalisation": "train"}}, {"unimodal"}),
        ({"unimodal": {"delay_s": 1.0}}, {"unimodal"}),
        ({"unimodal": {"context_s": [2, 5]}}, {"unimodal"}),
        ({"unimodal": {"resample_s": 1.0}}, {"unimodal"}),
        ({"unimodal": {"learns": "all"}}, {"unimodal"}),
        ({"unimodal": {"network": {"cell": "tcn"}}}, {"unimodal"}),
        ({"fusion": {"network": {"skip": False}}}, {"fusion"}),
        ({"fusion": {"fit": {"learning_rate": 0.01}}}, {"fusion"}),
    ],
)
def test_a_changed_setting_changes_the_keys_of_the_stages_it_concerns(
    change: dict[str, object], stages: set[str]
) -> None:
    """A stage that a setting does not concern is not trained anew."""
    corpus = tiny_corpus()
    assert (
        _changed(
            _problems(corpus, Spec(folds=3)),
            _problems(corpus, Spec.model_validate({"folds": 3, **change})),
        )
        == stages
    )


def test_other_upstream_stages_change_the_key() -> None:
    """What a stage reads decides what it learns."""
    corpus, spec = tiny_corpus(), tiny_spec()
    assert _changed(_problems(corpus, spec), _problems(corpus, spec, upstream="b")) == {
        "unimodal",
        "fusion",
    }


def test_reading_no_difficulty_changes_the_key() -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    with_difficulty = _problems(corpus, spec)
    without_difficulty = _problems(corpus, spec, reads_difficulty=False)
    assert _changed(with_difficulty, without_difficulty) == {"unimodal", "fusion"}


def test_what_a_gpu_trained_has_another_key() -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    task, fold = AutoEncoderTask("voice"), _fold(corpus)
    assert task.key(corpus, spec, fold) != task.key(corpus, spec, fold, device="cuda")


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
    """Nothing is trained anew because of data that it does not read."""
    corpus, spec = tiny_corpus(), tiny_spec()
    fold = _fold(corpus)
    session_ids = {
        "test": corpus.partition("test")[0].session_id,
        "held out": fold.held_out_ids[0],
    }
    session = corpus.session(session_ids.get(kind, fold.train_ids[0]))

    changed = _changed_session(session, kind)
    others = [each for each in corpus.sessions if each.session_id != session.session_id]
    changed_corpus = corpus_of([*others, changed])
    assert _changed(_problems(corpus, spec), _problems(changed_corpus, spec)) == stages


def _changed_session(session: Session, kind: str) -> Session:
    """Return the session with other data of one kind; by default, with other features."""
    features, labels = session.features, session.labels
    if kind == "other features":
        return replace(session, features={**features, "face": features["face"] + np.float32(1)})
    if kind == "labels":
        return replace(session, labels={**labels, "arousal": labels["arousal"] + 0.1})
    if kind == "other labels":
        return replace(session, labels={**labels, "valence": labels["valence"] + 0.1})
    if kind == "present":
        present = session.present["voice"].copy()
        present[3] = False
        return replace(session, present={**session.present, "voice": present})

    voice = features["voice"].copy()
    voice[3] += 1
    return replace(session, features={**features, "voice": voice})


def test_a_fusion_begins_as_the_mean_of_the_predictions() -> None:
    """With a learning rate of almost 0 it also ends as their mean."""
    corpus = tiny_corpus()
    random = np.random.default_rng(0)
    predictions = {
        s.session_id: np.stack(
            [s.labels["arousal"] * 0.5 + 0.2, random.normal(size=s.num_frames)], axis=1
        ).astype(np.float32)
        for s in corpus.sessions
    }
    still = FusionSpec.model_validate({"fit": {"learning_rate": 1e-30, "max_epochs": 1}})
    task = pose(
        FusionTask(target="arousal"),
        corpus,
        tiny_spec(fusion=still),
        _fold(corpus),
        predictions=predictions,
    )
    stage = fit(task, corpus)
    session = tiny_session("t0_0", "t0", "train", frames=24, seed=0)
    columns = predictions[session.session_id]
    inputs = np.concatenate([columns, np.ones_like(columns)], axis=1)  # both are present
    np.testing.assert_allclose(stage.predict([inputs])[0][:, 0], columns.mean(axis=1), atol=1e-5)


def test_a_spec_file_overrides_the_defaults_of_each_stage(tmp_path: Path) -> None:
    """A key that is not in the file has the default of its stage."""
    path = tmp_path / "spec.toml"
    path.write_text("[auto_encoder.network]\nhidden_size = 8\n[fusion.network]\nnum_layers = 1\n")
    spec = read_spec(path)

    assert spec.auto_encoder.network.hidden_size == 8
    assert spec.auto_encoder.network.bottleneck_size == AutoEncoderSpec().network.bottleneck_size
    assert spec.fusion.network.skip
    assert spec.unimodal == UnimodalSpec()


def test_a_spec_file_may_have_a_table_of_delays_and_a_list_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(
        "[unimodal]\ndelay_s = { arousal = 2, valence = 3.5 }\ncontext_s = [15, 2, 5.5, 2]\n"
    )
    unimodal = read_spec(path).unimodal
    assert [unimodal.target_delay_s(name) for name in ("arousal", "valence", "pain")] == [2, 3.5, 0]
    assert unimodal.context_windows_s == (2, 5.5, 15)
    assert UnimodalSpec.model_validate({"context_s": "2, 15,5.5"}).context_s == unimodal.context_s
    assert UnimodalSpec.model_validate({"context_s": []}) == UnimodalSpec()
    assert UnimodalSpec.model_validate_json(unimodal.model_dump_json()) == unimodal


def test_the_small_spec_can_be_read() -> None:
    """The spec that comes with the package has one recurrent layer."""
    assert read_spec("pipeline/specs/small.toml").unimodal.network.num_layers == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[unimodal]\nnormalisation = 'none'", "unimodal.normalisation"),
        ("seed = -1", "seed"),
        ("seed = true", "seed"),
        ("[fusion.network]\nnum_layers = '4'", "num_layers"),
        (
            "[unimodal]\ndelay_s = 7",
            "unimodal.delay_s': a delay is a number of seconds from 0 to 6",
        ),
        ("[unimodal]\ndelay_s = { arousal = -1 }", "'unimodal.delay_s': a delay is a number"),
        ("[unimodal]\ndelay_s = 'long'", "'unimodal.delay_s': a delay is a number"),
        ("[unimodal]\ncontext_s = [2, 0]", "'unimodal.context_s': at most 8 lengths of windows"),
        ("[unimodal]\ncontext_s = '2;5'", "'unimodal.context_s': at most 8 lengths of windows"),
        ("[unimodal]\ncontext_s = 5", "'unimodal.context_s': at most 8 lengths of windows"),
        ("[unimodal]\nresample_s = -1", "unimodal.resample_s"),
        ("[fusion.fit]\nhop_frames = 400", "must not exceed window_frames, 300"),
        ("inference = 'distilled'\nprotocol = 'in_sample'", "'in_sample' has no folds"),
    ],
)
def test_a_spec_with_a_wrong_value_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the key, or the values that do not go together."""
    path = tmp_path / "spec.toml"
    path.write_text(text)

    with pytest.raises(InputError, match=message):
        read_spec(path)


def test_a_calibration_in_sample_is_refused_with_what_to_choose() -> None:
    """In sample nobody is held out, and a correction would be learned of what was fitted."""
    with pytest.raises(InputError, match=r"calibration is 'linear'.*choose 'cross_fit' or 'none'"):
        override(Spec(calibration="linear"), protocol="in_sample")


def test_kinds_of_corruption_are_a_list_or_text_and_have_one_order() -> None:
    as_list = FusionSpec.model_validate({"corruption": {"kinds": ["noise", "drop"]}})
    as_text = FusionSpec.model_validate({"corruption": {"kinds": "noise,drop"}})
    assert as_list == as_text
    assert as_list.corruption.kind_names == ("drop", "noise")

    without = FusionSpec.model_validate({"corruption": {"share": 0.0}})
    assert without.corruption.kind_names == ()


@pytest.mark.parametrize("kinds", [["drop", "melt"], "", [], 3])
def test_unknown_kinds_of_corruption_are_refused(kinds: object) -> None:
    with pytest.raises(ValidationError, match="one or more of drop, freeze, noise, shift"):
        FusionSpec.model_validate({"corruption": {"kinds": kinds}})


def test_a_spec_shows_what_differs_from_the_defaults() -> None:
    assert repr(Spec()) == "Spec()"
    spec = Spec.model_validate({"folds": 3, "unimodal": {"fit": {"max_epochs": 2}}})
    assert repr(spec) == "Spec(unimodal=UnimodalSpec(fit=FitSpec(max_epochs=2)), folds=3)"
