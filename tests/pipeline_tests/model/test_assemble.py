"""Putting a model together: bands and corrections learn from training people alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.corpus import Corpus, Session
from pipeline.model.assemble import TargetEnsembles, assemble_model
from pipeline.model.fused_model import FusedModel
from pipeline.stages.ensemble import Ensemble
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec

MODALITIES = ("voice", "face")


def series_of(session: Session, seed: int, noise: float) -> np.ndarray:
    """Return half of the arousal, with noise, as an ensemble outputs it."""
    frames = session.num_frames
    random = np.random.default_rng([seed, *session.session_id.encode()])
    arousal = np.sin(np.arange(frames) / 3 + random.uniform(0, 6))
    return (0.5 * arousal + noise * random.normal(size=frames)).astype(np.float32)[:, None]


def labelled_like_predictions(corpus: Corpus) -> Corpus:
    """Return the corpus with labels that `series_of` follows."""
    sessions = [
        replace(
            session,
            labels={"arousal": 2.0 * series_of(session, 0, 0.0)[:, 0].astype(np.float64)},
        )
        for session in corpus.sessions
    ]
    return replace(corpus, sessions=tuple(sessions), targets=("arousal",))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a corpus of enough people for bands."""
    return labelled_like_predictions(tiny_corpus(train_subjects=15))


def ensembles_of(corpus: Corpus) -> dict[str, TargetEnsembles]:
    """Return ensembles without models that output half of the label, with noise."""
    read = [*corpus.partition("train"), *corpus.partition("devel")]

    def ensemble(noise: float) -> Ensemble:
        outputs = {session.session_id: series_of(session, 0, noise) for session in read}
        return Ensemble(((str(noise),),), (), outputs, lambda kind: outputs)

    errors = {
        session.session_id: np.random.default_rng(session.num_frames)
        .exponential(size=(session.num_frames, 1))
        .astype(np.float32)
        for session in read
    }
    encoder = Ensemble(keys=(("encoder",),), models=(), outputs=errors, copies=lambda kind: errors)
    return {
        "arousal": TargetEnsembles(
            auto_encoders=dict.fromkeys(MODALITIES, encoder),
            regressors={modality: ensemble(0.1 * n) for n, modality in enumerate(MODALITIES, 2)},
            fusion=ensemble(0.1),
            without_difficulty=ensemble(0.15),
        )
    }


def assembled(corpus: Corpus, **settings: object) -> FusedModel:
    """Return the model that is put together of the ensembles' outputs."""
    return assemble_model(corpus, tiny_spec(**settings), ensembles_of(corpus))


def test_devel_and_test_labels_change_neither_bands_nor_corrections(corpus: Corpus) -> None:
    others = [
        session
        if session.partition == "train"
        else replace(session, labels={"arousal": -7 * session.labels["arousal"]})
        for session in corpus.sessions
    ]
    model = assembled(corpus, calibration="linear")
    changed = assembled(replace(corpus, sessions=tuple(others)), calibration="linear")

    assert changed.bands == model.bands
    assert changed.corrections == model.corrections
    assert model.bands["arousal"].people == 15


def test_the_correction_is_learned_for_each_variant_and_raises_its_score_out_of_fold(
    corpus: Corpus,
) -> None:
    """Predictions of half the label's size need twice the scale, a little less with noise."""
    plain = assembled(corpus)
    corrected = assembled(corpus, calibration="linear")

    assert plain.corrections == {}
    assert corrected.corrections["arousal"]["fusion"].scale == pytest.approx(2.0, abs=0.2)
    for name, score in plain.out_of_fold["arousal"].items():
        after = corrected.out_of_fold["arousal"][name]
        if name in corrected.corrections["arousal"]:
            assert (after["ccc"] or 0) > (score["ccc"] or 0) + 0.1
        else:
            assert after == score


def test_bands_are_calibrated_on_corrected_predictions(corpus: Corpus) -> None:
    plain = assembled(corpus).bands["arousal"]
    corrected = assembled(corpus, calibration="linear").bands["arousal"]

    assert corrected.constant_half_width < 0.8 * plain.constant_half_width


def test_in_sample_there_are_no_bands(corpus: Corpus) -> None:
    assert assembled(corpus, protocol="in_sample").bands == {}


def test_too_few_training_people_leave_a_model_without_bands() -> None:
    assert assembled(labelled_like_predictions(tiny_corpus(train_subjects=9))).bands == {}
