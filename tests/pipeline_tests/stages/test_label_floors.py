"""The floors of labels alone: means computed by hand, and what they must not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.corpus import Partition, Session
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.label_floors import LabelFloors, held_out_label_floors
from tests.pipeline_tests.corpora import corpus_of, tiny_session, tiny_spec


def labelled(
    name: str, subject: str, labels: list[float], stimulus: str = "", partition: Partition = "train"
) -> Session:
    """Return a session with these labels of arousal."""
    session = tiny_session(name, subject, partition, frames=len(labels))
    series = np.array(labels)
    return replace(session, labels={"arousal": series, "valence": series}, stimulus=stimulus)


def test_time_alone_is_the_mean_label_at_each_time_and_keeps_its_last_value() -> None:
    """Unknown labels do not count; after the longest session nothing new is known."""
    learned = [labelled("a", "a", [1, 2, np.nan, 4]), labelled("b", "b", [3, 4])]
    floors = LabelFloors.from_sessions(learned, ["arousal"], 500.0)
    new = labelled("c", "c", [0.0] * 6, partition="devel")

    predicted = floors.predict([new], "arousal")
    assert set(predicted) == {"time"}
    # Nobody has a label at the third frame: the value before it stays.
    np.testing.assert_array_equal(predicted["time"][0], [2, 3, 3, 4, 4, 4])


def test_time_counts_from_the_start_of_a_session_and_not_from_zero() -> None:
    """A recording may begin at any time."""
    learned = labelled("a", "a", [1, 2, 3])
    late = replace(learned, timestamps_ms=learned.timestamps_ms + 60_000)
    floors = LabelFloors.from_sessions([learned], ["arousal"], 500.0)

    np.testing.assert_array_equal(floors.predict([late], "arousal")["time"][0], [1, 2, 3])


def test_stimulus_alone_is_the_mean_label_of_those_who_saw_it() -> None:
    """A stimulus that training never had has time alone in its place."""
    learned = [
        labelled("a", "a", [1, 1], "calm"),
        labelled("b", "b", [3, 5], "calm"),
        labelled("c", "c", [9, 9], "wild"),
    ]
    floors = LabelFloors.from_sessions(learned, ["arousal"], 500.0)
    calm = labelled("d", "d", [0, 0], "calm", "devel")
    other = labelled("e", "e", [0, 0], "other", "devel")

    predicted = floors.predict([calm, other], "arousal")
    np.testing.assert_array_equal(predicted["stimulus"][0], [2, 3])
    np.testing.assert_array_equal(predicted["stimulus"][1], predicted["time"][1])
    assert set(floors.predict([other], "arousal")) == {"time"}


@pytest.fixture
def crossed() -> list[Session]:
    """Return sessions of six people, who saw the same three stimuli."""
    return [
        labelled(f"p{person}_{stimulus}", f"p{person}", [10.0 * person, place], stimulus)
        for person in range(6)
        for place, stimulus in enumerate(("calm", "fair", "wild"))
    ]


@pytest.mark.parametrize("split", ["subject", "stimulus", "both"])
def test_out_of_fold_a_floor_knows_no_label_of_what_the_fold_held_out(
    crossed: list[Session], split: str
) -> None:
    """Other labels of the session's own subject or stimulus do not change its floors."""
    spec = Spec.model_validate({"split": split, "folds": 3, "stimulus_groups": 3})
    plan = CrossFitPlan.from_spec(corpus_of(crossed), spec)
    before = held_out_label_floors(corpus_of(crossed), plan, "arousal")

    changed = []
    for session in crossed:
        is_of_subject = split != "stimulus" and session.subject == "p0"
        is_of_stimulus = split != "subject" and session.stimulus == "calm"
        shift = 100.0 if is_of_subject or is_of_stimulus else 0.0
        labels = {"arousal": session.labels["arousal"] + shift}
        changed.append(replace(session, labels=labels))
    corpus = corpus_of(changed)
    after = held_out_label_floors(corpus, plan, "arousal")

    place = [session.session_id for session in corpus.partition("train")].index("p0_calm")
    # With folds by stimulus no fold knows a label of a stimulus that it held out.
    assert set(before) == ({"time", "stimulus"} if split == "subject" else {"time"})
    for floor in before:
        np.testing.assert_array_equal(before[floor][place], after[floor][place])
    others = [number for number in range(len(crossed)) if number != place]
    assert any((before["time"][n] != after["time"][n]).any() for n in others)


def test_out_of_fold_the_floor_is_the_mean_of_the_other_people(crossed: list[Session]) -> None:
    """With one person per fold, the others are all others."""
    corpus = corpus_of(crossed)
    plan = CrossFitPlan.from_spec(corpus, tiny_spec(folds=6))
    floors = held_out_label_floors(corpus, plan, "arousal")

    # People have 0, 10, ... 50 in their first frame: the mean of the others of person 2 is 26.
    np.testing.assert_allclose(floors["stimulus"][2 * 3 + 1], [26.0, 1.0])
    assert "stimulus" not in held_out_label_floors(
        corpus_of([replace(session, stimulus="") for session in crossed]), plan, "arousal"
    )
