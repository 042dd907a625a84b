"""A corruption does to one modality what its text says, and to nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.model.fused_model import FusedModel
from pipeline.preprocessing.corruption import parse_corruption
from pipeline.preprocessing.normalisation import Normalisation
from tests.pipeline_tests.corpora import tiny_session

Normalisations = dict[str, Normalisation]


@pytest.fixture
def normalisations() -> Normalisations:
    """Return a normalisation of the voice, whose columns have a standard deviation of about 2."""
    values = np.random.default_rng(0).normal(0, 2, size=(500, 4)).astype(np.float32)
    voice = Normalisation.fit([values], difficulty_size=0, mode="train", difficulty_scale="log")

    return {"voice": voice}


def model_normalisations(model: FusedModel) -> Normalisations:
    """Return the normalisation of each modality that the model reads."""
    return {modality: stages[0].normalisation for modality, stages in model.auto_encoders.items()}


def test_noise_has_the_size_of_the_training_deviation_and_is_the_same_each_time(
    normalisations: Normalisations,
) -> None:
    """Noise of 1.5 has one and a half times the standard deviation of each column."""
    session = tiny_session("s", "p", "devel", frames=4000)
    corrupt = parse_corruption("voice=noise:1.5", normalisations)
    first, second = corrupt(session), corrupt(session)

    noise = first.features["voice"] - session.features["voice"]
    np.testing.assert_allclose(noise.std(axis=0), 1.5 * normalisations["voice"].std, rtol=0.05)
    np.testing.assert_array_equal(first.features["voice"], second.features["voice"])
    np.testing.assert_array_equal(first.features["face"], session.features["face"])


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


def test_a_dropped_modality_is_missing(normalisations: Normalisations) -> None:
    """A dropped modality is present at no frame."""
    session = tiny_session("s", "p", "devel", frames=10)

    assert not parse_corruption("voice=drop", normalisations)(session).present["voice"].any()


def test_a_frozen_modality_repeats_its_first_frame(normalisations: Normalisations) -> None:
    """Every frame is the first one."""
    session = tiny_session("s", "p", "devel", frames=10)
    voice = session.features["voice"]

    frozen = parse_corruption("voice=freeze", normalisations)(session)
    np.testing.assert_array_equal(frozen.features["voice"], np.repeat(voice[:1], 10, axis=0))


def test_a_shifted_modality_is_late_or_early(normalisations: Normalisations) -> None:
    """A positive number of frames delays; what leaves the session is missing."""
    session = tiny_session("s", "p", "devel", frames=10)
    voice = session.features["voice"]

    late = parse_corruption("voice=shift:3", normalisations)(session)
    np.testing.assert_array_equal(late.features["voice"][3:], voice[:-3])
    np.testing.assert_array_equal(late.present["voice"], [False] * 3 + [True] * 7)

    early = parse_corruption("voice=shift:-2", normalisations)(session)
    np.testing.assert_array_equal(early.features["voice"][:-2], voice[2:])

    outside = parse_corruption("voice=shift:99", normalisations)(session)
    assert not outside.present["voice"].any()


@pytest.mark.parametrize(
    "text",
    ["voice", "voice=", "voice=noise", "voice=noise:-1", "voice=shift:a", "voice=drop:1", "=drop"],
)
def test_an_unreadable_corruption_is_refused(normalisations: Normalisations, text: str) -> None:
    """The message names the forms that can be read."""
    with pytest.raises(InputError, match="write SET=noise:STD"):
        parse_corruption(text, normalisations)


def test_a_corruption_of_an_unknown_modality_is_refused(normalisations: Normalisations) -> None:
    """The message names the modalities that can be corrupted."""
    with pytest.raises(InputError, match="the model reads voice"):
        parse_corruption("smell=drop", normalisations)


def test_corruption_raises_difficulty_and_a_dropped_modality_leaves_a_score(
    model: FusedModel, corpus: Corpus
) -> None:
    """An auto-encoder cannot rebuild noise, and a fusion does without a modality."""
    normalisations = model_normalisations(model)

    def evaluate_corrupted(text: str) -> Evaluation:
        return evaluate(model, corpus, corrupt=parse_corruption(text, normalisations))

    clean, noisy = evaluate(model, corpus), evaluate_corrupted("voice=noise:3")
    assert mean_error(noisy, "voice") > 2 * mean_error(clean, "voice")

    dropped = evaluate_corrupted("voice=drop").to_json("m")
    assert dropped["targets"]["arousal"]["ccc"] is not None
    assert dropped["targets"]["arousal"]["unimodal"]["voice"] is None


def mean_error(evaluation: Evaluation, modality: str) -> float:
    """Return the mean reconstruction error of a modality over all frames."""
    errors = [prediction.difficulty[modality].error for prediction in evaluation.predictions]

    return float(np.concatenate(errors).mean())
