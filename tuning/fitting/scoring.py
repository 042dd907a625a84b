"""Scores on people that a fit never saw: of a single fit, and of a finalist on all folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.corpus import Corpus, Session
from pipeline.fitting.trainer import UNDEFINED_SCORE
from pipeline.metrics.ccc import ccc
from pipeline.spec import Protocol
from pipeline.stages.cross_fit import Fold
from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Columns


@dataclass(frozen=True)
class FitScores:
    """Scores of a single fit; None where undefined.

    Attributes:
        held_out: on the sessions that its fold held out; in sample none were.
        deciding: on these and devel together. Devel alone has few people, and a search that goes
            by it finds what suits them.
    """

    held_out: float | None = None
    deciding: float | None = None


@dataclass(frozen=True)
class FinalistScore:
    """Scores of one seed of a finalist.

    Attributes:
        deciding: ranks finalists: the score on devel and the training subjects together, each
            predicted by models that never saw it. These are more subjects than devel has, and no
            fit was stopped by most of them. In sample: devel's.
        devel: on devel alone.
        out_of_fold: on the training subjects alone; None in sample, or where undefined.
    """

    deciding: float
    devel: float
    out_of_fold: float | None


def fit_scores(
    task: Task, corpus: Corpus, fold: Fold, outputs: Columns, protocol: Protocol
) -> FitScores:
    """Score a single fit.

    Args:
        task: what was fitted.
        corpus: holds the labels.
        fold: which sessions were held out.
        outputs: of the trained stage for these and devel.
        protocol: in sample, no session was held out.
    """
    held_out_ids = () if protocol == "in_sample" else fold.held_out_ids
    held_out = [corpus.session(session_id) for session_id in held_out_ids]
    devel = corpus.partition("devel")
    return FitScores(
        held_out=_known(score(task, held_out, outputs)),
        deciding=_known(score(task, [*held_out, *devel], outputs)),
    )


def finalist_score(
    task: Task, corpus: Corpus, outputs: Columns, protocol: Protocol
) -> FinalistScore:
    """Score what a finalist's models output for every train and devel session."""
    devel, train = corpus.partition("devel"), corpus.partition("train")
    decide = deciding_sessions(corpus, protocol)
    devel_score = _finite(score(task, devel, outputs))
    if protocol == "in_sample":
        return FinalistScore(devel_score, devel_score, None)

    return FinalistScore(
        deciding=_finite(score(task, decide, outputs)),
        devel=devel_score,
        out_of_fold=_known(score(task, train, outputs)),
    )


def deciding_sessions(corpus: Corpus, protocol: Protocol) -> list[Session]:
    """Return the sessions whose score ranks finalists; in sample, those of devel."""
    devel = corpus.partition("devel")
    return list(devel) if protocol == "in_sample" else [*corpus.partition("train"), *devel]


def score(task: Task, sessions: Sequence[Session], outputs: Columns) -> float:
    """Return the pooled CCC over sessions, or minus the mean reconstruction error.

    Returns:
        NaN where it is undefined.
    """
    if not sessions:
        return float("nan")

    series = [outputs[session.session_id][:, 0] for session in sessions]
    output = np.concatenate(series).astype(np.float64)
    if not task.target:
        errors = output[np.isfinite(output)]
        return -float(errors.mean()) if errors.size else float("nan")

    truth = np.concatenate([session.labels[task.target] for session in sessions])
    is_known = np.isfinite(truth) & np.isfinite(output)
    return ccc(truth[is_known], output[is_known])


def _finite(score: float) -> float:
    return score if np.isfinite(score) else UNDEFINED_SCORE


def _known(score: float) -> float | None:
    return score if np.isfinite(score) else None
