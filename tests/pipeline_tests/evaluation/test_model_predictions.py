"""A model predicts what its stages predict one by one, for devel and out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import audmetric
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import unimodal_predictions
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_session, tiny_spec


def log_difficulty(
    encoders: Sequence[TrainedStage], sessions: Sequence[Session], modality: str
) -> dict[str, NDArray[np.float32]]:
    """Return the difficulty columns of some sessions, by their ids."""
    errors = reconstruction_errors(encoders, sessions, modality)

    return {
        session.session_id: np.log1p(error) for session, error in zip(sessions, errors, strict=True)
    }


def test_several_fold_models_count_by_their_mean(model: FusedModel, corpus: Corpus) -> None:
    """Reconstruction errors and predictions are means over the fold models."""
    devel = corpus.partition("devel")
    encoders, regressors = model.auto_encoders["voice"], model.regressors["arousal", "voice"]
    assert len(encoders) == len(regressors) == len(model.fusions["arousal"]) == 3

    each = [reconstruction_errors([encoder], devel, "voice")[0] for encoder in encoders]
    together = reconstruction_errors(encoders, devel, "voice")[0]
    np.testing.assert_allclose(together, np.mean(each, axis=0), rtol=1e-5)

    difficulty = log_difficulty(encoders, devel, "voice")
    predictions = [
        unimodal_predictions([regressor], devel, "voice", difficulty)[0] for regressor in regressors
    ]
    of_model = model.predict_sessions(devel)[0].unimodal["arousal"]["voice"]
    np.testing.assert_allclose(of_model, np.mean(predictions, axis=0)[:, 0], atol=1e-6)


def test_out_of_fold_scores_are_those_of_models_that_held_the_session_out(
    corpus: Corpus, tmp_path: Path
) -> None:
    """The CCC is computed again, from the stages of each fold."""
    pool = WorkerPool(corpus, StageStore(tmp_path))
    model = train(corpus, tiny_spec(), pool)
    stages = {stage.name: stage for stage in pool.trained}

    predictions, labels = [], []
    for fold in CrossFitPlan.from_spec(corpus, tiny_spec()).folds:
        sessions = [corpus.session(session_id) for session_id in fold.held_out_ids]
        encoder = stages[f"auto-encoder face, {fold.name}"]
        regressor = stages[f"face to valence, {fold.name}"]
        difficulty = log_difficulty([encoder], sessions, "face")
        predictions += unimodal_predictions([regressor], sessions, "face", difficulty)
        labels += [session.labels["valence"] for session in sessions]

    expected = audmetric.concordance_cc(np.concatenate(labels), np.concatenate(predictions)[:, 0])
    out_of_fold = model.out_of_fold["valence"]
    assert out_of_fold["face"]["ccc"] == pytest.approx(expected, abs=1e-6)
    assert set(out_of_fold) == {
        "fusion",
        "without difficulty",
        "mean",
        "weighted mean",
        "time alone",
        "voice",
        "face",
    }


class Recorder(WorkerPool):
    """A pool that keeps the problems it was given."""

    problems: tuple[SupervisedProblem, ...] = ()

    def fit(self, problems: Sequence[SupervisedProblem]) -> list[TrainedStage]:
        """Keep the problems, and solve them."""
        self.problems = (*self.problems, *problems)
        return super().fit(problems)

    def fusions(self, target: str) -> list[SupervisedProblem]:
        """Return the fusions of a target that read difficulty, one per fold."""
        return [
            problem
            for problem in self.problems
            if problem.task == FusionTask(target=target) and problem.upstream_outputs.difficulty
        ]


def test_a_model_predicts_for_devel_what_the_fusions_were_trained_with(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Unimodal predictions, difficulty and floors of devel are those of training."""
    pool = Recorder(corpus, StageStore(tmp_path))
    model = train(corpus, tiny_spec(), pool)
    upstream = pool.fusions("arousal")[0].upstream_outputs
    assert upstream.predictions is not None
    assert upstream.difficulty is not None

    devel = corpus.partition("devel")
    weights = np.array([model.floor_weights["arousal"][modality] for modality in model.modalities])
    for session, prediction in zip(devel, model.predict_sessions(devel), strict=True):
        unimodal = upstream.predictions[session.session_id]
        difficulty = upstream.difficulty[session.session_id]
        for column, modality in enumerate(model.modalities):
            series = prediction.unimodal["arousal"][modality]
            np.testing.assert_allclose(series, unimodal[:, column], atol=1e-6)
            log_error = np.log1p(prediction.difficulty[modality].error)
            np.testing.assert_allclose(log_error, difficulty[:, column], rtol=1e-5)

        if weights.any():
            weighted_mean = prediction.floors["arousal"]["weighted_mean"]
            expected = unimodal @ weights / weights.sum()
            np.testing.assert_allclose(weighted_mean, expected, atol=1e-6)


def test_the_out_of_fold_score_of_a_fusion_is_that_of_its_folds(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Every fold's fusion is trained on the others, and predicts what it held out."""
    pool = Recorder(corpus, StageStore(tmp_path))
    model = train(corpus, tiny_spec(), pool)
    stages = {stage.key: stage for stage in pool.trained}
    folds = CrossFitPlan.from_spec(corpus, tiny_spec()).folds

    predictions, labels = [], []
    for problem, fold in zip(pool.fusions("arousal"), folds, strict=True):
        assert problem.train_ids == fold.train_ids
        for session_id in fold.held_out_ids:
            inputs = problem.raw_inputs(corpus.session(session_id))
            (prediction,) = stages[problem.key].predict([inputs])
            predictions.append(prediction[:, 0])
            labels.append(corpus.session(session_id).labels["arousal"])

    expected = audmetric.concordance_cc(np.concatenate(labels), np.concatenate(predictions))
    assert model.out_of_fold["arousal"]["fusion"]["ccc"] == pytest.approx(expected, abs=1e-6)


def test_sessions_of_one_name_share_nothing(model: FusedModel) -> None:
    """Two sessions with one id are predicted as if each were alone."""
    sessions = [
        tiny_session("same", "a", "devel", seed=1),
        tiny_session("same", "b", "devel", seed=2),
    ]

    for session, prediction in zip(sessions, model.predict_sessions(sessions), strict=True):
        alone = model.predict(session.features).values["arousal"]
        np.testing.assert_allclose(prediction.values["arousal"], alone, atol=1e-6)
