"""An evaluation against audmetric, and against what it must refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import audmetric
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import evaluate
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.preprocessing.corruption import parse_corruption
from pipeline.stages.difficulty import spearman
from pipeline.stages.fusion import floor_weights, floors
from tests.pipeline_tests.corpora import band_calibration, corpus_of, tiny_session

Series = Callable[[Prediction], NDArray[np.float64]]


def pooled_ccc(
    sessions: Sequence[Session], predictions: Sequence[Prediction], target: str, series: Series
) -> float:
    """Return audmetric's CCC of one series of every prediction, over all frames."""
    truth = np.concatenate([session.labels[target] for session in sessions])
    predicted = np.concatenate([series(prediction) for prediction in predictions])

    return float(audmetric.concordance_cc(truth, predicted))


@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_every_score_is_audmetrics_of_the_predictions(
    model: FusedModel, corpus: Corpus, target: str
) -> None:
    """Fusion, floors and modalities are compared with an independent CCC."""
    devel = corpus.partition("devel")
    predictions = model.predict_sessions(devel)
    scores = evaluate(model, corpus, "devel").to_json("m")["targets"][target]

    def expected(series: Series) -> object:
        return pytest.approx(pooled_ccc(devel, predictions, target, series), abs=1e-9)

    assert scores["ccc"] == expected(lambda p: p.values[target])
    assert scores["floors"]["mean"] == expected(lambda p: p.floors[target]["mean"])
    assert scores["floors"]["weighted_mean"] == expected(
        lambda p: p.floors[target]["weighted_mean"]
    )
    assert scores["unimodal"]["face"] == expected(lambda p: p.unimodal[target]["face"])
    assert scores["without_difficulty"] == expected(lambda p: p.without_difficulty[target])

    face_weight = model.floor_weights[target]["face"]
    assert face_weight == pytest.approx(max(scores["unimodal"]["face"], 0), abs=1e-6)
    assert scores["ccc_low"] <= scores["ccc"] <= scores["ccc_high"]


@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_the_sessions_are_counted_and_their_mean_is_audmetrics(
    model: FusedModel, corpus: Corpus, target: str
) -> None:
    """The mean of the sessions is that of one independent CCC per session."""
    devel = corpus.partition("devel")
    scores = evaluate(model, corpus, "devel").to_json("m")["targets"][target]
    coefficients = [
        audmetric.concordance_cc(session.labels[target], prediction.values[target])
        for session, prediction in zip(devel, model.predict_sessions(devel), strict=True)
    ]

    assert scores["session_mean_ccc"] == pytest.approx(np.mean(coefficients), abs=1e-9)
    assert (scores["frames"], scores["sessions"], scores["subjects"]) == (90, 3, 3)


def test_floors_of_labels_alone_are_scored_where_the_model_and_the_sessions_have_them(
    model: FusedModel, corpus: Corpus
) -> None:
    """They are means of training labels, taken here from a table by time."""
    learned, devel = corpus.partition("train"), corpus.partition("devel")
    longest = max(session.num_frames for session in (*learned, *devel))
    table = np.full((len(learned), longest), np.nan)
    for row, session in zip(table, learned, strict=True):
        row[: session.num_frames] = session.labels["arousal"]
    track = pd.Series(np.nanmean(table[:, : max(s.num_frames for s in learned)], axis=0))
    guess = track.reindex(range(longest)).ffill().to_numpy(np.float64)
    expected = pooled_ccc(
        devel,
        model.predict_sessions(devel),
        "arousal",
        lambda prediction: guess[: len(prediction.timestamps_ms)],
    )

    scores = evaluate(model, corpus).to_json("m")["targets"]["arousal"]
    assert scores["floors"]["time"] == pytest.approx(expected, abs=1e-9)
    assert scores["predictions"]["time alone"]["ccc"] == scores["floors"]["time"]
    assert "stimulus" not in scores["floors"]

    old = replace(model, label_floors=None)
    assert set(evaluate(old, corpus).to_json("m")["targets"]["arousal"]["floors"]) == {
        "mean",
        "weighted_mean",
    }


def test_parts_are_those_of_the_fusion_and_the_pooled_ccc_lies_between(
    model: FusedModel, corpus: Corpus
) -> None:
    """Each prediction has both, with intervals; the fusion's stand at the top."""
    scores = evaluate(model, corpus).to_json("m")["targets"]["valence"]
    for name, record in scores["predictions"].items():
        low, high = sorted((record["between_ccc"], record["within_ccc"]))
        assert low - 1e-9 <= record["ccc"] <= high + 1e-9, name
    assert scores["predictions"]["fusion"]["within_ccc"] == scores["within_ccc"]
    assert 0 <= scores["label_variance_between_sessions"] <= 1


