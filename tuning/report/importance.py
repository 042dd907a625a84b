"""Which settings of a task matter: the share of the devel score's variance that each explains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator

from pipeline.stages.task import Task
from tuning.report.search_trials import Searches, SearchTrial
from tuning.spec.space import MODALITIES, Choice, Dimension, IntRange, Value

MIN_TRIALS = 20
"""From fewer trials, an importance would be noise."""
MAX_TRIALS = 200
"""From more, an importance would take minutes for a whole study: so many are drawn evenly."""
NUM_TREES, MAX_DEPTH = 24, 6

ScoredTrial = tuple[SearchTrial, float]
"""A trial, and the devel score that counts."""


@dataclass(frozen=True)
class Importance:
    """The importance of a task's settings.

    Attributes:
        shares: path -> share, the most important first; they sum to 1. Empty where `note` says why.
        basis: which trials the shares come from.
        note: why there are none; else empty.
    """

    shares: Mapping[str, float]
    basis: str
    note: str


def importance(searches: Searches, task: Task) -> Importance:
    """Estimate which settings of a task matter, by fANOVA (Hutter et al., 2014).

    The trials that were trained to the end count; where these are too few, all of them at the
    first rung. Of more than `MAX_TRIALS`, some are left out evenly.
    """
    trials = searches.trials(task)
    complete = [(trial, trial.devel) for trial in trials if trial.is_complete]
    at_rung = [(trial, trial.devel_at_rung) for trial in trials if trial.devel_at_rung is not None]

    rung = searches.first_rung(task.stage)
    bases: list[tuple[str, Sequence[ScoredTrial]]] = [
        (f"{len(complete)} trials that were trained to the end", complete),
        (f"all {len(at_rung)} trials at the first rung, epoch {rung}", at_rung),
    ]
    for basis, scored in bases:
        dimensions = _varied_dimensions(searches.dimensions(task.stage), scored)
        has_different_scores = len({score for _, score in scored}) > 1
        if len(scored) >= MIN_TRIALS and len(dimensions) > 1 and has_different_scores:
            kept = scored[:: ceil(len(scored) / MAX_TRIALS)]
            part = f", of which {len(kept)} were taken" if len(kept) < len(scored) else ""
            return Importance(_shares(dimensions, kept), f"{basis}{part}", "")

    if len(at_rung) < MIN_TRIALS:
        note = (
            f"Only {len(at_rung)} trials: an importance from fewer than {MIN_TRIALS} would be "
            "noise."
        )
    else:
        note = "Fewer than two settings were varied, or all trials scored the same."
    return Importance({}, "", note)


def _varied_dimensions(
    dimensions: Sequence[Dimension], scored: Sequence[ScoredTrial]
) -> list[Dimension]:
    """Return the dimensions in which these trials differ."""
    varied = []
    for dimension in dimensions:
        values = {_value(dimension, trial) for trial, _ in scored}
        if len(values) > 1:
            varied.append(dimension)
    return varied


def _shares(dimensions: Sequence[Dimension], scored: Sequence[ScoredTrial]) -> dict[str, float]:
    distributions = {}
    for dimension in dimensions:
        values = [_value(dimension, trial) for trial, _ in scored]
        distributions[dimension.path] = _distribution(dimension, values)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trial, score in scored:
            params = {dimension.path: _value(dimension, trial) for dimension in dimensions}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=distributions, value=score)
            )

        evaluator = FanovaImportanceEvaluator(n_trees=NUM_TREES, max_depth=MAX_DEPTH, seed=0)
        importances = evaluator.evaluate(study)

    total = sum(importances.values()) or 1.0
    ranked = sorted(importances.items(), key=lambda item: -item[1])
    return {path: float(share) / total for path, share in ranked}


def _value(dimension: Dimension, trial: SearchTrial) -> Value:
    """Return a trial's setting; where the dimension did not apply, that counts as a value."""
    value = trial.settings.get(dimension.path)
    if value is None:
        return "does not apply" if isinstance(dimension.domain, Choice) else 0
    return value


def _distribution(dimension: Dimension, values: Sequence[Value]) -> BaseDistribution:
    domain = dimension.domain
    if isinstance(domain, Choice) or dimension.path == MODALITIES:
        return CategoricalDistribution(tuple(dict.fromkeys(values)))

    # A setting that did not apply may lie outside the range that was searched.
    numbers = [float(value) for value in values]
    low, high = min(domain.low, *numbers), max(domain.high, *numbers)
    log = domain.log and low > 0
    if isinstance(domain, IntRange):
        return IntDistribution(int(low), int(high), log)
    return FloatDistribution(low, high, log)
