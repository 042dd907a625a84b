"""Which settings of a task matter: the share of the scores' variance that each explains (fANOVA)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator

from tuning.report.search_trials import Entry, Searches
from tuning.spec.space import MODALITIES, Choice, Dimension, IntRange, Value
from tuning.spec.tasks import Task

FEWEST = 20
"""Trials below which an importance would be noise."""
TREES = 24


@dataclass(frozen=True)
class Importance:
    """Of the settings of a task.

    Attributes:
        shares: path -> share, the most important first; they sum to 1. Empty where `note` says why.
        basis: which trials say so.
        note: why there are none.
    """

    shares: dict[str, float]
    basis: str
    note: str


def importance(searches: Searches, task: Task) -> Importance:
    """From the trials that were trained to the end; where these are too few, from all of them at the first rung."""
    entries = searches.of(task)
    complete = [entry for entry in entries if entry.complete]
    reached = [entry for entry in entries if entry.early is not None]
    for basis, found, score in (
        (
            f"{len(complete)} trials that were trained to the end",
            complete,
            lambda entry: entry.score,
        ),
        (
            f"all {len(reached)} trials at the first rung, epoch {searches.rung(task.stage)}",
            reached,
            _early,
        ),
    ):
        dimensions = [
            d
            for d in searches.dimensions(task.stage)
            if len({_value(d, entry) for entry in found}) > 1
        ]
        if (
            len(found) >= FEWEST
            and len(dimensions) > 1
            and len({score(entry) for entry in found}) > 1
        ):
            return Importance(_shares(dimensions, found, score), basis, "")
    if len(reached) < FEWEST:
        return Importance(
            {},
            "",
            f"Only {len(reached)} trials: an importance from fewer than {FEWEST} would be noise.",
        )
    return Importance({}, "", "Fewer than two settings were varied, or all trials scored the same.")


def _early(entry: Entry) -> float:
    assert entry.early is not None
    return entry.early


def _shares(
    dimensions: Sequence[Dimension], entries: Sequence[Entry], score: Callable[[Entry], float]
) -> dict[str, float]:
    distributions = {
        d.path: _distribution(d, [_value(d, entry) for entry in entries]) for d in dimensions
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for entry in entries:
            study.add_trial(
                optuna.trial.create_trial(
                    params={d.path: _value(d, entry) for d in dimensions},
                    distributions=distributions,
                    value=score(entry),
                )
            )
        found = FanovaImportanceEvaluator(n_trees=TREES, seed=0).evaluate(study)
    total = sum(found.values()) or 1.0
    return {
        path: float(share) / total
        for path, share in sorted(found.items(), key=lambda each: -each[1])
    }


def _value(dimension: Dimension, entry: Entry) -> Value:
    """A trial's setting; where the dimension did not apply, that which held instead."""
    value = entry.settings.get(dimension.path)
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
    return (
        IntDistribution(int(low), int(high), log)
        if isinstance(domain, IntRange)
        else FloatDistribution(low, high, log)
    )
