"""A student is kept where it is as good as its teacher; else the teacher stays, and says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audmetric import concordance_cc

import affectune
from pipeline.corpus import Corpus
from pipeline.distillation.distil import TOLERANCE, distil
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files, save_model
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import num_fits, train
from tests.pipeline_tests.distillation.conftest import SPEC, Distilled

pytestmark = pytest.mark.slow


def distil_with_devel_labels(
    distilled: Distilled, corpus: Corpus, *, beyond_teacher: float
) -> FusedModel:
    """Distil the teacher where the truth of devel lies on the line through both predictions.

    It is that of the student at -1, that of the teacher at 0, and farther from the student beyond.
    """
    sessions = []
    for session in corpus.sessions:
        if session.partition == "devel":
            [teacher] = distilled.teacher.predict_sessions([session])
            [student] = distilled.student.predict_sessions([session])
            labels = {
                target: teacher.values[target]
                + beyond_teacher * (teacher.values[target] - student.values[target])
                for target in corpus.targets
            }
            session = replace(session, labels=labels)
        sessions.append(session)

    changed = corpus.select(sessions)
    return distil(distilled.teacher, changed, WorkerPool(changed, StageStore(distilled.store)))


def test_a_student_that_is_right_is_kept(distilled: Distilled, corpus: Corpus) -> None:
    model = distil_with_devel_labels(distilled, corpus, beyond_teacher=-1)

    assert model.distillation["is_kept"]
    assert model.distillation["networks"] == {"teacher": 16, "student": 8}
    assert model.num_networks == 8
    assert model.composition == "distilled from ensemble of 2 folds x 1 seed"


def test_a_student_that_is_worse_leaves_the_ensemble_and_says_why(
    distilled: Distilled, corpus: Corpus
) -> None:
    model = distil_with_devel_labels(distilled, corpus, beyond_teacher=50)

    assert model.regressors == distilled.teacher.regressors
    assert not model.distillation["is_kept"]
    assert model.composition == "ensemble of 2 folds x 1 seed"
    assert "more than 0.005 higher" in model.distillation["reason"]

    card = model_card(model, evaluate(model, corpus), [])
    assert model.distillation["reason"] in card
    assert "What predicts is the ensemble of 2 folds x 1 seed." in card


def test_the_record_has_the_scores_of_both_on_devel(distilled: Distilled, corpus: Corpus) -> None:
    record, devel = distilled.model.distillation, corpus.partition("devel")

    for target in corpus.targets:
        truth = np.concatenate([session.labels[target] for session in devel])
        expected = {}
        for name, model in (("teacher", distilled.teacher), ("student", distilled.student)):
            predictions = model.predict_sessions(devel)
            predicted = np.concatenate([prediction.values[target] for prediction in predictions])
            expected[name] = concordance_cc(truth, predicted)
            assert record["targets"][target][name]["ccc"] == pytest.approx(expected[name])

        difference = record["targets"][target]["difference"]
        assert difference["ccc"] == pytest.approx(expected["student"] - expected["teacher"])
        assert difference["ccc_low"] <= difference["ccc"] <= difference["ccc_high"]
    assert record["tolerance"] == TOLERANCE


def test_the_record_survives_a_bundle(distilled: Distilled, tmp_path: Path) -> None:
    save_model(distilled.model, tmp_path / "bundle")
    loaded = affectune.load(tmp_path / "bundle")

    assert loaded.distillation == distilled.model.distillation
    assert bundle_files(loaded) == bundle_files(distilled.model)


def test_train_distils_where_the_spec_says_so_and_shares_the_ensembles_stages(
    distilled: Distilled, corpus: Corpus
) -> None:
    pool = WorkerPool(corpus, StageStore(distilled.store))
    model = train(corpus, SPEC, pool)

    assert pool.trained == []
    assert pool.store_hits == num_fits(corpus, SPEC) == 20 + 8
    assert model.distillation == distilled.model.distillation