def test_the_json_has_the_fixed_keys(model: FusedModel, corpus: Corpus) -> None:
    """What reads the JSON relies on its keys; NaN is no JSON."""
    record = json.loads(json.dumps(evaluate(model, corpus).to_json("m"), allow_nan=False))

    assert set(record) == {"model", "partition", "targets"}
    assert set(record["targets"]["arousal"]) == {
        "ccc",
        "ccc_low",
        "ccc_high",
        "between_ccc",
        "between_ccc_low",
        "between_ccc_high",
        "within_ccc",
        "within_ccc_low",
        "within_ccc_high",
        "label_variance_between_sessions",
        "session_mean_ccc",
        "undefined_sessions",
        "frames",
        "sessions",
        "subjects",
        "floors",
        "unimodal",
        "without_difficulty",
        "predictions",
        "bands",
        "mean_weights",
    }
    assert record["targets"]["arousal"]["bands"] is None


@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_mean_weights_are_those_of_the_labelled_frames_and_sum_to_one(
    model: FusedModel, corpus: Corpus, target: str
) -> None:
    """The first session has no label in its first half; that half does not count."""
    first, *others = corpus.partition("devel")
    is_unknown = np.arange(first.num_frames) < 15
    labels = {name: np.where(is_unknown, np.nan, each) for name, each in first.labels.items()}
    sessions = [replace(first, labels=labels), *others]
    weights = [prediction.weights[target] for prediction in model.predict_sessions(sessions)]

    means = evaluate(model, corpus_of(sessions)).to_json("m")["targets"][target]["mean_weights"]
    assert list(means) == ["voice", "face"]
    assert sum(means.values()) == pytest.approx(1, abs=1e-6)
    for modality, mean in means.items():
        counted = [weights[0][modality][15:], *(each[modality] for each in weights[1:])]
        assert mean == pytest.approx(np.concatenate(counted).mean())


def test_mean_weights_are_null_without_a_gate_or_without_any_modality(
    model: FusedModel, gateless_model: FusedModel, corpus: Corpus
) -> None:
    """NaN is no JSON."""
    without_gate = evaluate(gateless_model, corpus).to_json("m")["targets"]["arousal"]
    assert without_gate["mean_weights"] is None

    def drop_all(session: Session) -> Session:
        absent = {name: np.zeros_like(present) for name, present in session.present.items()}
        return replace(session, present=absent)

    nothing = evaluate(model, corpus, corrupt=drop_all).to_json("m")["targets"]["arousal"]
    assert nothing["mean_weights"] == {"voice": None, "face": None}


def test_constant_and_unknown_labels_are_counted_not_hidden(model: FusedModel) -> None:
    """A constant label leaves no CCC of its session; unknown labels leave no frame."""
    constant = tiny_session("c", "c", "devel", seed=7)
    valence = constant.labels["valence"]
    constant = replace(constant, labels={"arousal": np.full(30, 0.3), "valence": valence})

    half = tiny_session("h", "h", "devel", seed=8)
    is_unknown = np.arange(30) < 10
    labels = {target: np.where(is_unknown, np.nan, each) for target, each in half.labels.items()}
    half = replace(half, labels=labels)

    unknown = tiny_session("u", "u", "devel", seed=9, labelled=False)
    targets = evaluate(model, corpus_of([constant, half, unknown])).targets

    arousal = targets["arousal"]
    assert arousal.sessions == 2
    assert arousal.frames == 50
    assert np.isfinite(arousal.scores["fusion"].ccc)
    assert arousal.undefined_sessions == 1
    assert arousal.session_mean_ccc == arousal.session_ccc["h"]
    assert targets["valence"].undefined_sessions == 0


def test_differences_are_fusion_minus_the_other(model: FusedModel, corpus: Corpus) -> None:
    """Where all predictions have all frames, a difference is that of the scores."""
    for evaluated in evaluate(model, corpus).targets.values():
        fusion_ccc = evaluated.scores["fusion"].ccc
        for name, difference in evaluated.differences.items():
            gap = fusion_ccc - evaluated.scores[name].ccc
            assert difference.ccc == pytest.approx(gap, abs=1e-12)


