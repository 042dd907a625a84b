"""Cross-fitting: every training session is predicted by models that never saw its subject.

The protocol `in_sample` has one fold, which holds out the sessions that it learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.spec import Spec
from pipeline.stages.trained_stage import Columns, mean_of

Model = TypeVar("Model")
"""Whatever has an output for a session: a trained stage, or its stored predictions."""
Predict = Callable[[Sequence[Model], Sequence[Session]], list[NDArray[np.float32]]]
"""(models, sessions) -> the mean output of the models for each session, shape (frames, columns)."""


@dataclass(frozen=True)
class Fold:
    """The training sessions that one training of a task learns from, and those it holds out.

    Attributes:
        name: for people.
        train_ids: sessions learned from.
        held_out_ids: training sessions that its models predict: of other subjects, or all of
            them with `in_sample`.
    """

    name: str
    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]


@dataclass(frozen=True)
class CrossFitPlan:
    """All trainings of a task.

    Attributes:
        folds: one training each.
        inference_folds: indices of the folds whose models predict, by their mean, all sessions
            outside train.
    """

    folds: tuple[Fold, ...]
    inference_folds: tuple[int, ...]

    @classmethod
    def from_spec(cls, corpus: Corpus, spec: Spec) -> CrossFitPlan:
        """Make the plan that a spec's protocol and inference ask for.

        Raises:
            InputError: fewer training subjects than folds.
        """
        train_sessions = corpus.partition("train")
        train_ids = tuple(session.session_id for session in train_sessions)
        if spec.protocol == "in_sample":
            return cls((Fold("in sample", train_ids, train_ids),), (0,))

        folds = _subject_folds(train_sessions, spec.folds)
        if spec.fit_inference == "fold_mean":
            return cls(folds, tuple(range(len(folds))))
        return cls((*folds, Fold("refit", train_ids, ())), (len(folds),))

    def inference_models(self, models: Sequence[Sequence[Model]]) -> tuple[Model, ...]:
        """Return the models that predict sessions outside train.

        Args:
            models: for each fold its models, one per seed.
        """
        return tuple(model for fold in self.inference_folds for model in models[fold])

    def predict(
        self, corpus: Corpus, models: Sequence[Sequence[Model]], predict: Predict[Model]
    ) -> dict[str, NDArray[np.float32]]:
        """Return what a task's models output for every train and devel session.

        Args:
            corpus: test sessions are not read.
            models: for each fold its models, one per seed.
            predict: returns the mean output of several of them.

        Returns:
            Session id -> shape (frames, columns). For a training session: from the models that held
            it out.
        """
        outputs: dict[str, NDArray[np.float32]] = {}

        for fold, fold_models in zip(self.folds, models, strict=True):
            sessions = [corpus.session(session_id) for session_id in fold.held_out_ids]
            outputs |= zip(fold.held_out_ids, predict(fold_models, sessions), strict=True)

        devel = corpus.partition("devel")
        devel_ids = [session.session_id for session in devel]
        devel_outputs = predict(self.inference_models(models), devel)
        outputs |= zip(devel_ids, devel_outputs, strict=True)
        return outputs

    def average(
        self, corpus: Corpus, outputs: Sequence[Sequence[Columns]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return what `predict` does, from what each model was stored to output.

        Args:
            corpus: test sessions are not read.
            outputs: for each fold and seed the model's outputs for the sessions that it held out
                and, if it is an inference model, for devel.

        Returns:
            Session id -> shape (frames, columns). Predictions are those of `predict` bit for bit.
            Reconstruction errors are means of stored float32 errors, and may differ in the last
            bit.
        """
        return self.predict(corpus, outputs, _mean_columns)


def _subject_folds(sessions: Sequence[Session], num_folds: int) -> tuple[Fold, ...]:
    """Divide training subjects into folds. They do not depend on the seed: runs stay comparable."""
    subjects = sorted({session.subject for session in sessions})
    if len(subjects) < num_folds:
        raise InputError(
            f"{num_folds} folds need at least {num_folds} training subjects; "
            f"the corpus has {len(subjects)}. Pass fewer --folds."
        )

    shuffled = np.random.default_rng(len(subjects)).permutation(subjects)
    folds = []
    for number in range(num_folds):
        held_out = set(shuffled[number::num_folds].tolist())
        train_ids = [s.session_id for s in sessions if s.subject not in held_out]
        held_out_ids = [s.session_id for s in sessions if s.subject in held_out]
        folds.append(Fold(f"fold {number + 1}", tuple(train_ids), tuple(held_out_ids)))
    return tuple(folds)


def _mean_columns(
    outputs: Sequence[Columns], sessions: Sequence[Session]
) -> list[NDArray[np.float32]]:
    """Take the mean over models as `mean_prediction` does."""
    return [mean_of([columns[s.session_id] for columns in outputs]) for s in sessions]
