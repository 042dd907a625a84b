"""A student predicts what its teacher does, with one network for each ensemble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audmetric import concordance_cc

from pipeline.corpus import Corpus
from pipeline.distillation.lessons import lessons_from
from pipeline.distillation.student import fit_student, num_student_fits, translate_references
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_session
from tests.pipeline_tests.distillation.conftest import Distilled


@pytest.mark.slow
@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_a_student_predicts_close_to_its_teacher_for_people_neither_saw(
    distilled: Distilled, target: str
) -> None:
    people = [tiny_session(f"n{n}", f"n{n}", "test", frames=60, seed=500 + n) for n in range(5)]
    teacher = distilled.teacher.predict_sessions(people)
    student = distilled.student.predict_sessions(people)

    truth = np.concatenate([prediction.values[target] for prediction in teacher])
    prediction = np.concatenate([prediction.values[target] for prediction in student])
    assert concordance_cc(truth, prediction) > 0.9


@pytest.mark.slow
def test_a_student_has_one_network_per_task(distilled: Distilled) -> None:
    student, teacher = distilled.student, distilled.teacher

    assert student.num_networks == num_student_fits(num_modalities=2, num_targets=2) == 8
    assert teacher.num_networks == 2 * student.num_networks
    assert student.encoder_of == teacher.encoder_of
    assert student.fusions_without_difficulty == {}


@pytest.mark.slow
def test_a_second_run_trains_nothing_and_gives_the_same_bytes(
    distilled: Distilled, corpus: Corpus
) -> None:
    lessons = lessons_from(distilled.teacher, corpus, seed=0)
    pool = WorkerPool(lessons.corpus, StageStore(distilled.store))
    again = fit_student(distilled.teacher, lessons, pool)

    assert (len(pool.trained), pool.store_hits) == (0, 8)
    assert bundle_files(again) == bundle_files(distilled.student)


@pytest.mark.slow
def test_training_anew_gives_the_same_bytes(
    distilled: Distilled, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = StageStore(tmp_path_factory.mktemp("other"))
    pool = WorkerPool(distilled.lessons.corpus, store)
    again = fit_student(distilled.teacher, distilled.lessons, pool)

    assert len(pool.trained) == 8
    assert bundle_files(again) == bundle_files(distilled.student)


@pytest.mark.slow
def test_the_labels_of_devel_do_not_influence_a_student(
    distilled: Distilled, corpus: Corpus
) -> None:
    sessions = [
        replace(s, labels={name: label[::-1] for name, label in s.labels.items()})
        if s.partition == "devel"
        else s
        for s in corpus.sessions
    ]
    lessons = lessons_from(distilled.teacher, corpus.select(sessions), seed=0)
    pool = WorkerPool(lessons.corpus, StageStore(distilled.store))
    student = fit_student(distilled.teacher, lessons, pool)

    assert bundle_files(student) == bundle_files(distilled.student)


@pytest.mark.slow
def test_a_percentile_of_difficulty_keeps_its_meaning(distilled: Distilled, corpus: Corpus) -> None:
    devel = corpus.partition("devel")
    of_teacher = distilled.teacher.predict_sessions(devel)
    of_student = distilled.student.predict_sessions(devel)

    for modality in corpus.modalities:
        teacher, student = (
            np.concatenate([each.difficulty[modality].percentile for each in predictions])
            for predictions in (of_teacher, of_student)
        )
        assert abs(np.median(teacher) - np.median(student)) < 3


def test_references_are_translated_by_rank_and_beyond_the_ends_by_ratio() -> None:
    teacher = np.linspace(1, 2, 101, dtype=np.float32)[:, None]
    translated = translate_references([0.5, 1.0, 1.5, 2.0, 4.0], [teacher], [3 * teacher])

    np.testing.assert_allclose(translated, [1.5, 3.0, 4.5, 6.0, 12.0], rtol=1e-6)


def test_references_stay_where_no_frame_can_be_compared() -> None:
    nothing = np.full((4, 1), np.nan, dtype=np.float32)
    assert translate_references([1.0, 2.0], [nothing], [nothing]) == [1.0, 2.0]