def test_differences_are_taken_on_frames_that_both_have(model: FusedModel, corpus: Corpus) -> None:
    """A session without the voice counts in no difference to the voice."""
    normalisations = {name: stages[0].normalisation for name, stages in model.auto_encoders.items()}
    drop = parse_corruption("voice=drop", normalisations)

    def drop_first(session: Session) -> Session:
        return drop(session) if session.session_id == "d0" else session

    others = [session for session in corpus.sessions if session.session_id != "d0"]
    with_drop = evaluate(model, corpus, corrupt=drop_first).targets["arousal"]
    without = evaluate(model, corpus_of(others)).targets["arousal"]
    expected = without.differences["voice"].ccc
    assert with_drop.differences["voice"].ccc == pytest.approx(expected, abs=1e-6)


def test_test_labels_that_are_withheld_are_an_error_that_names_predict(
    model: FusedModel, corpus: Corpus
) -> None:
    """The test partition of a challenge has no labels."""
    with pytest.raises(InputError, match=r"no test session has labels.*predict"):
        evaluate(model, corpus, "test")


def test_other_columns_are_refused(model: FusedModel, corpus: Corpus) -> None:
    """A modality that is missing, or has other columns, is named."""

    def evaluate_with(columns: dict[str, tuple[str, ...]]) -> None:
        evaluate(model, replace(corpus, columns=columns))

    voice = {"voice": corpus.columns["voice"]}
    with pytest.raises(InputError, match="'face', which corpus 'tiny' does not have"):
        evaluate_with(voice)
    with pytest.raises(InputError, match="'face' has 2 columns"):
        evaluate_with({**voice, "face": ("a", "b")})

    message = "'face' in corpus 'tiny': column 'face_0' is missing; column 'b' is unknown"
    with pytest.raises(InputError, match=message):
        evaluate_with({**voice, "face": ("b", "face_1", "face_2")})


def test_another_frame_rate_is_refused(model: FusedModel, corpus: Corpus) -> None:
    """A network learned how much happens between two frames."""
    message = "a frame every 250 ms; the model learned from one every 500 ms"
    with pytest.raises(InputError, match=message):
        evaluate(model, replace(corpus, frame_period_ms=250.0))


def test_floors_leave_out_missing_modalities_and_weigh_the_others() -> None:
    """A modality without a positive CCC has no weight, unless none has one."""
    predictions = np.array([[1.0, 3.0], [np.nan, 3.0], [np.nan, np.nan]], dtype=np.float32)
    series = floors(predictions, [3.0, 1.0])

    np.testing.assert_allclose(series["mean"], [2, 3, np.nan])
    np.testing.assert_allclose(series["weighted_mean"], [1.5, 3, np.nan])
    assert floor_weights({"a": 0.4, "b": -0.2, "c": float("nan")}) == {"a": 0.4, "b": 0.0, "c": 0.0}
    assert floor_weights({"a": -0.4, "b": -0.2}) == {"a": 1.0, "b": 1.0}


def test_with_only_weightless_modalities_present_the_floor_is_their_mean() -> None:
    """A weighted mean needs a weight."""
    predictions = np.array([[np.nan, 3.0]], dtype=np.float32)

    assert floors(predictions, [1.0, 0.0])["weighted_mean"][0] == 3.0


def test_spearman_compares_ranks_and_ignores_unknown_frames() -> None:
    """A monotonic relation has rank correlation 1; a constant series has none."""
    errors, residuals = [np.array([1.0, 2, 3, np.nan])], [np.array([-1.0, 4, -100, 0])]

    assert spearman(errors, residuals) == pytest.approx(1)
    assert np.isnan(spearman([np.ones(5)], [np.arange(5.0)]))


def test_the_bands_of_a_model_are_evaluated_with_its_scores(
    model: FusedModel, corpus: Corpus
) -> None:
    """Coverage and widths are those of the bands that the model predicts."""
    banded = replace(model, bands={"arousal": band_calibration()})
    devel = corpus.partition("devel")
    bands = [prediction.bands["arousal"] for prediction in banded.predict_sessions(devel)]
    low, high = (np.concatenate([getattr(band, end) for band in bands]) for end in ("low", "high"))
    labels = np.concatenate([session.labels["arousal"] for session in devel])
    scores = evaluate(banded, corpus).to_json("m")["targets"]

    assert scores["valence"]["bands"] is None
    record = scores["arousal"]["bands"]
    assert record["level"] == 0.9
    assert record["coverage"] == pytest.approx(np.mean((low <= labels) & (labels <= high)))
    assert record["mean_width"] == pytest.approx(np.mean(high - low))
    assert set(record["persons"]) == {"d0", "d1", "d2"}
