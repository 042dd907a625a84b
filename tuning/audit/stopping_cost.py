"""What early stopping cost, by task and over tasks: from kept, stopped and retrained trials.

Knows no training and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from pipeline.stages.task import Task
from tuning.audit.estimates import Estimate
from tuning.audit.rank_correlation import WeightedPairs, rank_correlation
from tuning.audit.regret import TaskDraws, draw_task, estimate_best_stopped, estimate_regret
from tuning.audit.sample import TaskTrials, is_stopped, num_trained_epochs

CCC_STAGES = ("unimodal", "fusion")
"""Stages whose score is a CCC, so that their regrets have one unit."""


@dataclass(frozen=True)
class StoppingCost:
    """What early stopping cost in one task, or in several together.

    Attributes:
        num_tasks: tasks.
        num_kept: trials that the study trained to the end; see `TaskTrials`.
        num_stopped: trials that early stopping ended.
        num_retrained: those of the stopped trials that the audit trained to the end.
        rank_correlation: rung -> Spearman's correlation, within tasks, of the scores at the rung
            with the final scores; None where the trials are too few.
        best_stopped: probability that the best trial is among the stopped ones; of several tasks
            the share of tasks in which it is. None where the trials are too few.
        regret: best final score of all trials minus that of the kept ones; of several tasks the
            mean. None where the trials are too few.
        epochs_saved: epochs that stopped trials would have taken; None where none was retrained.
        epochs_saved_share: these as a share of all epochs of a search without early stopping.
    """

    num_tasks: int
    num_kept: int
    num_stopped: int
    num_retrained: int
    rank_correlation: Mapping[int, Estimate | None]
    best_stopped: Estimate | None
    regret: Estimate | None
    epochs_saved: float | None
    epochs_saved_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields; an estimate as in `Estimate.to_json`, a rung as text."""
        correlations = {
            str(rung): _to_json(estimate) for rung, estimate in self.rank_correlation.items()
        }
        return {
            **vars(self),
            "rank_correlation": correlations,
            "best_stopped": _to_json(self.best_stopped),
            "regret": _to_json(self.regret),
        }


def estimate_costs(
    tasks: Sequence[TaskTrials], seed: int
) -> tuple[dict[str, StoppingCost], dict[str, StoppingCost]]:
    """Estimate what early stopping cost in each task, and in tasks together.

    Args:
        tasks: the trials of each task; at least one task.
        seed: of all draws.

    Returns:
        The costs by the name of a task; and the costs of several tasks together, by stage and, as
        "CCC", of all tasks whose score is a CCC.
    """
    groups: dict[str, list[TaskTrials]] = {}
    for trials in tasks:
        groups.setdefault(trials.task.stage, []).append(trials)

    draws = {trials.task: draw_task(trials, groups[trials.task.stage], seed) for trials in tasks}
    costs = {str(trials.task): _estimate_cost([trials], draws, seed) for trials in tasks}

    if all(stage in groups for stage in CCC_STAGES):
        groups["CCC"] = list(chain.from_iterable(groups[stage] for stage in CCC_STAGES))
    pooled_costs = {
        name: _estimate_cost(group, draws, seed) for name, group in groups.items() if len(group) > 1
    }
    return costs, pooled_costs


def _estimate_cost(
    group: Sequence[TaskTrials], draws: Mapping[Task, TaskDraws | None], seed: int
) -> StoppingCost:
    group_draws = [draws[trials.task] for trials in group]
    known_draws = [task_draws for task_draws in group_draws if task_draws is not None]
    has_all_draws = len(known_draws) == len(group)
    saved, saved_share = _epochs_saved(group)

    return StoppingCost(
        num_tasks=len(group),
        num_kept=sum(len(trials.kept) for trials in group),
        num_stopped=sum(len(trials.stopped) for trials in group),
        num_retrained=sum(len(trials.retrained) for trials in group),
        rank_correlation=_rank_correlations(group, seed),
        best_stopped=estimate_best_stopped(known_draws, seed) if has_all_draws else None,
        regret=estimate_regret(known_draws, seed) if has_all_draws else None,
        epochs_saved=saved,
        epochs_saved_share=saved_share,
    )


def _rank_correlations(group: Sequence[TaskTrials], seed: int) -> dict[int, Estimate | None]:
    """Return for each rung the correlation of the scores there with the final scores."""
    rungs = set(chain.from_iterable(trials.rungs for trials in group))

    correlations = {}
    for rung in sorted(rungs):
        tasks = [trials for trials in group if trials.retrained and rung in trials.rungs]
        pairs = [_scores_at(rung, trials) for trials in tasks]
        correlations[rung] = rank_correlation(pairs, seed)
    return correlations


def _scores_at(rung: int, trials: TaskTrials) -> WeightedPairs:
    """Pair the score at a rung with the final score, of each kept or retrained trial.

    A retrained trial stands for its share of the stopped ones. One whose fit failed is left out.
    """
    retrained = [trial for trial in trials.retrained if np.isfinite(trial.final_score)]
    finished = [*trials.kept, *retrained]
    weights = [1.0] * len(trials.kept) + [trials.weight] * len(retrained)

    return WeightedPairs(
        first_N=np.array([trial.score_at(rung) for trial in finished]),
        second_N=np.array([trial.final_score for trial in finished]),
        weights_N=np.array(weights),
    )


def _epochs_saved(group: Sequence[TaskTrials]) -> tuple[float | None, float | None]:
    """Return the epochs that early stopping saved, and their share of a search without it.

    Returns:
        None twice where no trial was retrained.
    """
    audited = [trials for trials in group if trials.retrained]
    if not audited:
        return None, None

    # Tasks without a retrained trial are taken to save as much per stopped trial as the others.
    num_stopped = sum(len(trials.stopped) for trials in group)
    num_stopped_audited = sum(len(trials.stopped) for trials in audited)
    spared = sum(trials.weight * _remaining_epochs(trials) for trials in audited)
    spared *= num_stopped / num_stopped_audited

    # A stopped trial that became a finalist was trained anew: its first epochs were lost.
    kept = chain.from_iterable(trials.kept for trials in group)
    refitted = [finished.trial for finished in kept if is_stopped(finished.trial)]
    lost = sum(num_trained_epochs(trial) for trial in refitted)

    saved = spared - lost
    num_epochs_without = sum(trials.num_epochs for trials in group) + spared - lost
    return saved, saved / num_epochs_without


def _remaining_epochs(trials: TaskTrials) -> int:
    """Return how many epochs the retrained trials went on for after their stop."""
    return sum(len(trial.epochs) - num_trained_epochs(trial.trial) for trial in trials.retrained)


def _to_json(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate.to_json()
