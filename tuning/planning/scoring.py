"""How good a configuration is: the score that decides among finalists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.corpus import Corpus, Session
from pipeline.fitting.trainer import UNDEFINED_SCORE
from pipeline.metrics.ccc import ccc
from pipeline.spec import Protocol
from pipeline.stages.cross_fit import Fold
from pipeline.stages.stage import Columns
from tuning.fitting.held_out_predictions import HeldOutPredictions
from tuning.spec.tasks import Task


@dataclass(frozen=True)
class FinalistScore:
    """What one seed of a configuration reached.

    Attributes:
        score: decides; the CCC over devel and the training subjects together, each predicted by models that never saw
            it: more subjects than devel has, and no fit was stopped by most of them. In sample: devel's. For an
            auto-encoder minus the mean error, likewise.
        devel: on devel alone.
        out_of_fold: on the training subjects alone; None in sample, or where undefined.
    """

    score: float
    devel: float
    out_of_fold: float | None


def verdict(task: Task, corpus: Corpus, words: Columns, protocol: Protocol) -> FinalistScore:
    """Judge what a stage says of every train and devel session."""
    devel, train = corpus.partition("devel"), corpus.partition("train")
    on_devel = score_of(task, devel, words)
    if protocol == "in_sample":
        return FinalistScore(_finite(on_devel), _finite(on_devel), None)
    on_train = score_of(task, train, words)
    score = _finite(score_of(task, [*train, *devel], words))
    return FinalistScore(score, _finite(on_devel), on_train if np.isfinite(on_train) else None)


def score_of(task: Task, sessions: Sequence[Session], words: Columns) -> float:
    """The pooled CCC over these sessions, or minus the mean reconstruction error; NaN where undefined."""
    if not sessions:
        return float("nan")
    said = np.concatenate([words[session.session_id][:, 0] for session in sessions]).astype(
        np.float64
    )
    if not task.target:
        said = said[np.isfinite(said)]
        return -float(said.mean()) if said.size else float("nan")
    truth = np.concatenate([session.labels[task.target] for session in sessions])
    use = np.isfinite(truth) & np.isfinite(said)
    return ccc(truth[use], said[use])


def fit_scores(
    task: Task, corpus: Corpus, fold: Fold, said: HeldOutPredictions, protocol: Protocol
) -> dict[str, float | None]:
    """What a single fit reached on people that it never saw; None where undefined.

    Returns:
        "held_out": on the sessions that its fold held out (in sample: none were). "deciding": on these and devel
        together. Devel alone has few people, and a search that goes by it finds what suits them.
    """
    held_out = (
        [] if protocol == "in_sample" else [corpus.session(name) for name in fold.held_out_ids]
    )
    scores = {
        "held_out": score_of(task, held_out, said.columns),
        "deciding": score_of(task, [*held_out, *corpus.partition("devel")], said.columns),
    }
    return {name: score if np.isfinite(score) else None for name, score in scores.items()}


def _finite(score: float) -> float:
    return score if np.isfinite(score) else UNDEFINED_SCORE
