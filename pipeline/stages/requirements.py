"""What a corpus must have, so that models can be trained on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan


def raise_if_untrainable(corpus: Corpus, spec: Spec) -> None:
    """Refuse a corpus that no model can be trained on, before anything is trained.

    Raises:
        InputError: too few subjects; a part of the plan without labels, with one constant label, or
            without a modality.
    """
    if not corpus.modalities or not corpus.targets:
        raise InputError(
            f"Corpus {corpus.name!r}: training needs at least one feature set and one target."
        )

    for partition in ("train", "devel"):
        sessions = corpus.partition(partition)
        if not sessions:
            raise InputError(
                f"Corpus {corpus.name!r} has no {partition} sessions. Check metadata/partition.csv."
            )
        _raise_if_nothing_to_learn(corpus, f"every {partition} frame", sessions)

    for fold in CrossFitPlan.from_spec(corpus, spec).folds:
        sessions = tuple(corpus.session(session_id) for session_id in fold.train_ids)
        _raise_if_nothing_to_learn(corpus, f"every training frame of {fold.name}", sessions)


def _raise_if_nothing_to_learn(corpus: Corpus, where: str, sessions: Sequence[Session]) -> None:
    for target in corpus.targets:
        labels = np.concatenate([session.labels[target] for session in sessions])
        labels = labels[np.isfinite(labels)]
        if not labels.size:
            raise InputError(
                f"Corpus {corpus.name!r}: {target!r} has no label in {where}. "
                "Use fewer --folds, or leave it out."
            )
        if np.ptp(labels) == 0:
            raise InputError(
                f"Corpus {corpus.name!r}: {target!r} is {labels[0]} in {where}: nothing to learn."
            )

    for modality in corpus.modalities:
        if not any(session.present[modality].any() for session in sessions):
            raise InputError(
                f"Corpus {corpus.name!r}: {modality!r} is missing from {where}. Leave it out."
            )
