"""Which configuration to try next in one task: Optuna's samplers, or a grid.

Knows no trials and no Ray: it proposes configurations, and is told their scores.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tuning.planning.sampling.observations import Observations
from tuning.spec.search_table import SamplerKind
from tuning.spec.space import Choice, Configuration, Dimension, Domain, IntRange, Space, Value

optuna.logging.set_verbosity(optuna.logging.WARNING)

LEARNING_SAMPLERS: tuple[SamplerKind, ...] = ("tpe",)
"""Those that learn from scores; the others are told nothing."""
MAX_REPEATS = 200
"""Draws in a row that were all proposed before, after which a space counts as used up."""
MAX_LEARNING_REPEATS = 20
"""Such draws after which a sampler that learns, and repeats itself, gives way to random draws."""
NUM_STARTUP_TRIALS = 8
"""So many random trials before TPE learns from scores."""


class Sampler:
    """Proposes configurations of one task, and learns from their scores.

    It never proposes a configuration twice. What it proposes depends only on the seed and on the
    calls of `propose`, `restore` and `tell` before, in their order. So after a crash, the same
    history gives the same next proposal.

    Args:
        space: what there is to choose from.
        kind: "tpe" learns from scores; "random" and "grid" do not.
        seed: of this task.
    """

    def __init__(self, space: Space, kind: SamplerKind, seed: int) -> None:
        self._space = space
        self._kind = kind
        self._seed = seed
        self._grid: Iterator[Configuration] = space.grid() if kind == "grid" else iter(())
        self._observations = Observations()
        # Canonical JSON of each configuration that was proposed.
        self._proposed: set[str] = set()

    def propose(self) -> Configuration | None:
        """Return a configuration that was not proposed before, or None if there is none left."""
        return self._propose_from_grid() if self._kind == "grid" else self._draw()

    def restore(self, configuration: Mapping[str, Value]) -> None:
        """Take note of a configuration that was proposed before this sampler was made."""
        key = self._space.canonical_json(configuration)
        self._proposed.add(key)
        if self._kind in LEARNING_SAMPLERS:
            values = dict(configuration)
            self._observations.begin(key, values, self._distributions(values))

    def tell(
        self,
        configuration: Mapping[str, Value],
        scores: Sequence[tuple[int, float]],
        *,
        complete: bool,
    ) -> None:
        """Learn how the trial of a configuration ended.

        Args:
            configuration: as proposed.
            scores: (epoch, best score so far); empty if the trial failed.
            complete: whether it was trained to the end, not stopped before.
        """
        if self._kind in LEARNING_SAMPLERS:
            key = self._space.canonical_json(configuration)
            self._observations.end(key, scores, complete=complete)

    def _propose_from_grid(self) -> Configuration | None:
        for configuration in self._grid:
            key = self._space.canonical_json(configuration)
            if key not in self._proposed:
                self._proposed.add(key)
                return configuration
        return None

    def _draw(self) -> Configuration | None:
        size = self._space.size
        if size is not None and len(self._proposed) >= size:
            return None

        for repeat in range(MAX_REPEATS):
            configuration = self._draw_once(self._fresh_sampler(repeat))
            if self._space.canonical_json(configuration) not in self._proposed:
                self.restore(configuration)
                return configuration

        return None

    def _draw_once(self, sampler: optuna.samplers.BaseSampler) -> Configuration:
        """Draw a configuration, which may have been proposed before; the draw is not remembered."""
        trial = self._observations.study(sampler).ask()

        def suggest(dimension: Dimension) -> Value:
            path, domain = dimension.path, dimension.domain
            if isinstance(domain, Choice):
                chosen = trial.suggest_categorical(path, domain.values)
                return next(value for value in domain.values if value == chosen)
            if isinstance(domain, IntRange):
                return trial.suggest_int(path, domain.low, domain.high, log=domain.log)
            return trial.suggest_float(path, domain.low, domain.high, log=domain.log)

        return self._space.sample(suggest)

    def _distributions(self, configuration: Configuration) -> dict[str, BaseDistribution]:
        domains = {dimension.path: dimension.domain for dimension in self._space.dimensions}
        return {path: _distribution(domains[path]) for path in configuration}

    def _fresh_sampler(self, repeat: int) -> optuna.samplers.BaseSampler:
        """Make a sampler for one draw, so that a draw does not depend on those before it."""
        seed = derive_seed(self._seed, len(self._proposed), repeat)
        if self._kind == "random" or repeat >= MAX_LEARNING_REPEATS:
            return optuna.samplers.RandomSampler(seed=seed)

        if self._kind != "tpe":
            raise ValueError(f"There is no way to draw for the sampler {self._kind!r}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=NUM_STARTUP_TRIALS,
                multivariate=True,
                group=True,
                # Running trials count as bad ones, so that parallel proposals spread.
                constant_liar=True,
            )


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if isinstance(domain, IntRange):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def derive_seed(*parts: object) -> int:
    """Derive a seed of 32 bits that depends on all parts and is the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
