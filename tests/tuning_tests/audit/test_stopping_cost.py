"""What early stopping cost, for trials whose scores are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import beta

from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Epoch
from pipeline.stages.unimodal import UnimodalTask
from tuning.audit.sample import FinishedTrial, TaskTrials
from tuning.audit.stopping_cost import estimate_costs
from tuning.journal.events import RungDecision, TrialEnded, TrialProposed
from tuning.journal.history import Trial

TASK, PEER_TASK = UnimodalTask("voice", "arousal"), UnimodalTask("face", "arousal")
STOP_RUNG, STOP_SCORE, MAX_EPOCHS = 2, 0.1, 10


def stopped_trial(number: int, task: Task = TASK) -> Trial:
    """Return a trial that was stopped after two epochs, with a score of 0.1."""
    name = f"{number:04d}"
    proposed = TrialProposed(
        at=0,
        trial=name,
        task=str(task),
        purpose="search",
        configuration={},
        fold=0,
        seed=0,
        key=name,
    )
    decision = RungDecision(at=0, trial=name, rung=STOP_RUNG, score=STOP_SCORE, continues=False)
    ended = TrialEnded(
        at=0,
        trial=name,
        reason="asha",
        devel=STOP_SCORE,
        best_epoch=STOP_RUNG,
        epochs=STOP_RUNG,
        cpu_s=0,
        wall_s=0,
    )
    epochs = [Epoch(epoch, 0, STOP_SCORE) for epoch in range(1, STOP_RUNG + 1)]
    return Trial(proposed, epochs, [decision], ended)


def finished_trial(number: int, final_score: float, task: Task = TASK) -> FinishedTrial:
    """Return a stopped trial with the eight epochs that it had left."""
    trial = stopped_trial(number, task)
    remaining = [Epoch(epoch, 0, final_score) for epoch in range(STOP_RUNG + 1, MAX_EPOCHS + 1)]
    return FinishedTrial(trial, (*trial.epochs, *remaining), final_score)


def test_too_few_retrained_trials_give_no_regret() -> None:
    trials = TaskTrials(
        TASK,
        kept=(finished_trial(9, 0.5),),
        stopped=(stopped_trial(1), stopped_trial(2)),
        num_epochs=9,
        retrained=(finished_trial(1, 0.3),),
    )
    costs, pooled_costs = estimate_costs([trials], 0)

    assert pooled_costs == {}
    assert costs[str(TASK)].best_stopped is None
    assert costs[str(TASK)].regret is None


def test_a_trial_that_was_not_retrained_gains_what_retrained_ones_did() -> None:
    # Five trials of another task were stopped with 0.1, where the best kept one has 0.5. One went
    # 1.5 times that distance, four went half of it. So the trial that was not retrained beats its
    # best kept one with a probability of 1/5, and then by 0.5 times its distance to it, 0.8.
    final_scores = [0.1 + 0.4 * gain for gain in (1.5, 0.5, 0.5, 0.5, 0.5)]
    retrained = tuple(
        finished_trial(number, score, PEER_TASK)
        for number, score in enumerate(final_scores, start=20)
    )
    peer = TaskTrials(
        PEER_TASK,
        kept=(finished_trial(9, 0.5, PEER_TASK),),
        stopped=tuple(trial.trial for trial in retrained),
        num_epochs=60,
        retrained=retrained,
    )
    trials = TaskTrials(
        TASK, kept=(finished_trial(8, 0.9),), stopped=(stopped_trial(1),), num_epochs=12
    )
    costs, pooled_costs = estimate_costs([trials, peer], 0)

    estimated = costs[str(TASK)]
    jeffreys = beta(1.5, 4.5)
    assert estimated.best_stopped is not None
    assert estimated.regret is not None
    assert estimated.best_stopped.value == pytest.approx(1 / 5)
    assert estimated.best_stopped.low == pytest.approx(jeffreys.ppf(0.025), abs=0.02)
    assert estimated.best_stopped.high == pytest.approx(jeffreys.ppf(0.975), abs=0.02)
    assert estimated.regret.value == pytest.approx(1 / 5 * 0.5 * 0.8, abs=0.01)

    exact = costs[str(PEER_TASK)]
    assert exact.best_stopped is not None
    assert exact.regret is not None
    assert (exact.best_stopped.value, exact.best_stopped.high) == (1, 1)
    assert exact.regret.value == pytest.approx(0.2)

    pooled = pooled_costs["unimodal"]
    assert pooled.regret is not None
    assert pooled.best_stopped is not None
    assert pooled.regret.value == pytest.approx((estimated.regret.value + 0.2) / 2)
    assert pooled.best_stopped.value == pytest.approx((estimated.best_stopped.value + 1) / 2)
    assert pooled.best_stopped.low < pooled.best_stopped.value < pooled.best_stopped.high


def test_epochs_saved_are_those_that_stopped_trials_had_left() -> None:
    # Four trials were stopped after 2 of 10 epochs, two of them are retrained: 4 x 8 epochs spared.
    # A finalist that had been stopped was trained anew: its first 2 epochs are lost. The study
    # trained 4 x 2 epochs, 10 of the trial that was never stopped, and 2 + 10 of the finalist.
    retrained = (finished_trial(1, 0.3), finished_trial(2, 0.4))
    stopped = (*(trial.trial for trial in retrained), stopped_trial(3), stopped_trial(4))

    never_stopped = finished_trial(5, 0.5)
    ended = never_stopped.trial.ended
    assert ended is not None
    ended = ended.model_copy(update={"reason": "max_epochs"})
    never_stopped = replace(never_stopped, trial=replace(never_stopped.trial, ended=ended))
    finalist = finished_trial(6, 0.6)

    trials = TaskTrials(TASK, (never_stopped, finalist), stopped, 4 * 2 + 10 + 12, retrained)
    cost = estimate_costs([trials], 0)[0][str(TASK)]
    assert cost.epochs_saved == 4 * 8 - 2
    assert cost.epochs_saved_share == pytest.approx((4 * 8 - 2) / (6 * 10))
