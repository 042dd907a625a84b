"""Outer folds: labelled people are set apart, and the others divided into train and devel anew.

They are for nested cross-validation: a whole search, which looks at train and devel, is scored on
the people set apart, whom it never saw.

Varma, S. and Simon, R. (2006): Bias in error estimation when using cross-validation for model
selection. BMC Bioinformatics 7, 91.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.corpus import Corpus, Partition, Session
from pipeline.errors import InputError

MIN_FOLDS = 2
MIN_INNER_PEOPLE = 2
"""One to train on, and one for devel."""


@dataclass(frozen=True)
class OuterFold:
    """One division of the labelled people of a corpus.

    Attributes:
        name: for people, such as "outer fold 2 of 5".
        corpus: what a search may learn from: train and devel sessions, none of the people set
            apart, and no test sessions. Its digest is its own.
        test: the sessions of the people set apart, as the partition "test".
    """

    name: str
    corpus: Corpus
    test: tuple[Session, ...]

    def subjects(self, partition: Partition) -> list[str]:
        """Return the names of the people in a partition, sorted."""
        sessions = self.test if partition == "test" else self.corpus.partition(partition)
        return sorted({session.subject for session in sessions})


def outer_folds(corpus: Corpus, num_folds: int) -> tuple[OuterFold, ...]:
    """Divide the labelled people of train and devel into outer folds.

    Each of them is set apart in exactly one fold; the folds' sizes differ by one at most. The
    others are divided into train and devel again, with the corpus's own share of devel, at least
    one person each. Test sessions, and people without any label, are in no fold. The folds depend
    on who the people are, and not on a seed: runs stay comparable.

    Args:
        corpus: with labelled train and devel sessions.
        num_folds: K.

    Raises:
        InputError: fewer than two folds, more folds than people, or too few people to divide.
    """
    if num_folds < MIN_FOLDS:
        raise InputError(f"--nested is {num_folds}; it must be at least {MIN_FOLDS} outer folds.")

    train, devel = (_labelled_people(corpus, partition) for partition in ("train", "devel"))
    people = sorted(train + devel)
    if num_folds > len(people):
        raise InputError(
            f"--nested {num_folds} needs at least {num_folds} labelled people in train and devel; "
            f"corpus {corpus.name!r} has {len(people)}. Pass a smaller number, or add people."
        )

    fewest = len(people) - -(-len(people) // num_folds)
    if fewest < MIN_INNER_PEOPLE:
        raise InputError(
            f"--nested {num_folds}: of the {len(people)} labelled people of corpus "
            f"{corpus.name!r}, a fold leaves {fewest} to search with, and one is needed in train "
            "and one in devel. Add people."
        )

    devel_share = len(devel) / len(people)
    shuffled = np.random.default_rng(len(people)).permutation(people).tolist()
    return tuple(
        _outer_fold(corpus, shuffled, number, num_folds, devel_share) for number in range(num_folds)
    )


def _labelled_people(corpus: Corpus, partition: Partition) -> list[str]:
    return sorted(
        {
            session.subject
            for session in corpus.partition(partition)
            if any(np.isfinite(labels).any() for labels in session.labels.values())
        }
    )


def _outer_fold(
    corpus: Corpus, people: Sequence[str], number: int, num_folds: int, devel_share: float
) -> OuterFold:
    """Set every K-th of the shuffled people apart, and draw devel from the others."""
    apart = people[number::num_folds]
    others = [name for name in people if name not in set(apart)]
    num_devel = min(max(round(devel_share * len(others)), 1), len(others) - 1)
    devel = np.random.default_rng([len(people), number]).permutation(others)[:num_devel].tolist()

    partitions: dict[str, Partition] = dict.fromkeys(others, "train")
    partitions |= dict.fromkeys(devel, "devel")
    partitions |= dict.fromkeys(apart, "test")
    sessions = [
        replace(session, partition=partitions[session.subject])
        for session in corpus.sessions
        if session.subject in partitions
    ]

    inner = tuple(session for session in sessions if session.partition != "test")
    return OuterFold(
        name=f"outer fold {number + 1} of {num_folds}",
        corpus=replace(corpus, sessions=inner, digest=_digest(corpus, inner)),
        test=tuple(session for session in sessions if session.partition == "test"),
    )


def _digest(corpus: Corpus, sessions: Sequence[Session]) -> str:
    """Return the digest of a division: that of the corpus, and who is where."""
    divided = [(session.session_id, session.partition) for session in sessions]
    return hashlib.sha256(json.dumps([corpus.digest, divided]).encode()).hexdigest()
