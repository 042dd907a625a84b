"""Outer folds: who is set apart, who is searched with, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.stages.outer_folds import OuterFold, outer_folds
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session

LABELLED = ["d0", "d1", "d2", *(f"t{number}" for number in range(6))]


def _people(fold: OuterFold) -> dict[str, list[str]]:
    return {
        "train": fold.subjects("train"),
        "devel": fold.subjects("devel"),
        "test": fold.subjects("test"),
    }


def _few(num_train: int, num_devel: int) -> Corpus:
    sessions = [tiny_session(f"t{i}", f"t{i}", "train", seed=i) for i in range(num_train)]
    sessions += [tiny_session(f"d{i}", f"d{i}", "devel", seed=9 + i) for i in range(num_devel)]
    return corpus_of(sessions)


@pytest.mark.parametrize("num_folds", range(2, 10))
def test_every_labelled_person_is_set_apart_once_and_folds_are_balanced(num_folds: int) -> None:
    folds = outer_folds(tiny_corpus(), num_folds)
    sizes = [len(fold.subjects("test")) for fold in folds]

    assert len(folds) == num_folds
    assert sorted(name for fold in folds for name in fold.subjects("test")) == LABELLED
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_folds", [2, 4, 9])
def test_nobody_is_in_two_partitions_and_nobody_is_lost(num_folds: int) -> None:
    for fold in outer_folds(tiny_corpus(), num_folds):
        people = _people(fold)
        assert sorted(people["train"] + people["devel"] + people["test"]) == LABELLED


def test_all_sessions_of_a_person_are_in_one_place_and_unchanged_but_for_their_partition() -> None:
    corpus = tiny_corpus()
    for fold in outer_folds(corpus, 3):
        sessions = [*fold.corpus.sessions, *fold.test]
        assert {session.session_id for session in sessions} == {
            session.session_id for session in corpus.sessions if session.partition != "test"
        }
        for session in sessions:
            before = corpus.session(session.session_id)
            assert session.labels is before.labels
            assert session.features is before.features
            assert session.subject in fold.subjects(session.partition)


def test_those_set_apart_and_the_test_partition_are_not_in_the_corpus_of_the_search() -> None:
    for fold in outer_folds(tiny_corpus(), 3):
        names = {session.subject for session in fold.corpus.sessions}
        assert not names & set(fold.subjects("test"))
        assert not names & {"x0", "x1"}
        assert not fold.corpus.partition("test")
        assert {session.partition for session in fold.test} == {"test"}


def test_the_share_of_devel_is_that_of_the_corpus() -> None:
    """Of 9 people 3 are devel: a third of the 6 who are left."""
    for fold in outer_folds(tiny_corpus(), 3):
        assert len(fold.subjects("devel")) == 2


def test_one_person_at_least_is_in_devel() -> None:
    for fold in outer_folds(_few(num_train=20, num_devel=1), 5):
        assert len(fold.subjects("devel")) == 1


def test_folds_are_the_same_every_time() -> None:
    corpus = tiny_corpus()
    once, again = outer_folds(corpus, 4), outer_folds(corpus, 4)
    assert [_people(fold) for fold in once] == [_people(fold) for fold in again]
    assert [fold.corpus.digest for fold in once] == [fold.corpus.digest for fold in again]


def test_digests_differ_between_folds_numbers_of_folds_and_data() -> None:
    corpus = tiny_corpus()
    other = replace(corpus, digest="1" * 64)
    digests = [
        fold.corpus.digest
        for folds in (outer_folds(corpus, 3), outer_folds(corpus, 4), outer_folds(other, 3))
        for fold in folds
    ]
    assert len({corpus.digest, other.digest, *digests}) == 2 + 10


def test_a_person_without_labels_is_in_no_fold() -> None:
    corpus = tiny_corpus()
    silent = tiny_session("u", "u", "train", labelled=False)
    with_silent = corpus_of([*corpus.sessions, silent])

    folds, expected = outer_folds(with_silent, 3), outer_folds(corpus, 3)
    assert [_people(fold) for fold in folds] == [_people(fold) for fold in expected]


@pytest.mark.parametrize(
    ("corpus", "num_folds", "message"),
    [
        (tiny_corpus(), 1, "--nested is 1; it must be at least 2"),
        (tiny_corpus(), 10, "at least 10 labelled people in train and devel; corpus 'tiny' has 9"),
        (_few(num_train=1, num_devel=0), 2, "corpus 'tiny' has 1"),
        (_few(num_train=1, num_devel=1), 2, "leaves 1 to search with"),
    ],
)
def test_people_who_cannot_be_divided_are_refused_with_a_sentence(
    corpus: Corpus, num_folds: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        outer_folds(corpus, num_folds)
