"""Folds by person, by stimulus and by both: who is held out of what, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.requirements import raise_if_untrainable
from tests.pipeline_tests.corpora import corpus_of, tiny_session, tiny_spec

STIMULI = ("calm", "fair", "wild", "loud")


@pytest.fixture(scope="module")
def crossed() -> Corpus:
    """Six training people who saw four stimuli each, but for one session; a devel person."""
    sessions = [
        replace(
            tiny_session(f"p{person}_{stimulus}", f"p{person}", "train", seed=10 * person + place),
            stimulus=stimulus,
        )
        for person in range(6)
        for place, stimulus in enumerate(STIMULI)
        if (person, stimulus) != (3, "wild")
    ]
    devel = replace(tiny_session("d0", "d0", "devel", seed=99), stimulus="calm")
    return corpus_of([*sessions, devel])


@pytest.mark.parametrize(("split", "num_folds"), [("subject", 3), ("stimulus", 3), ("both", 3 * 2)])
def test_every_training_session_is_held_out_once_from_what_the_split_says(
    crossed: Corpus, split: str, num_folds: int
) -> None:
    """A fold learns from other people, other stimuli, or sessions that have neither."""
    spec = tiny_spec(split=split, folds=3, stimulus_groups=2)
    plan = CrossFitPlan.from_spec(crossed, spec)
    train_ids = sorted(session.session_id for session in crossed.partition("train"))

    assert len(plan.folds) == num_folds
    held_out_ids = [name for fold in plan.folds for name in fold.held_out_ids]
    assert sorted(held_out_ids) == train_ids

    for fold in plan.folds:
        learned = [crossed.session(name) for name in fold.train_ids]
        held_out = [crossed.session(name) for name in fold.held_out_ids]
        shared_people = {s.subject for s in learned} & {s.subject for s in held_out}
        shared_stimuli = {s.stimulus for s in learned} & {s.stimulus for s in held_out}
        assert not shared_people or split == "stimulus"
        assert not shared_stimuli or split == "subject"
        if split != "both":
            assert sorted(fold.train_ids + fold.held_out_ids) == train_ids


def test_with_split_both_a_fold_learns_from_all_that_has_neither(crossed: Corpus) -> None:
    """Two thirds of the people by a half of the stimuli are a third of the sessions."""
    plan = CrossFitPlan.from_spec(crossed, tiny_spec(split="both", folds=3, stimulus_groups=2))

    for fold in plan.folds:
        people = {crossed.session(name).subject for name in fold.held_out_ids}
        stimuli = {crossed.session(name).stimulus for name in fold.held_out_ids}
        expected = [
            session.session_id
            for session in crossed.partition("train")
            if session.subject not in people and session.stimulus not in stimuli
        ]
        assert list(fold.train_ids) == expected
        assert len(fold.train_ids) in {7, 8}


def test_people_whom_nobody_saw_with_a_stimulus_make_no_fold() -> None:
    """A fold without sessions to predict would be a fit for nothing."""
    sessions = [
        replace(tiny_session(f"p{person}{stimulus}", f"p{person}", "train"), stimulus=stimulus)
        for person, stimulus in [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "c"), (3, "c")]
    ]
    spec = tiny_spec(split="both", folds=4, stimulus_groups=3)
    plan = CrossFitPlan.from_spec(corpus_of(sessions), spec)

    assert len(plan.folds) == 6
    assert [fold.name for fold in plan.folds] == [f"fold {number}" for number in range(1, 7)]


def test_the_default_split_is_by_person(crossed: Corpus) -> None:
    """A spec that says nothing means what it meant before there were splits."""
    by_default = CrossFitPlan.from_spec(crossed, tiny_spec())
    assert by_default == CrossFitPlan.from_spec(crossed, tiny_spec(split="subject"))


def test_a_stimulus_that_is_unknown_is_an_error_that_names_the_file(crossed: Corpus) -> None:
    """It names a session, and says how many there are."""
    first = crossed.sessions[1]
    sessions = [replace(s, stimulus="") if s is first else s for s in crossed.sessions]

    for split in ("stimulus", "both"):
        with pytest.raises(InputError, match=r"1 of 23 have none, such as .*sessions.csv"):
            raise_if_untrainable(corpus_of(sessions), tiny_spec(split=split))


def test_fewer_stimuli_than_folds_are_an_error(crossed: Corpus) -> None:
    """A fold needs a stimulus to hold out."""
    with pytest.raises(InputError, match=r"5 folds need at least 5 stimuli in train; .* has 4"):
        CrossFitPlan.from_spec(crossed, tiny_spec(split="stimulus", folds=5))
    with pytest.raises(InputError, match=r"at least 9 stimuli in train.*fewer stimulus_groups"):
        CrossFitPlan.from_spec(crossed, tiny_spec(split="both", stimulus_groups=9))


def test_one_person_is_an_error_however_many_stimuli_there_are(crossed: Corpus) -> None:
    """Intervals are over people."""
    alone = crossed.select([s for s in crossed.sessions if s.subject == "p0"])
    with pytest.raises(InputError, match="all training sessions are of 'p0'"):
        CrossFitPlan.from_spec(alone, tiny_spec(split="stimulus"))


def test_a_fold_that_could_learn_from_nobody_is_an_error() -> None:
    """Only one person saw a second stimulus: without that person, the other has nothing else."""
    sessions = [
        replace(tiny_session(f"{subject}{stimulus}", subject, "train"), stimulus=stimulus)
        for subject, stimulus in [("a", "x"), ("a", "y"), ("b", "x")]
    ]
    spec = tiny_spec(split="both", folds=2, stimulus_groups=2)

    with pytest.raises(InputError, match="no training session is of other people than a and"):
        CrossFitPlan.from_spec(corpus_of(sessions), spec)


def test_in_sample_has_no_split() -> None:
    """The paper's protocol holds nothing out, so nothing can be divided."""
    with pytest.raises(ValidationError, match="holds nothing out"):
        Spec.model_validate({"protocol": "in_sample", "split": "both"})
