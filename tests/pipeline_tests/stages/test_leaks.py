"""What would make an evaluation lie: nothing that a session's prediction must not know reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.fitting.trainer import fit
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.stage import StageTask, TrainedStage
from pipeline.stages.unimodal import unimodal_predictions, unimodal_task
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec


class Recorder(WorkerPool):
    """A Crew that keeps every task, and so what each stage was told of each session."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        super().__init__(corpus, StageStore(folder))
        self.tasks: list[StageTask] = []

    def solve(self, tasks: Sequence[StageTask]) -> list[TrainedStage]:
        self.tasks += tasks
        return super().solve(tasks)

    def fusion_inputs(
        self, session_id: str
    ) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Target -> the out-of-fold predictions and difficulties that fusion was trained on."""
        found = {}
        for task in self.tasks:
            if task.stage == "fusion" and task.difficulty is not None and task.features is not None:
                found[task.target] = (task.features[session_id], task.difficulty[session_id])
        return found


def _train(corpus: Corpus, folder: Path, spec: Spec | None = None) -> tuple[FusedModel, Recorder]:
    recorder = Recorder(corpus, folder)
    return train(corpus, spec or tiny_spec(), recorder), recorder


def _changed(corpus: Corpus, session_ids: set[str], **changes: Any) -> Corpus:
    return corpus_of(
        [replace(s, **changes) if s.session_id in session_ids else s for s in corpus.sessions]
    )


def _bytes(model: FusedModel) -> bytes:
    return model.files("")["weights.safetensors"]


@pytest.mark.parametrize("inference", ["refit", "fold_mean"])
def test_a_subjects_own_labels_change_nothing_of_its_out_of_fold_predictions_and_difficulty(
    tmp_path: Path, inference: str
) -> None:
    corpus, spec = tiny_corpus(), tiny_spec(inference=inference)
    mine = {session.session_id for session in corpus.sessions if session.subject == "t2"}
    sessions = [
        replace(s, labels={name: -3 * value + 1 for name, value in s.labels.items()})
        if s.session_id in mine
        else s
        for s in corpus.sessions
    ]
    _, before = _train(corpus, tmp_path / "a", spec)
    _, after = _train(corpus_of(sessions), tmp_path / "b", spec)
    for session_id in mine:
        for target in corpus.targets:
            for old, new in zip(
                before.fusion_inputs(session_id)[target],
                after.fusion_inputs(session_id)[target],
                strict=True,
            ):
                assert old.tobytes() == new.tobytes()
    # The change did reach the models of the others, so the test can fail.
    others = [s.session_id for s in corpus.partition("train") if s.session_id not in mine]
    assert any(
        before.fusion_inputs(name)["arousal"][0].tobytes()
        != after.fusion_inputs(name)["arousal"][0].tobytes()
        for name in others
    )


def test_in_sample_leaks_by_design_and_the_test_above_would_see_it(tmp_path: Path) -> None:
    corpus, spec = tiny_corpus(), tiny_spec(protocol="in_sample")
    sessions = [
        replace(s, labels={name: -3 * value + 1 for name, value in s.labels.items()})
        if s.subject == "t2"
        else s
        for s in corpus.sessions
    ]
    _, before = _train(corpus, tmp_path / "a", spec)
    _, after = _train(corpus_of(sessions), tmp_path / "b", spec)
    assert (
        before.fusion_inputs("t2_0")["arousal"][0].tobytes()
        != after.fusion_inputs("t2_0")["arousal"][0].tobytes()
    )


def test_nothing_in_test_changes_a_parameter(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    other = [s for s in corpus.sessions if s.partition != "test"]
    other += [
        tiny_session(f"y{number}", f"y{number}", "test", frames=50, seed=900 + number)
        for number in range(4)
    ]
    first, _ = _train(corpus, tmp_path / "a")
    second, recorder = _train(corpus_of(other), tmp_path / "b")
    assert _bytes(first) == _bytes(second)
    test_ids = {s.session_id for s in corpus_of(other).partition("test")}
    for task in recorder.tasks:
        assert not test_ids & {*task.train_ids, *task.devel_ids}
    third, again = _train(corpus_of(other), tmp_path / "a")
    assert _bytes(third) == _bytes(first)
    assert again.trained == []  # not even a key depends on test


def test_normalisation_sees_only_its_own_fold() -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    plan = CrossFitPlan.of(corpus, spec)
    fold = plan.folds[0]

    def wild(session: Session) -> Session:
        return replace(
            session,
            features={name: values * 1e3 + 1e4 for name, values in session.features.items()},
        )

    task = partial(
        unimodal_task,
        spec=spec,
        fold=fold,
        modality="voice",
        target="arousal",
        difficulty=None,
        upstream=(),
    )
    outside = corpus_of(
        [
            wild(s) if s.session_id in fold.held_out_ids or s.partition == "test" else s
            for s in corpus.sessions
        ]
    )
    clean, changed = fit(task(corpus), corpus), fit(task(outside), outside)
    assert clean.to_files()["weights.safetensors"] == changed.to_files()["weights.safetensors"]
    frames = np.concatenate([corpus.session(name).features["voice"] for name in fold.train_ids])
    np.testing.assert_allclose(clean.scale.mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(clean.scale.std, frames.std(axis=0), rtol=1e-5)
    inside = corpus_of([wild(s) if s.session_id in fold.train_ids else s for s in corpus.sessions])
    assert not np.allclose(fit(task(inside), inside).scale.mean, clean.scale.mean)


def test_folds_never_share_a_subject_and_hold_every_session_out_once() -> None:
    corpus = tiny_corpus(train_subjects=7)
    for folds in (2, 3, 7):
        plan = CrossFitPlan.of(corpus, tiny_spec(folds=folds))
        held_out = [name for fold in plan.folds for name in fold.held_out_ids]
        assert sorted(held_out) == [session.session_id for session in corpus.partition("train")]
        for fold in plan.folds:
            learned = {corpus.session(name).subject for name in fold.train_ids}
            assert not learned & {corpus.session(name).subject for name in fold.held_out_ids}


def test_more_folds_than_subjects_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"8 folds need at least 8 training subjects; the corpus has 6"
    ):
        CrossFitPlan.of(tiny_corpus(), tiny_spec(folds=8))


def test_in_sample_and_refit_differ_in_who_speaks_for_whom() -> None:
    corpus = tiny_corpus()
    in_sample = CrossFitPlan.of(corpus, tiny_spec(protocol="in_sample"))
    assert in_sample.folds[0].train_ids == in_sample.folds[0].held_out_ids
    refit = CrossFitPlan.of(corpus, tiny_spec(inference="refit"))
    assert len(refit.folds) == 4
    assert refit.for_others == (3,)
    assert len(refit.folds[3].train_ids) == 12
    assert CrossFitPlan.of(corpus, tiny_spec(inference="fold_mean")).for_others == (0, 1, 2)


def test_every_training_session_is_judged_by_models_that_never_saw_its_subject(
    tmp_path: Path,
) -> None:
    corpus = tiny_corpus()
    _, recorder = _train(corpus, tmp_path)
    solved = {stage.key: stage for stage in recorder.trained}
    for session in corpus.partition("train"):
        opinions, hard = recorder.fusion_inputs(session.session_id)["arousal"]
        for column, modality in enumerate(corpus.modalities):
            blind = {
                task.stage: task
                for task in recorder.tasks
                if task.modality == modality
                and task.target in ("", "arousal")
                and session.subject not in {corpus.session(name).subject for name in task.train_ids}
            }
            errors = reconstruction_errors(
                [solved[blind["auto_encoder"].key]], [session], modality
            )[0]
            np.testing.assert_allclose(hard[:, column], np.log1p(errors[:, 0]), rtol=1e-5)
            difficulty = {session.session_id: np.log1p(errors)}
            said = unimodal_predictions(
                [solved[blind["unimodal"].key]], [session], modality, difficulty
            )[0]
            np.testing.assert_allclose(opinions[:, column], said[:, 0], atol=1e-5)
