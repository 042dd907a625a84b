"""What to try next in one task: Optuna's samplers, or a grid; never the same configuration twice. Knows no Ray."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import optuna
from optuna.trial import TrialState

from tuning.spec.space import Choice, Dimension, IntRange, Space, Value

optuna.logging.set_verbosity(optuna.logging.WARNING)

MOST_REPEATS = 200
"""Draws in a row that were all tried before, after which a space counts as used up."""
Kind = Literal["tpe", "random", "grid"]


class Sampler:
    """Proposes configurations of one task, and learns from their scores.

    What it proposes depends on the seed and on what it was told, in that order: after a crash, the same history gives
    the same next proposal.

    Args:
        space: what there is to choose from.
        kind: tpe learns from scores; random and grid do not.
        seed: of this task.
    """

    def __init__(self, space: Space, kind: Kind, seed: int) -> None:
        self._space = space
        self._kind = kind
        self._seed = seed
        self._grid: Iterator[dict[str, Value]] = space.grid() if kind == "grid" else iter(())
        self._proposed: dict[str, optuna.Trial | None] = {}
        self._study = optuna.create_study(direction="maximize")

    def propose(self) -> dict[str, Value] | None:
        """A configuration that was not proposed before; None when there is none left."""
        if self._kind == "grid":
            values = next(
                (v for v in self._grid if self._space.canonical(v) not in self._proposed), None
            )
            if values is not None:
                self._proposed[self._space.canonical(values)] = None
            return values
        if self._space.size is not None and len(self._proposed) >= self._space.size:
            return None
        for repeat in range(MOST_REPEATS):
            self._study.sampler = self._fresh_sampler(repeat)
            trial, values = self._ask()
            self._study.tell(trial, state=TrialState.FAIL)
            if self._space.canonical(values) not in self._proposed:
                self.restore(
                    values
                )  # as after a restart: Optuna keeps more of what it drew than of what it is told
                return values
        return None

    def restore(self, values: Mapping[str, Value]) -> None:
        """Take note of a configuration that was proposed before this sampler was made."""
        name = self._space.canonical(values)
        if self._kind != "tpe":
            self._proposed[name] = None
            return
        self._study.sampler = optuna.samplers.RandomSampler(seed=0)  # what is enqueued is not drawn
        self._study.enqueue_trial(dict(values))
        self._proposed[name], _ = self._ask()

    def tell(
        self, values: Mapping[str, Value], scores: Sequence[tuple[int, float]], *, complete: bool
    ) -> None:
        """Say what became of a configuration.

        Args:
            values: as proposed.
            scores: (epoch, best score so far); empty if it failed.
            complete: it was trained to the end, not stopped before.
        """
        trial = self._proposed[self._space.canonical(values)]
        if trial is None:
            return
        if not scores:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        for epoch, score in scores:
            trial.report(score, epoch)
        if complete:
            self._study.tell(trial, scores[-1][1])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def _ask(self) -> tuple[optuna.Trial, dict[str, Value]]:
        trial = self._study.ask()

        def suggest(dimension: Dimension) -> Value:
            path, domain = dimension.path, dimension.domain
            if isinstance(domain, Choice):
                chosen = trial.suggest_categorical(path, domain.values)
                return next(value for value in domain.values if value == chosen)
            if isinstance(domain, IntRange):
                return trial.suggest_int(path, domain.low, domain.high, log=domain.log)
            return trial.suggest_float(path, domain.low, domain.high, log=domain.log)

        return trial, self._space.sample(suggest)

    def _fresh_sampler(self, repeat: int) -> optuna.samplers.BaseSampler:
        """A new one for each proposal, so that what it draws does not depend on who lived how long."""
        seed = seed_of(self._seed, len(self._proposed), repeat)
        # A model that keeps drawing what was tried has little left to say.
        if self._kind == "random" or repeat >= MOST_REPEATS // 10:
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Running trials count as bad ones, so that parallel proposals spread.
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=8
            )


def seed_of(*parts: object) -> int:
    """A seed of 32 bits that depends on all parts, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
