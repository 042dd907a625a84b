"""What a model makes of corrupted sessions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.evaluation.evaluate import Evaluation, evaluate, session_score_title
from pipeline.evaluation.model_card import model_card
from pipeline.evaluation.plots import plot_files
from pipeline.model.fused_model import FusedModel
from pipeline.preprocessing.corruption import parse_corruption
from pipeline.preprocessing.normalisation import Normalisation
from tests.pipeline_tests.corpora import tiny_session

Normalisations = dict[str, Normalisation]


def model_normalisations(model: FusedModel) -> Normalisations:
    """Return the normalisation of each modality that the model reads."""
    return {modality: stages[0].normalisation for modality, stages in model.auto_encoders.items()}


def test_noise_differs_between_sessions_and_modalities(model: FusedModel) -> None:
    """The same noise twice would let a model cancel it."""
    normalisations = model_normalisations(model)
    one = tiny_session("a", "a", "devel", seed=1)
    other = tiny_session("b", "b", "devel", seed=1)

    def noise(session: Session, modality: str) -> NDArray[np.float64]:
        corrupted = parse_corruption(f"{modality}=noise:1", normalisations)(session)
        difference = corrupted.features[modality] - session.features[modality]
        scaled: NDArray[np.float64] = difference / normalisations[modality].std
        return scaled[:, 0]

    assert abs(np.corrcoef(noise(one, "voice"), noise(other, "voice"))[0, 1]) < 0.6
    assert abs(np.corrcoef(noise(one, "voice"), noise(one, "face"))[0, 1]) < 0.6


def test_corruption_raises_difficulty_and_a_dropped_modality_leaves_a_score(
    model: FusedModel, corpus: Corpus
) -> None:
    """An auto-encoder cannot rebuild noise, and a fusion does without a modality."""
    normalisations = model_normalisations(model)

    def evaluate_corrupted(text: str) -> Evaluation:
        return evaluate(model, corpus, corrupt=parse_corruption(text, normalisations))

    clean, noisy = evaluate(model, corpus), evaluate_corrupted("voice=noise:3")
    assert clean.data == "devel"
    assert noisy.data == "devel corrupted by voice=noise:3"
    assert "arousal on devel corrupted by voice=noise:3" in session_score_title(noisy, "arousal")
    assert "## CCC on devel corrupted by voice=noise:3" in model_card(model, noisy, [])
    assert plot_files(noisy.corruptions)[0] == "traces-voice-noise-3.png"
    assert mean_error(noisy, "voice") > 2 * mean_error(clean, "voice")

    dropped = evaluate_corrupted("voice=drop").to_json("m")
    assert dropped["targets"]["arousal"]["ccc"] is not None
    assert dropped["targets"]["arousal"]["unimodal"]["voice"] is None


def test_a_frozen_modality_is_missing_to_the_model(model: FusedModel, corpus: Corpus) -> None:
    """The model's own limits say so, whatever was done when the corpus was read."""
    normalisations = model_normalisations(model)

    def scores(model: FusedModel, corpus: Corpus, text: str) -> object:
        corrupt = parse_corruption(text, normalisations)
        return evaluate(model, corpus, corrupt=corrupt).to_json("m")["targets"]

    without_limits = replace(model, max_held_frames={})
    dropped = scores(model, corpus, "voice=drop")
    assert scores(model, corpus, "voice=freeze") == dropped
    assert scores(model, replace(corpus, max_held_frames={}), "voice=freeze") == dropped
    assert scores(without_limits, corpus, "voice=freeze") != dropped


def test_a_modality_that_freezes_in_mid_session_is_missing_from_then_on(
    model: FusedModel, corpus: Corpus
) -> None:
    """What came before is predicted as ever, and other modalities are as they were."""

    def freeze_from_12(session: Session) -> Session:
        voice = session.features["voice"].copy()
        voice[12:] = voice[12]
        return replace(session, features={**session.features, "voice": voice})

    for prediction in evaluate(model, corpus, corrupt=freeze_from_12).predictions:
        is_missing = np.isnan(prediction.difficulty["voice"].error)
        assert is_missing.tolist() == [False] * 13 + [True] * 17
        assert np.isfinite(prediction.difficulty["face"].error).all()
        assert np.isfinite(prediction.values["arousal"]).all()


def mean_error(evaluation: Evaluation, modality: str) -> float:
    """Return the mean reconstruction error of a modality over all frames."""
    errors = [prediction.difficulty[modality].error for prediction in evaluation.predictions]

    return float(np.concatenate(errors).mean())
