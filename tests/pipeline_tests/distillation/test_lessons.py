"""A student's lessons: sessions and copies, labelled with what the teacher outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.distillation.lessons import lessons_from, regressor_label
from tests.pipeline_tests.distillation.conftest import Distilled

pytestmark = pytest.mark.slow


def test_the_labels_are_what_the_teacher_outputs_for_the_same_features(
    distilled: Distilled,
) -> None:
    sessions = distilled.lessons.corpus.sessions
    predictions = distilled.teacher.predict_sessions(sessions)

    for session, prediction in zip(sessions, predictions, strict=True):
        np.testing.assert_allclose(session.labels["arousal"], prediction.values["arousal"])
        label = session.labels[regressor_label("valence", "face")]
        np.testing.assert_allclose(label, prediction.unimodal["valence"]["face"])


def test_no_label_of_the_corpus_is_read_and_no_test_session(
    distilled: Distilled, corpus: Corpus
) -> None:
    lessons = lessons_from(distilled.teacher, _with_random_labels(corpus), seed=0)

    for session, expected in zip(
        lessons.corpus.sessions, distilled.lessons.corpus.sessions, strict=True
    ):
        for name, label in expected.labels.items():
            np.testing.assert_array_equal(session.labels[name], label)
    assert {s.partition for s in lessons.corpus.sessions} == {"train", "devel"}


def test_a_corrupted_copy_differs_in_its_modality_alone(
    distilled: Distilled, corpus: Corpus
) -> None:
    lessons = distilled.lessons
    for name in lessons.corrupted_ids["voice"]:
        copy, session = lessons.corpus.session(name), corpus.session(name.split("/")[0])

        np.testing.assert_array_equal(copy.features["face"], session.features["face"])
        assert not np.array_equal(copy.features["voice"], session.features["voice"])


def test_a_regressor_meets_the_features_of_a_session_once(distilled: Distilled) -> None:
    lessons = distilled.lessons
    features = [
        lessons.corpus.session(name).features["face"].tobytes() for name in lessons.ids_for("face")
    ]
    present = [name for name, f in zip(lessons.ids_for("face"), features, strict=True) if any(f)]

    assert len({f for f in features if any(f)}) == len(present)
    assert set(lessons.ids_for("face")) < set(lessons.all_ids)


def test_a_mixture_lies_between_its_two_sessions(distilled: Distilled, corpus: Corpus) -> None:
    train = corpus.partition("train")
    for name in distilled.lessons.mixture_ids:
        mixture = distilled.lessons.corpus.session(name)
        first = corpus.session(name.split("/")[0])
        frames = slice(0, mixture.num_frames)

        candidates = [s.features["voice"][frames] for s in train]
        is_between = [
            len(other) == mixture.num_frames
            and bool(
                np.all(
                    (mixture.features["voice"] - first.features["voice"][frames])
                    * (mixture.features["voice"] - other)
                    <= 1e-6
                )
            )
            for other in candidates
        ]
        assert any(is_between)


def test_the_same_seed_makes_the_same_copies_and_another_one_others(
    distilled: Distilled, corpus: Corpus
) -> None:
    again = lessons_from(distilled.teacher, corpus, seed=0).corpus
    other = lessons_from(distilled.teacher, corpus, seed=1).corpus

    ids = [session.session_id for session in again.sessions]
    expected = distilled.lessons.corpus
    assert again.digest_of(ids, modality="voice") == expected.digest_of(ids, modality="voice")
    assert [session.session_id for session in other.sessions] != ids


def _with_random_labels(corpus: Corpus) -> Corpus:
    random = np.random.default_rng(5)
    sessions = [
        replace(
            session,
            labels={
                name: random.normal(size=label.shape) for name, label in session.labels.items()
            },
        )
        for session in corpus.sessions
    ]
    return corpus.select(sessions)
