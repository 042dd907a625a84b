"""Who learns from whom: folds grouped by subject, and what a stage says of sessions its models never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.spec import Spec
from pipeline.stages.stage import Columns

Voice = TypeVar("Voice")
"""Whatever says something of sessions: a model, or what a model once said."""
Speak = Callable[[Sequence[Voice], Sequence[Session]], list[NDArray[np.float32]]]
"""(voices, sessions) -> the mean of what the voices say of each session, shape (frames, columns)."""


@dataclass(frozen=True)
class Fold:
    """One training of a stage, and the training sessions it speaks for because it never saw their subjects."""

    name: str
    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]


@dataclass(frozen=True)
class CrossFitPlan:
    """All trainings of a stage.

    Attributes:
        folds: one training each.
        for_others: which of them speak, by their mean, for sessions outside train.
    """

    folds: tuple[Fold, ...]
    for_others: tuple[int, ...]

    @classmethod
    def of(cls, corpus: Corpus, spec: Spec) -> CrossFitPlan:
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

    def others(self, voices: Sequence[Sequence[Voice]]) -> tuple[Voice, ...]:
        """The voices, for each fold one per seed, that speak for sessions outside train."""
        return tuple(voice for index in self.for_others for voice in voices[index])

    def say(
        self, corpus: Corpus, voices: Sequence[Sequence[Voice]], speak: Speak[Voice]
    ) -> dict[str, NDArray[np.float32]]:
        """What a stage says of every train and devel session.

        Args:
            corpus: test sessions are not read.
            voices: for each fold its models, one per seed.
            speak: asks several of them for their mean.

        Returns:
            Session id -> shape (frames, columns). For a training session: from the models that held it out.
        """
        said: dict[str, NDArray[np.float32]] = {}
        for fold, own in zip(self.folds, voices, strict=True):
            sessions = [corpus.session(name) for name in fold.held_out_ids]
            said |= zip(fold.held_out_ids, speak(own, sessions), strict=True)
        devel = corpus.partition("devel")
        said |= zip(
            [session.session_id for session in devel],
            speak(self.others(voices), devel),
            strict=True,
        )
        return said

    def compose(
        self, corpus: Corpus, said: Sequence[Sequence[Columns]]
    ) -> dict[str, NDArray[np.float32]]:
        """The same from what each model said before, without asking it again.

        Args:
            corpus: test sessions are not read.
            said: for each fold and each seed: what that model says of the sessions it held out, and of devel if it
                speaks for others.

        Returns:
            As `say`: predictions bit for bit; mean reconstruction errors but for the rounding of each model's own.
        """
        return self.say(corpus, said, _mean_said)


def _mean_said(said: Sequence[Columns], sessions: Sequence[Session]) -> list[NDArray[np.float32]]:
    """The mean over models as `mean_prediction` takes it."""
    return [
        np.stack([columns[session.session_id] for columns in said])
        .mean(axis=0, dtype=np.float64)
        .astype(np.float32)
        for session in sessions
    ]
