"""Nothing that a session's prediction must not know reaches it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.fitting.trainer import fit
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import UnimodalTask, unimodal_predictions
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec
from tests.pipeline_tests.problems import pose


class Recorder(WorkerPool):
    """A pool that keeps every problem, and so what each stage read of each session."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        super().__init__(corpus, StageStore(folder))
        self.problems: list[SupervisedProblem] = []

    def fit(self, problems: Sequence[SupervisedProblem]) -> list[TrainedStage]:
        self.problems += problems
        return super().fit(problems)

    def fusion_inputs(
        self, session_id: str
    ) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return for each target the predictions and difficulties that fusion was trained on."""
        inputs = {}
        for problem in self.problems:
            predictions, difficulty = (
                problem.upstream_outputs.predictions,
                problem.upstream_outputs.difficulty,
            )
            if predictions is not None and difficulty is not None:
                target = problem.task.target
                inputs[target] = (predictions[session_id], difficulty[session_id])
        return inputs

    def blind_problem(self, stage: str, modality: str, subject: str) -> SupervisedProblem:
        """Return the one problem of a stage, towards arousal, that did not learn from a subject."""
        for problem in self.problems:
            task = problem.task
            subjects = {self.corpus.session(name).subject for name in problem.train_ids}
            is_same = (task.stage, task.modality) == (stage, modality)
            if is_same and task.target in ("", "arousal") and subject not in subjects:
                return problem

        raise AssertionError(f"no {stage} of {modality} held {subject} out")


def _train(corpus: Corpus, folder: Path, spec: Spec | None = None) -> tuple[FusedModel, Recorder]:
    recorder = Recorder(corpus, folder)
    return train(corpus, spec or tiny_spec(), recorder), recorder


def _changed(
    corpus: Corpus, change: Callable[[Session], Session], session_ids: Collection[str]
) -> Corpus:
    """Return the corpus with some sessions changed."""
    return corpus_of(
        [
            change(session) if session.session_id in session_ids else session
            for session in corpus.sessions
        ]
    )


def _with_other_labels(session: Session) -> Session:
    labels = {target: -3 * values + 1 for target, values in session.labels.items()}
    return replace(session, labels=labels)


def _with_other_features(session: Session) -> Session:
    features = {name: values * 1e3 + 1e4 for name, values in session.features.items()}
    return replace(session, features=features)


def _input_bytes(recorder: Recorder, session_id: str, target: str) -> tuple[bytes, bytes]:
    """Return the predictions and difficulties of a session that fusion was trained on."""
    predictions, difficulty = recorder.fusion_inputs(session_id)[target]
    return predictions.tobytes(), difficulty.tobytes()


def _weights(model: FusedModel) -> bytes:
    return bundle_files(model)["weights.safetensors"]


@pytest.mark.parametrize("inference", ["refit", "fold_mean"])
def test_the_labels_of_a_subject_change_none_of_its_out_of_fold_predictions_and_difficulties(
    tmp_path: Path, inference: str
) -> None:
    corpus, spec = tiny_corpus(), tiny_spec(inference=inference)
    train_sessions = corpus.partition("train")
    same_subject = {s.session_id for s in train_sessions if s.subject == "t2"}
    others = {s.session_id for s in train_sessions} - same_subject
    relabelled = _changed(corpus, _with_other_labels, same_subject)

    _, before = _train(corpus, tmp_path / "a", spec)
    _, after = _train(relabelled, tmp_path / "b", spec)
    for session_id in same_subject:
        for target in corpus.targets:
            expected = _input_bytes(before, session_id, target)
            assert _input_bytes(after, session_id, target) == expected

    # The change did reach what the others get, so the test can fail.
    assert any(
        _input_bytes(before, session_id, "arousal")[0]
        != _input_bytes(after, session_id, "arousal")[0]
        for session_id in others
    )


def test_in_sample_leaks_by_design_which_the_test_above_would_notice(tmp_path: Path) -> None:
    corpus, spec = tiny_corpus(), tiny_spec(protocol="in_sample")
    same_subject = {s.session_id for s in corpus.sessions if s.subject == "t2"}
    relabelled = _changed(corpus, _with_other_labels, same_subject)

    _, before = _train(corpus, tmp_path / "a", spec)
    _, after = _train(relabelled, tmp_path / "b", spec)
    predictions, _ = _input_bytes(before, "t2_0", "arousal")
    assert _input_bytes(after, "t2_0", "arousal")[0] != predictions


def test_nothing_in_test_changes_a_parameter(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    labelled = [session for session in corpus.sessions if session.partition != "test"]
    other_test = [
        tiny_session(f"y{number}", f"y{number}", "test", frames=50, seed=900 + number)
        for number in range(4)
    ]
    other_corpus = corpus_of([*labelled, *other_test])

    model, _ = _train(corpus, tmp_path / "a")
    other_model, recorder = _train(other_corpus, tmp_path / "b")
    assert _weights(model) == _weights(other_model)
    test_ids = {session.session_id for session in other_test}
    for problem in recorder.problems:
        assert not test_ids & {*problem.train_ids, *problem.devel_ids}

    from_store, recorder = _train(other_corpus, tmp_path / "a")
    assert _weights(from_store) == _weights(model)
    assert recorder.trained == []  # not even a key depends on test


def test_normalisation_sees_only_the_training_frames_of_its_fold() -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    fold = CrossFitPlan.from_spec(corpus, spec).folds[0]

    def fitted(corpus: Corpus) -> TrainedStage:
        return fit(pose(UnimodalTask("voice", "arousal"), corpus, spec, fold), corpus)

    test_ids = [session.session_id for session in corpus.partition("test")]
    outside = _changed(corpus, _with_other_features, [*fold.held_out_ids, *test_ids])
    clean, changed = fitted(corpus), fitted(outside)
    assert clean.to_files()["weights.safetensors"] == changed.to_files()["weights.safetensors"]

    frames = np.concatenate([corpus.session(name).features["voice"] for name in fold.train_ids])
    np.testing.assert_allclose(clean.normalisation.mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(clean.normalisation.std, frames.std(axis=0), rtol=1e-5)

    inside = _changed(corpus, _with_other_features, fold.train_ids)
    assert not np.allclose(fitted(inside).normalisation.mean, clean.normalisation.mean)


def test_folds_never_share_a_subject_and_hold_every_session_out_once() -> None:
    corpus = tiny_corpus(train_subjects=7)
    train_ids = [session.session_id for session in corpus.partition("train")]

    for folds in (2, 3, 7):
        plan = CrossFitPlan.from_spec(corpus, tiny_spec(folds=folds))
        held_out = [name for fold in plan.folds for name in fold.held_out_ids]
        assert sorted(held_out) == train_ids
        for fold in plan.folds:
            subjects = {corpus.session(name).subject for name in fold.train_ids}
            assert not subjects & {corpus.session(name).subject for name in fold.held_out_ids}


def test_more_folds_than_subjects_are_refused() -> None:
    message = r"8 folds need at least 8 training subjects; the corpus has 6"
    with pytest.raises(InputError, match=message):
        CrossFitPlan.from_spec(tiny_corpus(), tiny_spec(folds=8))


def test_the_plan_names_the_folds_that_predict_new_sessions() -> None:
    corpus = tiny_corpus()
    in_sample = CrossFitPlan.from_spec(corpus, tiny_spec(protocol="in_sample"))
    assert in_sample.folds[0].train_ids == in_sample.folds[0].held_out_ids

    refit = CrossFitPlan.from_spec(corpus, tiny_spec(inference="refit"))
    assert len(refit.folds) == 4
    assert refit.inference_folds == (3,)
    assert len(refit.folds[3].train_ids) == 12

    fold_mean = CrossFitPlan.from_spec(corpus, tiny_spec(inference="fold_mean"))
    assert fold_mean.inference_folds == (0, 1, 2)


def test_every_training_session_is_predicted_by_models_that_never_saw_its_subject(
    tmp_path: Path,
) -> None:
    corpus = tiny_corpus()
    _, recorder = _train(corpus, tmp_path)
    solutions = {stage.key: stage for stage in recorder.trained}

    for session in corpus.partition("train"):
        predictions, difficulty = recorder.fusion_inputs(session.session_id)["arousal"]
        for column, modality in enumerate(corpus.modalities):
            encoder, regressor = (
                solutions[recorder.blind_problem(stage, modality, session.subject).key]
                for stage in ("auto_encoder", "unimodal")
            )

            errors = reconstruction_errors([encoder], [session], modality)[0]
            np.testing.assert_allclose(difficulty[:, column], np.log1p(errors[:, 0]), rtol=1e-5)

            log_errors = {session.session_id: np.log1p(errors)}
            alone = unimodal_predictions([regressor], [session], modality, log_errors)[0]
            np.testing.assert_allclose(predictions[:, column], alone[:, 0], atol=1e-5)
