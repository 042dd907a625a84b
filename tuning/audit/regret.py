"""How likely early stopping stopped the best trial of a task, and how much score that cost.

The final score of a stopped trial is known where the audit retrained it. For the others it is
drawn. Let b be the best final score of the kept trials, and s the score with which a trial was
stopped. A trial whose final score is f then has the relative gain

    g = max(0, (f - s) / (b - s)),

so it beats the kept trials where g > 1. A trial that was not retrained is given the relative gain
of a random retrained trial of the same stage, and of the same rung if there are enough of them.
The gain is relative because tasks differ in how far their stopped trials are from the best.
"""

# B = draws, K = tasks, M = trials of one rung that were not retrained, R = relative gains

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.bootstrap import BOOTSTRAPS
from tuning.audit.estimates import Estimate, Floats
from tuning.audit.sample import FinishedTrial, TaskTrials, stop_decision

MIN_RETRAINED = 5
"""Fewer retrained trials say too little about those that were not retrained."""
JEFFREYS = 0.5
"""Both parameters of Jeffreys' prior of a probability, Beta(1/2, 1/2)."""


@dataclass(frozen=True)
class TaskDraws:
    """What may be true of one task.

    Attributes:
        best_stopped: probability that its best trial is among the stopped ones.
        best_stopped_B: draws of that probability, shape (draws,).
        regret_B: draws of the best final score of all trials minus that of the kept ones; >= 0.
    """

    best_stopped: float
    best_stopped_B: Floats
    regret_B: Floats


@dataclass(frozen=True)
class RelativeGain:
    """How much of the way to the best kept score a retrained trial went after its stop.

    Attributes:
        rung: at which the trial was stopped.
        gain: 0 or more; above 1 it beats the kept trials.
    """

    rung: int
    gain: float


@dataclass(frozen=True)
class _RungDraws:
    """What may be true of the trials that were stopped at one rung and not retrained.

    Attributes:
        unbeaten: probability that none of them beats the kept trials.
        unbeaten_B: draws of that probability.
        best_score_B: draws of their best final score.
    """

    unbeaten: float
    unbeaten_B: Floats
    best_score_B: Floats


def draw_task(trials: TaskTrials, peers: Sequence[TaskTrials], seed: int) -> TaskDraws | None:
    """Draw what may be true of a task.

    Args:
        trials: those of the task.
        peers: trials of all tasks of the same stage, this one included.
        seed: of the draws.

    Returns:
        None where nothing was kept yet, or too few trials were retrained.
    """
    best_kept = trials.best_kept_score
    if best_kept is None:
        return None

    best_retrained = max((trial.final_score for trial in trials.retrained), default=-np.inf)
    unbeaten = float(best_retrained <= best_kept)
    unbeaten_B = np.full(BOOTSTRAPS, unbeaten)
    best_score_B = np.full(BOOTSTRAPS, best_retrained)

    gains = _relative_gains(peers)
    for rung in {stop_decision(trial).rung for trial in trials.not_retrained}:
        gains_R = _gains_at(rung, gains)
        if len(gains_R) < MIN_RETRAINED:
            return None

        # All tasks get the same draws, because they are estimated from the same retrained trials.
        random = np.random.default_rng([seed, rung])
        draws = _draw_rung(_stop_scores(trials, rung), gains_R, best_kept, random)
        unbeaten *= draws.unbeaten
        unbeaten_B *= draws.unbeaten_B
        best_score_B = np.maximum(best_score_B, draws.best_score_B)

    regret_B = np.maximum(0.0, best_score_B - best_kept)
    return TaskDraws(1 - unbeaten, 1 - unbeaten_B, regret_B)


def estimate_best_stopped(tasks: Sequence[TaskDraws], seed: int) -> Estimate:
    """Estimate how often the best trial of a task is among the stopped ones.

    Returns:
        Of one task: the probability. Of n tasks: the share of such tasks, with Jeffreys' interval,
        the percentiles of Beta(1/2 + k, 1/2 + n - k) (Brown, Cai and DasGupta, 2001), where k is
        a draw of the number of tasks whose best trial was stopped.
    """
    if len(tasks) == 1:
        return Estimate.from_draws(tasks[0].best_stopped, tasks[0].best_stopped_B)

    share = float(np.mean([task.best_stopped for task in tasks]))
    num_stopped_B = np.sum([task.best_stopped_B for task in tasks], axis=0)
    share_B = _draw_jeffreys(num_stopped_B, len(tasks), np.random.default_rng(seed))
    return Estimate.from_draws(share, share_B)


