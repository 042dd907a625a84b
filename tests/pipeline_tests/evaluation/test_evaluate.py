"""Evaluation: intervals over subjects, floors, corruption; against closed forms and a plain bootstrap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import audmetric
import numpy as np
import pytest

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.evaluation.corruption import corruption
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import lost_to_floors, model_card
from pipeline.evaluation.plots import plots
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.metrics.bootstrap import Score, bootstrap, subject_moments
from pipeline.model.fused_model import FusedModel
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import reconstruction_errors, spearman
from pipeline.stages.fusion import floor_weights, floors
from pipeline.stages.stage import StageTask, TrainedStage
from pipeline.stages.unimodal import unimodal_predictions
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus()


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    return train(
        corpus, tiny_spec(), WorkerPool(corpus, StageStore(tmp_path_factory.mktemp("store")))
    )


def test_every_figure_is_what_audmetric_says_of_the_predictions(
    model: FusedModel, corpus: Corpus
) -> None:
    found = evaluate(model, corpus, "devel").to_json("m")
    devel = corpus.partition("devel")
    predictions = model.predict_sessions(devel)
    for target in model.targets:
        truth = np.concatenate([session.labels[target] for session in devel])

        def pooled(series: list[np.ndarray], truth: np.ndarray = truth) -> float:
            return float(audmetric.concordance_cc(truth, np.concatenate(series)))

        said = found["targets"][target]
        assert said["ccc"] == pytest.approx(
            pooled([p.values[target] for p in predictions]), abs=1e-9
        )
        assert said["floors"]["mean"] == pytest.approx(
            pooled([p.floors[target]["mean"] for p in predictions]), abs=1e-9
        )
        assert said["floors"]["weighted_mean"] == pytest.approx(
            pooled([p.floors[target]["weighted_mean"] for p in predictions]), abs=1e-9
        )
        assert model.floor_weights[target]["face"] == pytest.approx(
            max(said["unimodal"]["face"], 0), abs=1e-6
        )
        assert said["unimodal"]["face"] == pytest.approx(
            pooled([p.unimodal[target]["face"] for p in predictions]), abs=1e-9
        )
        assert said["without_difficulty"] == pytest.approx(
            pooled([p.without_difficulty[target] for p in predictions]), abs=1e-9
        )
        sessions = [
            audmetric.concordance_cc(s.labels[target], p.values[target])
            for s, p in zip(devel, predictions, strict=True)
        ]
        assert said["session_mean_ccc"] == pytest.approx(np.mean(sessions), abs=1e-9)
        assert (said["frames"], said["sessions"], said["subjects"]) == (90, 3, 3)
        assert said["ccc_low"] <= said["ccc"] <= said["ccc_high"]


def test_the_json_has_the_fixed_keys(model: FusedModel, corpus: Corpus) -> None:
    found = json.loads(json.dumps(evaluate(model, corpus).to_json("m"), allow_nan=False))
    assert set(found) == {"model", "partition", "targets"}
    assert set(found["targets"]["arousal"]) == {
        *(
            "ccc",
            "ccc_low",
            "ccc_high",
            "session_mean_ccc",
            "undefined_sessions",
            "frames",
            "sessions",
            "subjects",
        ),
        *("floors", "unimodal", "without_difficulty"),
    }


def test_the_bootstrap_draws_subjects_not_frames() -> None:
    random = np.random.default_rng(0)
    truths = [random.normal(size=40) + subject for subject in range(5)]
    guesses = [truth + random.normal(size=40) for truth in truths]
    sessions = [
        replace(tiny_session(f"s{i}", f"p{i}", "devel", frames=40), labels={"arousal": truth})
        for i, truth in enumerate(truths)
    ]
    score = bootstrap(subject_moments(sessions, "arousal", guesses))
    plain = []
    for _ in range(2000):
        drawn = random.integers(0, 5, size=5)
        plain.append(
            audmetric.concordance_cc(
                np.concatenate([truths[i] for i in drawn]),
                np.concatenate([guesses[i] for i in drawn]),
            )
        )
    low, high = np.percentile(plain, [2.5, 97.5])
    assert score.low == pytest.approx(low, abs=0.03)
    assert score.high == pytest.approx(high, abs=0.03)


def test_two_sessions_of_one_subject_are_one_unit_and_one_subject_has_no_interval() -> None:
    sessions = [tiny_session(f"s{i}", "same", "devel", seed=i) for i in range(3)]
    sums = subject_moments(sessions, "arousal", [session.labels["valence"] for session in sessions])
    assert sums.shape == (1, 6)
    assert np.isnan(bootstrap(sums).low)


def test_a_paired_difference_with_itself_is_zero() -> None:
    sessions = [tiny_session(f"s{i}", f"p{i}", "devel", seed=i) for i in range(4)]
    sums = subject_moments(sessions, "arousal", [session.labels["valence"] for session in sessions])
    score = bootstrap(sums, sums)
    assert (score.ccc, score.low, score.high) == (0, 0, 0)


def test_constant_and_unknown_labels_are_counted_not_hidden(model: FusedModel) -> None:
    constant = tiny_session("c", "c", "devel", seed=7)
    constant = replace(
        constant, labels={"arousal": np.full(30, 0.3), "valence": constant.labels["valence"]}
    )
    half = tiny_session("h", "h", "devel", seed=8)
    half = replace(
        half,
        labels={
            name: np.where(np.arange(30) < 10, np.nan, value) for name, value in half.labels.items()
        },
    )
    unknown = tiny_session("u", "u", "devel", seed=9, labelled=False)
    found = evaluate(model, corpus_of([constant, half, unknown]))
    assert found.targets["arousal"].sessions == 2
    assert found.targets["arousal"].frames == 50
    assert np.isfinite(found.targets["arousal"].scores["fusion"].ccc)
    assert found.targets["arousal"].undefined_sessions == 1
    assert found.targets["arousal"].session_mean_ccc == found.targets["arousal"].session_ccc["h"]
    assert found.targets["valence"].undefined_sessions == 0


def test_test_labels_that_are_withheld_are_an_error_that_names_predict(
    model: FusedModel, corpus: Corpus
) -> None:
    with pytest.raises(InputError, match=r"no test session has labels.*predict"):
        evaluate(model, corpus, "test")


def test_other_columns_are_refused(model: FusedModel, corpus: Corpus) -> None:
    with pytest.raises(InputError, match="'face', which corpus 'tiny' does not have"):
        evaluate(model, replace(corpus, columns={"voice": corpus.columns["voice"]}))
    with pytest.raises(InputError, match="'face' has 2 columns"):
        evaluate(model, replace(corpus, columns={**corpus.columns, "face": ("a", "b")}))
    with pytest.raises(
        InputError, match="column 'b' of corpus 'tiny' stands where the model reads 'face_0'"
    ):
        evaluate(
            model, replace(corpus, columns={**corpus.columns, "face": ("b", "face_1", "face_2")})
        )


def test_floors_leave_out_absent_modalities_and_weigh_the_others() -> None:
    predictions = np.array([[1.0, 3.0], [np.nan, 3.0], [np.nan, np.nan]], dtype=np.float32)
    found = floors(predictions, [3.0, 1.0])
    np.testing.assert_allclose(found["mean"], [2, 3, np.nan])
    np.testing.assert_allclose(found["weighted_mean"], [1.5, 3, np.nan])
    assert floor_weights({"a": 0.4, "b": -0.2, "c": float("nan")}) == {"a": 0.4, "b": 0.0, "c": 0.0}
    assert floor_weights({"a": -0.4, "b": -0.2}) == {"a": 1.0, "b": 1.0}


def test_an_interval_with_only_weightless_modalities_present_is_their_mean() -> None:
    assert (
        floors(np.array([[np.nan, 3.0]], dtype=np.float32), [1.0, 0.0])["weighted_mean"][0] == 3.0
    )


def test_spearman_sees_ranks_and_ignores_unknown_frames() -> None:
    errors, residuals = [np.array([1.0, 2, 3, np.nan])], [np.array([-1.0, 4, -100, 0])]
    assert spearman(errors, residuals) == pytest.approx(1)
    assert np.isnan(spearman([np.ones(5)], [np.arange(5.0)]))


@pytest.fixture
def scales() -> dict[str, Normalisation]:
    values = np.random.default_rng(0).normal(0, 2, size=(500, 4)).astype(np.float32)
    return {
        "voice": Normalisation.fit(
            [values], difficulty_size=0, normalisation="train", difficulty_scale="log"
        )
    }


def test_noise_has_the_size_of_the_training_deviation_and_is_the_same_each_time(
    scales: dict[str, Normalisation],
) -> None:
    session = tiny_session("s", "p", "devel", frames=4000)
    spoil = corruption("voice=noise:1.5", scales)
    noise = spoil(session).features["voice"] - session.features["voice"]
    np.testing.assert_allclose(noise.std(axis=0), 1.5 * scales["voice"].std, rtol=0.05)
    np.testing.assert_array_equal(
        spoil(session).features["voice"], spoil(session).features["voice"]
    )
    np.testing.assert_array_equal(spoil(session).features["face"], session.features["face"])


def test_drop_freeze_and_shift_do_what_they_say(scales: dict[str, Normalisation]) -> None:
    session = tiny_session("s", "p", "devel", frames=10)
    voice = session.features["voice"]
    assert not corruption("voice=drop", scales)(session).present["voice"].any()
    frozen = corruption("voice=freeze", scales)(session).features["voice"]
    np.testing.assert_array_equal(frozen, np.repeat(voice[:1], 10, axis=0))
    late = corruption("voice=shift:3", scales)(session)
    np.testing.assert_array_equal(late.features["voice"][3:], voice[:-3])
    np.testing.assert_array_equal(late.present["voice"], [False] * 3 + [True] * 7)
    early = corruption("voice=shift:-2", scales)(session)
    np.testing.assert_array_equal(early.features["voice"][:-2], voice[2:])
    assert not corruption("voice=shift:99", scales)(session).present["voice"].any()


@pytest.mark.parametrize(
    "text",
    ["voice", "voice=", "voice=noise", "voice=noise:-1", "voice=shift:a", "voice=drop:1", "=drop"],
)
def test_an_unreadable_corruption_is_refused(scales: dict[str, Normalisation], text: str) -> None:
    with pytest.raises(InputError, match="write SET=noise:STD"):
        corruption(text, scales)
    with pytest.raises(InputError, match="the model reads voice"):
        corruption("smell=drop", scales)


def test_corruption_raises_difficulty_and_a_dropped_modality_leaves_a_score(
    model: FusedModel, corpus: Corpus
) -> None:
    scales = {name: stages[0].scale for name, stages in model.auto_encoders.items()}
    clean = evaluate(model, corpus)
    noisy = evaluate(model, corpus, corrupt=corruption("voice=noise:3", scales))
    hard = [
        np.concatenate([p.difficulty["voice"].error for p in found.predictions]).mean()
        for found in (clean, noisy)
    ]
    assert hard[1] > 2 * hard[0]
    dropped = evaluate(model, corpus, corrupt=corruption("voice=drop", scales)).to_json("m")
    assert dropped["targets"]["arousal"]["ccc"] is not None
    assert dropped["targets"]["arousal"]["unimodal"]["voice"] is None


def test_plots_are_pictures_and_the_card_says_what_matters(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    found = evaluate(model, corpus)
    pictures = plots(found)
    assert set(pictures) == {"traces.png", "difficulty.png", "ccc.png"}
    assert all(data.startswith(b"\x89PNG") and len(data) > 5000 for data in pictures.values())
    card = model_card(model, found, ["arousal: fusion is below the mean."])
    for needed in (
        "95% intervals",
        "bootstrap of subjects",
        "licence",
        "cross_fit",
        "fusion is below the mean",
        "weighted mean",
    ):
        assert needed in card


def test_differences_are_fusion_minus_the_other(model: FusedModel, corpus: Corpus) -> None:
    for found in evaluate(model, corpus).targets.values():
        for name, gap in found.differences.items():
            assert gap.ccc == pytest.approx(
                found.scores["fusion"].ccc - found.scores[name].ccc, abs=1e-12
            )


def test_a_fusion_below_a_floor_says_so(model: FusedModel, corpus: Corpus) -> None:
    found = evaluate(model, corpus)
    arousal = found.targets["arousal"]

    def with_fusion(value: float) -> list[str]:
        scores = {
            **arousal.scores,
            "fusion": Score(value, value, value),
            "mean": Score(0.5, 0.4, 0.6),
        }
        scores["weighted mean"] = Score(0.2, 0.1, 0.3)
        return lost_to_floors(replace(found, targets={"arousal": replace(arousal, scores=scores)}))

    assert with_fusion(0.51) == []
    assert with_fusion(0.4) == ["arousal: fusion (0.400) is below the mean (0.500)."]
    assert len(with_fusion(0.1)) == 2


def test_several_fold_models_count_by_their_mean(model: FusedModel, corpus: Corpus) -> None:
    devel = corpus.partition("devel")
    models = model.auto_encoders["voice"]
    assert (
        len(models)
        == len(model.regressors["arousal", "voice"])
        == len(model.fusions["arousal"])
        == 3
    )
    each = [reconstruction_errors([one], devel, "voice") for one in models]
    together = reconstruction_errors(models, devel, "voice")
    np.testing.assert_allclose(
        together[0], np.mean([errors[0] for errors in each], axis=0), rtol=1e-5
    )
    hard = {s.session_id: np.log1p(errors) for s, errors in zip(devel, together, strict=True)}
    opinions = [
        unimodal_predictions([one], devel, "voice", hard)[0]
        for one in model.regressors["arousal", "voice"]
    ]
    said = model.predict_sessions(devel)[0].unimodal["arousal"]["voice"]
    np.testing.assert_allclose(said, np.mean(opinions, axis=0)[:, 0], atol=1e-6)


def test_out_of_fold_scores_are_those_of_models_that_held_the_session_out(
    corpus: Corpus, tmp_path: Path
) -> None:
    pool = WorkerPool(corpus, StageStore(tmp_path))
    model = train(corpus, tiny_spec(), pool)
    plan = CrossFitPlan.of(corpus, tiny_spec())
    task_of = {stage.name: stage for stage in pool.trained}
    predicted, truth = [], []
    for fold in plan.folds:
        sessions = [corpus.session(name) for name in fold.held_out_ids]
        encoder, regressor = (
            task_of[f"auto-encoder face, {fold.name}"],
            task_of[f"face to valence, {fold.name}"],
        )
        errors = reconstruction_errors([encoder], sessions, "face")
        hard = {s.session_id: np.log1p(error) for s, error in zip(sessions, errors, strict=True)}
        predicted += unimodal_predictions([regressor], sessions, "face", hard)
        truth += [session.labels["valence"] for session in sessions]
    expected = audmetric.concordance_cc(np.concatenate(truth), np.concatenate(predicted)[:, 0])
    assert model.out_of_fold["valence"]["face"]["ccc"] == pytest.approx(expected, abs=1e-6)
    assert set(model.out_of_fold["valence"]) == {
        "fusion",
        "without difficulty",
        "mean",
        "weighted mean",
        "voice",
        "face",
    }


def test_a_model_says_of_devel_what_training_said(corpus: Corpus, tmp_path: Path) -> None:
    tasks: list[StageTask] = []

    class Recorder(WorkerPool):
        def solve(self, wanted: Sequence[StageTask]) -> list[TrainedStage]:
            tasks.extend(wanted)
            return super().solve(wanted)

    pool = Recorder(corpus, StageStore(tmp_path))
    model = train(corpus, tiny_spec(), pool)
    fusions = [
        task
        for task in tasks
        if task.stage == "fusion" and task.target == "arousal" and task.difficulty
    ]
    features, difficulty = fusions[0].features, fusions[0].difficulty
    assert features is not None
    assert difficulty is not None
    devel = corpus.partition("devel")
    for session, prediction in zip(devel, model.predict_sessions(devel), strict=True):
        opinions = features[session.session_id]
        for place, modality in enumerate(model.modalities):
            np.testing.assert_allclose(
                prediction.unimodal["arousal"][modality], opinions[:, place], atol=1e-6
            )
            hard = np.log1p(prediction.difficulty[modality].error)
            np.testing.assert_allclose(hard, difficulty[session.session_id][:, place], rtol=1e-5)
        weights = np.array(
            [model.floor_weights["arousal"][modality] for modality in model.modalities]
        )
        if weights.any():
            expected = opinions @ weights / weights.sum()
            np.testing.assert_allclose(
                prediction.floors["arousal"]["weighted_mean"], expected, atol=1e-6
            )
    solved = {stage.key: stage for stage in pool.trained}
    predicted, truth = [], []
    for task, fold in zip(fusions, CrossFitPlan.of(corpus, tiny_spec()).folds, strict=True):
        assert task.train_ids == fold.train_ids
        for name in fold.held_out_ids:
            inputs = np.concatenate([features[name], difficulty[name]], axis=1)
            predicted.append(solved[task.key].predict([inputs])[0][:, 0])
            truth.append(corpus.session(name).labels["arousal"])
    expected_ccc = audmetric.concordance_cc(np.concatenate(truth), np.concatenate(predicted))
    assert model.out_of_fold["arousal"]["fusion"]["ccc"] == pytest.approx(expected_ccc, abs=1e-6)


def test_sessions_of_one_name_do_not_share_anything(model: FusedModel) -> None:
    one, other = (
        tiny_session("same", "a", "devel", seed=1),
        tiny_session("same", "b", "devel", seed=2),
    )
    together = model.predict_sessions([one, other])
    for session, prediction in zip((one, other), together, strict=True):
        alone = model.predict(session.features).values["arousal"]
        np.testing.assert_allclose(prediction.values["arousal"], alone, atol=1e-6)


def test_a_subject_without_labels_is_not_drawn() -> None:
    known = [tiny_session(f"s{i}", f"p{i}", "devel", seed=i) for i in range(3)]
    unknown = [tiny_session(f"u{i}", f"q{i}", "devel", seed=i, labelled=False) for i in range(5)]
    series = [session.features["voice"][:, 0].astype(np.float64) for session in known + unknown]
    alone = bootstrap(subject_moments(known, "arousal", series[:3]))
    both = bootstrap(subject_moments([*known, *unknown], "arousal", series))
    np.testing.assert_allclose(
        [both.ccc, both.low, both.high], [alone.ccc, alone.low, alone.high], rtol=1e-9
    )
    assert np.isnan(bootstrap(subject_moments([known[0], unknown[0]], "arousal", series[:2])).low)


def test_differences_are_taken_on_frames_that_both_have(model: FusedModel, corpus: Corpus) -> None:
    scales = {name: stages[0].scale for name, stages in model.auto_encoders.items()}
    drop = corruption("voice=drop", scales)
    found = evaluate(
        model, corpus, corrupt=lambda s: drop(s) if s.session_id == "d0" else s
    ).targets["arousal"]
    rest = evaluate(model, corpus_of([s for s in corpus.sessions if s.session_id != "d0"])).targets[
        "arousal"
    ]
    assert found.differences["voice"].ccc == pytest.approx(rest.differences["voice"].ccc, abs=1e-6)


def test_noise_differs_between_sessions_and_sets(model: FusedModel) -> None:
    scales = {name: stages[0].scale for name, stages in model.auto_encoders.items()}
    one, other = tiny_session("a", "a", "devel", seed=1), tiny_session("b", "b", "devel", seed=1)

    def noise(session: Session, modality: str) -> np.ndarray:
        spoilt = corruption(f"{modality}=noise:1", scales)(session).features[modality]
        difference: np.ndarray = (spoilt - session.features[modality]) / scales[modality].std
        return difference[:, 0]

    assert abs(np.corrcoef(noise(one, "voice"), noise(other, "voice"))[0, 1]) < 0.6
    assert abs(np.corrcoef(noise(one, "voice"), noise(one, "face"))[0, 1]) < 0.6


def test_another_frame_rate_is_refused(model: FusedModel, corpus: Corpus) -> None:
    with pytest.raises(
        InputError, match="a frame every 250 ms; the model learned from one every 500 ms"
    ):
        evaluate(model, replace(corpus, frame_period_ms=250.0))
