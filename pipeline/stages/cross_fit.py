"""Cross-fitting: every training session is predicted by models that never saw its subject.

With other splits than "subject" they never saw its stimulus, or neither of the two. The protocol
`in_sample` has one fold, which holds out the sessions that it learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
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
        held_out_ids: training sessions that its models predict: of other subjects, of other
            stimuli, or of both; all of them with `in_sample`.
        number: place among the folds, from 0; 0 also in sample, and for a refit.
    """

    name: str
    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]
    number: int = 0

    def seed(self, spec: Spec) -> int:
        """Return the seed of this fold's fits: see `Spec.fold_seeds`."""
        if not spec.fold_seeds or self.number == 0:
            return spec.seed

        sequence = np.random.SeedSequence([spec.seed, self.number])
        return int(sequence.generate_state(1)[0])


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
            InputError: fewer training subjects or stimuli than folds, or no stimulus is known
                where the split is by stimulus.
        """
        train_sessions = corpus.partition("train")
        train_ids = tuple(session.session_id for session in train_sessions)
        if spec.protocol == "in_sample":
            return cls((Fold("in sample", train_ids, train_ids),), (0,))

        folds = _folds(train_sessions, spec)
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


def _folds(sessions: Sequence[Session], spec: Spec) -> tuple[Fold, ...]:
    """Divide the training sessions; every one of them is held out by exactly one fold.

    The folds do not depend on the seed: runs stay comparable.
    """
    subjects = [session.subject for session in sessions]
    if spec.split == "subject":
        groups = _groups(subjects, spec.folds, "training subjects", "--folds")
        return _disjoint_folds(sessions, subjects, groups)

    stimuli = _known_stimuli(sessions, spec.split)
    if len(set(subjects)) < 2:
        raise InputError(
            f"split '{spec.split}': all training sessions are of {subjects[0]!r}. Scores have "
            "intervals over people: there must be two or more."
        )
    if spec.split == "stimulus":
        groups = _groups(stimuli, spec.folds, "stimuli in train", "--folds")
        return _disjoint_folds(sessions, stimuli, groups)

    return _crossed_folds(
        sessions,
        _groups(subjects, spec.folds, "training subjects", "--folds"),
        _groups(stimuli, spec.stimulus_groups, "stimuli in train", "stimulus_groups"),
    )


def _known_stimuli(sessions: Sequence[Session], split: str) -> list[str]:
    """Return the stimulus of each session, or raise where one has none."""
    unknown = [session.session_id for session in sessions if not session.stimulus]
    if unknown:
        raise InputError(
            f"split '{split}' needs the stimulus of every training session; {len(unknown)} of "
            f"{len(sessions)} have none, such as {unknown[0]!r}. Name it in the column 'stimulus' "
            "of metadata/sessions.csv."
        )
    return [session.stimulus for session in sessions]


def _groups(
    names: Sequence[str], num_groups: int, what: str, setting: str
) -> tuple[frozenset[str], ...]:
    """Divide subjects or stimuli, as many names as sessions, into groups of nearly equal size."""
    distinct = sorted(set(names))
    if len(distinct) < num_groups:
        raise InputError(
            f"{num_groups} folds need at least {num_groups} {what}; "
            f"the corpus has {len(distinct)}. Pass fewer {setting}."
        )

    shuffled = np.random.default_rng(len(distinct)).permutation(distinct)
    return tuple(frozenset(shuffled[number::num_groups].tolist()) for number in range(num_groups))


def _disjoint_folds(
    sessions: Sequence[Session], names: Sequence[str], groups: Sequence[frozenset[str]]
) -> tuple[Fold, ...]:
    """Return a fold per group, which learns from all other groups."""
    pairs = list(zip(sessions, names, strict=True))
    folds = []
    for number, held_out in enumerate(groups):
        train_ids = [session.session_id for session, name in pairs if name not in held_out]
        held_out_ids = [session.session_id for session, name in pairs if name in held_out]
        folds.append(Fold(f"fold {number + 1}", tuple(train_ids), tuple(held_out_ids), number))
    return tuple(folds)


def _crossed_folds(
    sessions: Sequence[Session],
    people: Sequence[frozenset[str]],
    stimuli: Sequence[frozenset[str]],
) -> tuple[Fold, ...]:
    """Return a fold per group of people and group of stimuli, where anybody saw any of them.

    A fold holds out the sessions of its people with its stimuli, and learns from those that have
    neither: the sessions of its people with other stimuli, and those of other people with its
    stimuli, are in no part of it.
    """
    folds: list[Fold] = []
    for persons, shown in product(people, stimuli):
        train_ids, held_out_ids = [], []
        for session in sessions:
            is_person, is_shown = session.subject in persons, session.stimulus in shown
            if is_person and is_shown:
                held_out_ids.append(session.session_id)
            elif not is_person and not is_shown:
                train_ids.append(session.session_id)
        if not held_out_ids:
            continue

        if not train_ids:
            raise InputError(
                f"split 'both': no training session is of other people than "
                f"{', '.join(sorted(persons))} and of other stimuli than "
                f"{', '.join(sorted(shown))}, so nothing could be learned to predict these. Pass "
                "more --folds or stimulus_groups, or another --split."
            )
        number = len(folds)
        folds.append(Fold(f"fold {number + 1}", tuple(train_ids), tuple(held_out_ids), number))
    return tuple(folds)


def _mean_columns(
    outputs: Sequence[Columns], sessions: Sequence[Session]
) -> list[NDArray[np.float32]]:
    """Take the mean over models as `mean_prediction` does."""
    return [mean_of([columns[s.session_id] for columns in outputs]) for s in sessions]
