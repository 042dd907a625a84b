"""What early stopping cost, told from the trials that it kept and those of the stopped ones that went to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import BOOTSTRAPS
from tuning.audit.sample import Course, Search, passed
from tuning.spec.tasks import Task

FEWEST = 8
"""Of fewer trials (Kish's effective number) no rank correlation is told; tasks together need one more for each task."""
FEWEST_AGAIN = 5
"""From fewer trials that were trained again nothing is concluded about those that were not."""

# B = draws, N = trials of a task
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; both ends are the number where nothing is left to guess."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: Floats) -> Estimate:
        """The percentiles of draws, around a value."""
        if np.ptp(draws) == 0:  # rounding would make an interval of it
            return cls(float(value), float(value), float(value))
        low, high = np.percentile(draws, [2.5, 97.5])
        return cls(float(value), float(min(low, value)), float(max(high, value)))


@dataclass(frozen=True)
class Findings:
    """Of one task, or of several together.

    Attributes:
        tasks: how many.
        kept, stopped, again: trials; see `Search`.
        correlation: rung -> Spearman's, within tasks, of the scores at the rung with the final ones, over all
            configurations; None for too few. Its interval: from a bootstrap of trials.
        best_killed: the chance that the task's best trial is among the stopped. Of several tasks: the share of such
            tasks in which it is (Jeffreys' interval). None for too few.
        regret: the best final score of all minus the best of those kept. Of several tasks: the mean; its interval is
            also over tasks. What no trial that was trained again did is not imagined of another. None for too few.
        epochs_saved: that the stopped trials would have taken; None where no one knows.
        epochs_saved_share: of all that the search would have taken without early stopping.
    """

    tasks: int
    kept: int
    stopped: int
    again: int
    correlation: Mapping[int, Estimate | None]
    best_killed: Estimate | None
    regret: Estimate | None
    epochs_saved: float | None
    epochs_saved_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Its fields; an Estimate as "value", "low", "high"."""
        told = dict(vars(self))
        told["correlation"] = {
            str(rung): found and vars(found) for rung, found in self.correlation.items()
        }
        return told | {name: told[name] and vars(told[name]) for name in ("best_killed", "regret")}


@dataclass(frozen=True)
class Drawn:
    """What may be true of a task: the chance that its best was killed, draws of it, and draws of the regret."""

    chance: float
    chances: Floats
    regrets: Floats


def findings(
    searches: Sequence[Search], seed: int
) -> tuple[dict[str, Findings], dict[str, Findings]]:
    """What an audit tells of each task, and of tasks together.

    Args:
        searches: at least one.
        seed: of the draws.

    Returns:
        By task; and by stage, and "CCC" for all tasks that have a target, where that is more than one task.
    """
    kinds: dict[str, list[Search]] = {}
    for search in searches:
        kinds.setdefault(search.task.stage, []).append(search)
    drawn = {search.task: _draw(search, kinds[search.task.stage], seed) for search in searches}
    tasks = {str(search.task): _findings([search], drawn, seed) for search in searches}
    if {"unimodal", "fusion"} <= set(kinds):
        kinds["CCC"] = [*kinds["unimodal"], *kinds["fusion"]]
    more = {kind: group for kind, group in kinds.items() if len(group) > 1}
    return tasks, {kind: _findings(group, drawn, seed) for kind, group in more.items()}


def _findings(group: Sequence[Search], drawn: Mapping[Task, Drawn | None], seed: int) -> Findings:
    draws = [found for search in group if (found := drawn[search.task]) is not None]
    killed = regret = None
    if len(draws) == len(group):
        killed = _best_killed(draws, seed)
        regret = _mean_over_tasks(np.stack([task.regrets for task in draws]), seed)
    saved, without = _epochs_saved(group)
    return Findings(
        tasks=len(group),
        kept=sum(len(search.kept) for search in group),
        stopped=sum(len(search.stopped) for search in group),
        again=sum(len(search.again) for search in group),
        correlation={
            rung: rank_correlation(
                [_at_rung(s, rung) for s in group if rung in s.rungs and s.again], seed
            )
            for rung in sorted({rung for search in group for rung in search.rungs})
        },
        best_killed=killed,
        regret=regret,
        epochs_saved=saved,
        epochs_saved_share=None if saved is None else saved / without,
    )


def _at_rung(search: Search, rung: int) -> tuple[Floats, Floats, Floats]:
    """Scores at a rung, final scores, and for how many trials each stands."""
    finished = [course for course in search.again if np.isfinite(course.final)]
    weights = [1.0] * len(search.kept) + [search.weight] * len(finished)
    courses = [*search.kept, *finished]
    return (
        np.array([course.until(rung) for course in courses]),
        np.array([course.final for course in courses]),
        np.array(weights),
    )


def rank_correlation(groups: Sequence[tuple[Floats, Floats, Floats]], seed: int) -> Estimate | None:
    """Spearman's rank correlation with ranks taken within each group, and its interval from a bootstrap.

    Args:
        groups: two series and their weights, of the same length.
        seed: of the bootstrap.

    Returns:
        None where it is not defined, or the trials are too few.
    """
    free = sum(own.sum() ** 2 / (own**2).sum() - 1 for _, _, own in groups)
    if free < FEWEST - 1 - 1e-9:
        return None
    weights = np.concatenate([own for _, _, own in groups])
    size = len(weights)
    counts = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=BOOTSTRAPS)
    drawn = np.concatenate([np.ones((1, size)), counts]) * weights
    products = np.zeros((3, len(drawn)))
    start = 0
    for first, second, own in groups:
        of_group = drawn[:, start : start + len(own)]
        one, other = _centred_ranks(first, of_group), _centred_ranks(second, of_group)
        products += [
            (of_group * product).sum(axis=1) for product in (one * other, one**2, other**2)
        ]
        start += len(own)
    scale = np.sqrt(products[1] * products[2])
    found = products[0][scale > 0] / scale[scale > 0]
    return Estimate.of(found[0], found[1:]) if scale[0] > 0 else None


def _centred_ranks(values: Floats, weights_BN: Floats) -> Floats:
    """Mid-ranks in -0.5 to 0.5 under each row of weights; their weighted mean is 0."""
    below_NN: Floats = (values[:, None] > values) + 0.5 * (values[:, None] == values)
    total_B1 = np.maximum(
        weights_BN.sum(axis=1, keepdims=True), 1e-12
    )  # a draw may leave a task out
    ranks_BN: Floats = weights_BN @ below_NN.T / total_B1 - 0.5
    return ranks_BN


def _draw(search: Search, peers: Sequence[Search], seed: int) -> Drawn | None:
    """Draws of what is not known; None where too little is known to tell.

    When a trial is stopped, some way is left to the score of the best one kept. Of that way, one that was not trained
    again is taken to have gone the same part as a random one that was: of the same stage, and of the same rung if those
    are enough. (The part, not the gain itself: tasks differ in how far there is to go.)
    """
    if search.best_kept is None:
        return None
    best_known = max((course.final for course in search.again), default=-np.inf)
    miss = float(best_known <= search.best_kept)
    misses, best = np.full(BOOTSTRAPS, miss), np.full(BOOTSTRAPS, best_known)
    gone = [
        (c.trial.judged[-1].rung, part)
        for s in peers
        for c in s.again
        if (part := _part_gone(s, c)) is not None
    ]
    for rung in {trial.judged[-1].rung for trial in search.not_again}:
        scores = np.array(
            [t.judged[-1].score for t in search.not_again if t.judged[-1].rung == rung]
        )
        parts = np.array([part for at, part in gone if at == rung])
        parts = parts if len(parts) >= FEWEST_AGAIN else np.array([part for _, part in gone])
        if len(parts) < FEWEST_AGAIN:
            return None
        random = np.random.default_rng(
            [seed, rung]
        )  # the same for every task: they lean on the same trials
        drawn = parts[random.integers(len(parts), size=(BOOTSTRAPS, len(parts)))]
        picked = np.take_along_axis(
            drawn, random.integers(len(parts), size=(BOOTSTRAPS, len(scores))), axis=1
        )
        best = np.maximum(
            best, (scores + np.maximum(search.best_kept - scores, 0) * picked).max(axis=1)
        )
        behind = float((scores <= search.best_kept).all())
        beyond = int(
            (parts > 1).sum()
        )  # of so few, none beyond does not mean never: hence Jeffreys' draws
        miss *= behind * (1 - beyond / len(parts)) ** len(scores)
        misses *= behind * (
            1 - random.beta(0.5 + beyond, 0.5 + len(parts) - beyond, BOOTSTRAPS)
        ) ** len(scores)
    return Drawn(1 - miss, 1 - misses, np.maximum(0.0, best - search.best_kept))


def _part_gone(search: Search, course: Course) -> float | None:
    """What part of the way to the best one kept a stopped trial went on to go: 1 reaches it; None without a way."""
    score = course.trial.judged[-1].score
    if search.best_kept is None or search.best_kept <= score:
        return None
    return max(0.0, (course.final - score) / (search.best_kept - score))  # 0 where it failed


def _best_killed(draws: Sequence[Drawn], seed: int) -> Estimate:
    """Of one task its chance, of several the share of such tasks."""
    if len(draws) == 1:
        return Estimate.of(draws[0].chance, draws[0].chances)
    killed = np.sum([task.chances for task in draws], axis=0)
    shares = np.random.default_rng(seed).beta(0.5 + killed, 0.5 + len(draws) - killed)
    return Estimate.of(float(np.mean([task.chance for task in draws])), shares)


def _mean_over_tasks(regrets: Floats, seed: int) -> Estimate:
    """From draws of every task, shape (tasks, draws)."""
    tasks, draws = regrets.shape
    chosen = np.random.default_rng(seed).integers(tasks, size=(tasks, draws))
    return Estimate.of(regrets.mean(), np.take_along_axis(regrets, chosen, axis=0).mean(axis=0))


def _epochs_saved(group: Sequence[Search]) -> tuple[float | None, float]:
    """Epochs that early stopping spared, and epochs without it; those of finalists that it had stopped were lost."""
    known = [search for search in group if search.again]
    if not known:
        return None, 0.0
    spared = sum(s.weight * sum(len(c.epochs) - passed(c.trial) for c in s.again) for s in known)
    spared *= sum(len(s.stopped) for s in group) / sum(len(s.stopped) for s in known)
    lost = sum(
        passed(c.trial)
        for s in group
        for c in s.kept
        if c.trial.ended and c.trial.ended.reason == "asha"
    )
    return spared - lost, sum(search.epochs for search in group) + spared - lost