def estimate_regret(tasks: Sequence[TaskDraws], seed: int) -> Estimate:
    """Estimate the mean regret over tasks; its interval also reflects that tasks differ.

    Each draw resamples the tasks, and takes the mean of their regrets.
    """
    regret_KB = np.stack([task.regret_B for task in tasks])

    num_tasks, _ = regret_KB.shape
    chosen_KB = np.random.default_rng(seed).integers(num_tasks, size=regret_KB.shape)
    mean_B = np.take_along_axis(regret_KB, chosen_KB, axis=0).mean(axis=0)
    return Estimate.from_draws(regret_KB.mean(), mean_B)


def _relative_gains(peers: Sequence[TaskTrials]) -> list[RelativeGain]:
    """Return the relative gains of all retrained trials that had one to make."""
    gains = []
    for trials in peers:
        for trial in trials.retrained:
            gain = _relative_gain(trial, trials.best_kept_score)
            if gain is not None:
                gains.append(RelativeGain(stop_decision(trial.trial).rung, gain))
    return gains


def _relative_gain(trial: FinishedTrial, best_kept: float | None) -> float | None:
    """Return (f - s) / (b - s), at least 0; None unless the trial was below the best kept one."""
    stop_score = stop_decision(trial.trial).score
    if best_kept is None or best_kept <= stop_score:
        return None

    # A fit that failed has a final score of minus infinity, and so a gain of 0.
    return max(0.0, (trial.final_score - stop_score) / (best_kept - stop_score))


def _gains_at(rung: int, gains: Sequence[RelativeGain]) -> Floats:
    """Return the gains of trials stopped at a rung; those of all rungs where these are too few."""
    at_rung = [gain.gain for gain in gains if gain.rung == rung]
    if len(at_rung) >= MIN_RETRAINED:
        return np.array(at_rung)
    return np.array([gain.gain for gain in gains])


def _stop_scores(trials: TaskTrials, rung: int) -> Floats:
    """Return with which scores the trials that were not retrained were stopped at a rung."""
    decisions = [stop_decision(trial) for trial in trials.not_retrained]
    return np.array([decision.score for decision in decisions if decision.rung == rung])


def _draw_rung(
    scores_M: Floats, gains_R: Floats, best_kept: float, random: np.random.Generator
) -> _RungDraws:
    """Draw the final scores of trials that were not retrained."""
    # Each draw resamples the known gains first, because these are a sample themselves.
    num_gains = len(gains_R)
    gains_BR = gains_R[random.integers(num_gains, size=(BOOTSTRAPS, num_gains))]
    chosen_BM = random.integers(num_gains, size=(BOOTSTRAPS, len(scores_M)))
    gains_BM = np.take_along_axis(gains_BR, chosen_BM, axis=1)

    distances_M = np.maximum(best_kept - scores_M, 0)
    final_scores_BM = scores_M + distances_M * gains_BM

    # That none of a few gains is above 1 does not mean that none ever is: hence Jeffreys' prior.
    num_beating = int((gains_R > 1).sum())
    beats_B = _draw_jeffreys(num_beating, num_gains, random)

    # A trial above the best kept one when it was stopped has beaten it already.
    is_below = float((scores_M <= best_kept).all())
    return _RungDraws(
        unbeaten=is_below * (1 - num_beating / num_gains) ** len(scores_M),
        unbeaten_B=is_below * (1 - beats_B) ** len(scores_M),
        best_score_B=final_scores_BM.max(axis=1),
    )


def _draw_jeffreys(
    num_successes: int | Floats, num_trials: int, random: np.random.Generator
) -> Floats:
    """Draw a probability from its posterior Beta(1/2 + k, 1/2 + n - k), k successes in n trials."""
    successes = JEFFREYS + num_successes
    failures = JEFFREYS + num_trials - num_successes
    return random.beta(successes, failures, BOOTSTRAPS)
