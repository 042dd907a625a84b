"""Early stopping: which rungs there are, and which trials are promoted."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.trained_stage import Epoch
from tuning.journal.events import Reason, RungDecision, TrialEnded, TrialProposed
from tuning.journal.history import Trial
from tuning.planning.asha import Rung, RungScore, SearchRungs, rungs, score_at

RUNG = 4
NUMBERS = count(1)


def running_trial(*decisions: RungDecision) -> Trial:
    proposed = TrialProposed(
        at=0,
        trial=f"{next(NUMBERS):04d}",
        task="unimodal/voice/arousal",
        purpose="search",
        configuration={},
        fold=0,
        seed=0,
        key="k",
    )
    return Trial(proposed, rung_decisions=list(decisions))


def judged_trial(score: float, deciding: float | None = None) -> Trial:
    decision = RungDecision(
        at=0, trial="0001", rung=RUNG, score=score, deciding=deciding, continues=True
    )
    return running_trial(decision)


def ended_trial(reason: Reason, scores: list[float]) -> Trial:
    trial = running_trial()
    trial.epochs = [Epoch(epoch, 0.0, score) for epoch, score in enumerate(scores, start=1)]
    trial.ended = TrialEnded(
        at=0,
        trial="0001",
        reason=reason,
        devel=max(scores),
        best_epoch=1,
        epochs=len(scores),
        cpu_s=0,
        wall_s=0,
    )
    return trial


@given(
    grace_epochs=st.integers(1, 50),
    reduction_factor=st.integers(2, 10),
    max_epochs=st.integers(1, 1000),
)
def test_rungs_are_multiples_of_the_grace_epochs_before_the_last_epoch(
    grace_epochs: int, reduction_factor: int, max_epochs: int
) -> None:
    multiples = [grace_epochs * reduction_factor**power for power in range(11)]

    expected = tuple(rung for rung in multiples if rung < max_epochs)

    assert rungs(grace_epochs, reduction_factor, max_epochs) == expected


@given(
    scores=st.lists(st.floats(-1, 1), min_size=1, max_size=12, unique=True),
    reduction_factor=st.integers(2, 5),
)
def test_a_trial_is_promoted_if_it_is_in_the_best_share(
    scores: list[float], reduction_factor: int
) -> None:
    *others, score = scores
    num_promoted = -(-len(scores) // reduction_factor)
    is_among_best = score in sorted(scores, reverse=True)[:num_promoted]

    trials = [judged_trial(other) for other in others]

    assert Rung(RUNG, trials).may_continue(RungScore(score), reduction_factor) == is_among_best


def test_trials_that_have_not_reached_the_rung_do_not_count() -> None:
    others = [running_trial(), ended_trial("asha", [0.9]), ended_trial("error", [0.9])]

    assert Rung(RUNG, others).may_continue(RungScore(-1.0), 3)


def test_a_trial_that_ended_by_itself_before_the_rung_has_its_best_score_there() -> None:
    assert score_at(ended_trial("patience", [0.2, 0.5, 0.1]), RUNG) == RungScore(0.5)


def test_epochs_after_the_rung_do_not_count() -> None:
    trial = ended_trial("max_epochs", [0.1, 0.3, 0.2, 0.2, 0.8])

    assert score_at(trial, RUNG) == RungScore(0.3)


def test_the_decision_at_a_rung_keeps_its_score() -> None:
    trial = judged_trial(0.4)

    assert score_at(trial, RUNG) == RungScore(0.4)
    assert score_at(trial, RUNG + 1) is None


def test_a_trial_from_the_store_without_epochs_has_its_final_score() -> None:
    trial = ended_trial("store", [0.7])
    trial.epochs = []

    assert score_at(trial, RUNG) == RungScore(0.7)


def test_trials_are_compared_on_held_out_people_where_both_were_predicted_for_them() -> None:
    luckier_on_devel, unknown = judged_trial(0.9, deciding=0.2), judged_trial(0.9)
    better_on_all = RungScore(0.5, deciding=0.4)

    assert Rung(RUNG, [luckier_on_devel]).may_continue(better_on_all, 2)
    assert not Rung(RUNG, [unknown]).may_continue(better_on_all, 2)


def test_a_trial_that_kept_its_best_has_its_final_deciding_score_at_a_later_rung() -> None:
    trial = ended_trial("patience", [0.5, 0.1])
    assert trial.ended is not None
    trial.ended = trial.ended.model_copy(update={"deciding": 0.3})
    assert score_at(trial, RUNG) == RungScore(0.5, 0.3)

    trial.ended = trial.ended.model_copy(update={"best_epoch": RUNG + 1})
    assert score_at(trial, RUNG) == RungScore(0.5)


@given(
    trials=st.lists(st.tuples(st.floats(-1, 1), st.none() | st.floats(-1, 1)), max_size=12),
    score=st.tuples(st.floats(-1, 1), st.none() | st.floats(-1, 1)),
    reduction_factor=st.integers(2, 5),
)
def test_ordered_scores_decide_as_comparing_one_by_one(
    trials: list[tuple[float, float | None]],
    score: tuple[float, float | None],
    reduction_factor: int,
) -> None:
    own, others = RungScore(*score), [judged_trial(*values) for values in trials]
    num_better = sum(own.is_below(RungScore(*values)) for values in trials)

    search = SearchRungs(())
    search.at(RUNG)
    for trial in (*others, *others, running_trial()):  # twice is once
        search.update(trial)

    expected = num_better < -(-(len(trials) + 1) // reduction_factor)
    assert search.at(RUNG).may_continue(own, reduction_factor) == expected
    assert Rung(RUNG, others).may_continue(own, reduction_factor) == expected
