"""Who learns from whom: folds grouped by subject, and what a stage says of sessions its models never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.spec import Spec
from pipeline.stage import TrainedStage

Speak = Callable[[Sequence[TrainedStage], Sequence[Session]], list[NDArray[np.float32]]]
"""(models, sessions) -> the mean of what the models say of each session, shape (frames, columns)."""


@dataclass(frozen=True)
class Fold:
    """One training of a stage, and the training sessions it speaks for because it never saw their subjects."""

    name: str
    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All trainings of a stage.

    Attributes:
        folds: one training each.
        for_others: which of them speak, by their mean, for sessions outside train.
    """

    folds: tuple[Fold, ...]
    for_others: tuple[int, ...]

    @classmethod
    def of(cls, corpus: Corpus, spec: Spec) -> Plan:
        """The plan that a spec's protocol and inference ask for.

        Raises:
            InputError: fewer training subjects than folds.
        """
        train = corpus.partition("train")
        ids = tuple(session.session_id for session in train)
        if spec.protocol == "in_sample":
            return cls((Fold("in sample", ids, ids),), (0,))
        subjects = sorted({session.subject for session in train})
        if len(subjects) < spec.folds:
            raise InputError(
                f"{spec.folds} folds need at least {spec.folds} training subjects; the corpus has {len(subjects)}. "
                "Pass fewer --folds."
            )
        # The folds do not depend on the seed: runs that differ in it stay comparable.
        shuffled = np.random.default_rng(len(subjects)).permutation(subjects)
        groups = [set(shuffled[start :: spec.folds].tolist()) for start in range(spec.folds)]
        folds = [
            Fold(
                f"fold {number}",
                tuple(session.session_id for session in train if session.subject not in group),
                tuple(session.session_id for session in train if session.subject in group),
            )
            for number, group in enumerate(groups, start=1)
        ]
        if spec.inference == "fold_mean":
            return cls(tuple(folds), tuple(range(len(folds))))
        return cls((*folds, Fold("refit", ids, ())), (len(folds),))

    def others(self, models: Sequence[TrainedStage]) -> tuple[TrainedStage, ...]:
        """The models, one per fold, that speak for sessions outside train."""
        return tuple(models[index] for index in self.for_others)

    def say(self, corpus: Corpus, models: Sequence[TrainedStage], speak: Speak) -> dict[str, NDArray[np.float32]]:
        """What a stage says of every train and devel session.

        Args:
            corpus: test sessions are not read.
            models: one per fold.

        Returns:
            Session id -> shape (frames, columns). For a training session: from the models that held it out.
        """
        said: dict[str, NDArray[np.float32]] = {}
        for fold, model in zip(self.folds, models, strict=True):
            sessions = [corpus.session(name) for name in fold.held_out_ids]
            said |= zip(fold.held_out_ids, speak([model], sessions), strict=True)
        devel = corpus.partition("devel")
        said |= zip([session.session_id for session in devel], speak(self.others(models), devel), strict=True)
        return said
