"""Supervised problems for tests, posed in one call."""

from __future__ import annotations

import numpy as np

from pipeline.corpus import Corpus
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan, Fold
from pipeline.stages.task import SupervisedProblem, Task, UpstreamKeys, UpstreamOutputs
from pipeline.stages.trained_stage import Columns


def pose(
    task: Task,
    corpus: Corpus,
    spec: Spec,
    fold: Fold | None = None,
    *,
    keys: UpstreamKeys | None = None,
    predictions: Columns | None = None,
    difficulty: Columns | None = None,
) -> SupervisedProblem:
    """Pose a task's problem on a fold; by default the first of the spec's plan."""
    fold = fold or CrossFitPlan.from_spec(corpus, spec).folds[0]
    key = task.key(corpus, spec, fold, keys)
    presence = None if predictions is None else _everywhere(predictions)
    upstream = UpstreamOutputs(predictions, difficulty, presence)
    return task.problem(corpus, spec, fold, key, upstream)


def _everywhere(predictions: Columns) -> Columns:
    """Return the presence of modalities that are never missing."""
    return {session_id: np.ones_like(columns) for session_id, columns in predictions.items()}
