"""Ensembles of finalists: the best mean of several configurations, if it holds on other people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.corpus import Corpus
from pipeline.spec import Protocol
from pipeline.stages.task import StageKeys, Task
from tuning.fitting.scoring import deciding_sessions
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import Difference, Finalist, Member
from tuning.planning.greedy_selection import (
    LEAST_GAIN,
    choose_greedily,
    gain_on_others,
    subject_products,
)


def find_ensemble(
    task: Task,
    ranked: Sequence[Finalist],
    corpus: Corpus,
    upstream: UpstreamPredictions,
    protocol: Protocol,
    max_members: int,
) -> tuple[tuple[Member, ...], Difference] | None:
    """Return the members of an ensemble that is better than the best finalist, and its gain.

    Members are chosen by the deciding score. All fusions of an ensemble read the same regressors
    as the best finalist; regressors may differ in everything.

    Args:
        task: that predicts a target.
        ranked: its finalists, the best first.
        corpus: holds the labels.
        upstream: holds what the finalists output.
        protocol: in sample, devel alone decides.
        max_members: at most so many, one that counts twice counted twice.

    Returns:
        None where there is none, or what it gains on other people is less than `LEAST_GAIN`.
    """
    candidates = [
        finalist
        for finalist in ranked
        if task.stage != "fusion" or finalist.upstream_ranks == ranked[0].upstream_ranks
    ]
    if len(candidates) < 2 or max_members < 2:
        return None

    sessions = deciding_sessions(corpus, protocol)
    outputs = [upstream.stage_outputs(finalist.keys) for finalist in candidates]
    predictions = [[columns[s.session_id][:, 0] for s in sessions] for columns in outputs]
    products = subject_products(sessions, task.target, predictions)

    counts = choose_greedily(products, max_members)
    if sum(counts) == 1:
        return None
    gain = gain_on_others(products, max_members)
    if not np.isfinite(gain.ccc) or gain.ccc < LEAST_GAIN:
        return None

    chosen = [(count, place) for place, count in enumerate(counts) if count]
    members = tuple(
        Member(
            configuration=candidates[place].configuration,
            upstream_ranks=candidates[place].upstream_ranks,
            count=count,
        )
        for count, place in chosen
    )
    return members, Difference.from_score(gain)


def joined_keys(members: Sequence[StageKeys]) -> StageKeys:
    """Return for each fold the keys of all members, those of one seed beside each other.

    Args:
        members: for each member, and as often as it counts, its keys: the same seeds for all.
    """
    num_folds, num_seeds = len(members[0]), len(members[0][0])
    return tuple(
        tuple(keys[fold][seed] for seed in range(num_seeds) for keys in members)
        for fold in range(num_folds)
    )
