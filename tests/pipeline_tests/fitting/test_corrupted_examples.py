"""What a fusion learns from: sessions as they are, and copies in which a modality is spoilt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.fitting.corrupted_examples import CorruptedExamples
from pipeline.fitting.examples import ExampleScaling
from pipeline.spec import CorruptionKind, Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import Columns
from pipeline.stages.upstream import StageOutputs, join_upstream
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec

NUM_MODALITIES = 2


def _random_outputs(corpus: Corpus, seed: int) -> Columns:
    random = np.random.default_rng(seed)
    return {
        session.session_id: random.normal(size=(session.num_frames, 1)).astype(np.float32)
        for session in corpus.sessions
    }


def _stage(corpus: Corpus, seed: int) -> StageOutputs:
    kinds: tuple[CorruptionKind, ...] = ("freeze", "noise", "shift")
    copies: Mapping[CorruptionKind, Columns] = {
        kind: _random_outputs(corpus, seed + place + 1) for place, kind in enumerate(kinds)
    }
    return StageOutputs(_random_outputs(corpus, seed), copies)


def _problem(corpus: Corpus, spec: Spec) -> SupervisedProblem:
    upstream = join_upstream(
        corpus,
        "raw",
        auto_encoders={"voice": _stage(corpus, 10), "face": _stage(corpus, 20)},
        regressors={"voice": _stage(corpus, 30), "face": _stage(corpus, 40)},
        copy_kinds=spec.fusion.corruption.kind_names,
    )
    fold = CrossFitPlan.from_spec(corpus, spec).folds[0]
    return FusionTask(target="arousal").problem(corpus, spec, fold, "key", upstream)


def _examples(share: float, kinds: tuple[str, ...] = ("drop", "noise")) -> CorruptedExamples:
    corpus = tiny_corpus()
    spec = tiny_spec(fusion={"corruption": {"share": share, "kinds": kinds}})
    problem = _problem(corpus, spec)
    scaling = ExampleScaling.fit(problem, corpus)
    sessions = [corpus.session(session_id) for session_id in problem.train_ids]
    clean = [scaling.training_example(problem, session) for session in sessions]
    return CorruptedExamples(problem, scaling, sessions, clean)


def test_without_a_share_every_session_is_as_it_is() -> None:
    examples = _examples(0.0)
    assert examples.epoch(0, 1) == examples.clean


def test_an_epoch_is_the_same_in_every_run_and_another_one_is_not() -> None:
    first, again, other = (
        [example.inputs.tobytes() for example in _examples(0.5).epoch(seed, epoch)]
        for seed, epoch in ((3, 1), (3, 1), (3, 2))
    )
    assert first == again
    assert first != other


def test_about_the_share_of_the_sessions_is_corrupted() -> None:
    examples = _examples(0.3)
    changed = [
        not np.array_equal(example.inputs, clean.inputs)
        for epoch in range(100)
        for example, clean in zip(examples.epoch(0, epoch), examples.clean, strict=True)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.05)


def test_one_modality_is_spoilt_and_the_label_is_not() -> None:
    examples = _examples(0.9)
    for epoch in range(20):
        for example, clean in zip(examples.epoch(0, epoch), examples.clean, strict=True):
            is_changed = (example.inputs != clean.inputs).any(axis=0)
            # Columns: predictions, presence, difficulties; of two modalities each.
            spoilt = {int(column) % NUM_MODALITIES for column in np.flatnonzero(is_changed)}
            assert len(spoilt) <= 1
            assert np.array_equal(example.truth, clean.truth)
            assert np.array_equal(example.mask, clean.mask)


def test_a_dropped_modality_has_no_prediction_and_the_highest_difficulty() -> None:
    dropped = _examples(0.9, ("drop",)).every_kind()[0].inputs  # the first session drops the voice
    assert (dropped[:, 0] == 0).all()
    assert (dropped[:, 2] == -1).all()
    assert (dropped[:, 3] == 1).all()
    assert (dropped[:, 4] >= dropped[:, 5].max()).all()


def test_over_the_sessions_every_modality_is_spoilt_in_every_way() -> None:
    examples = _examples(0.5, ("drop", "noise"))
    changed = []
    for example, clean in zip(examples.every_kind(), examples.clean, strict=True):
        is_changed = (example.inputs != clean.inputs).any(axis=0)
        changed.append(tuple(np.flatnonzero(is_changed).tolist()))
    assert set(changed) == {(0, 2, 4), (1, 3, 5), (0, 4), (1, 5)}
