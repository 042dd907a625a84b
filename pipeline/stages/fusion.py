"""Stage 3: unimodal predictions and difficulties to a target; and the floors that it has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.spec import Spec
from pipeline.stages.cross_fit import Fold
from pipeline.stages.stage import (
    Columns,
    StageTask,
    TrainedStage,
    mean_prediction,
    stage_values,
    task_key,
)

FUSION, WITHOUT = "fusion", "without difficulty"
"""What people call the fusion that reads difficulties, and the one that reads none."""
FLOORS = {"mean": "mean", "weighted_mean": "weighted mean"}
"""The floors, and what people call them."""


def fusion_task(
    corpus: Corpus,
    spec: Spec,
    fold: Fold,
    target: str,
    predictions: Columns,
    difficulty: Columns | None,
    upstream: Sequence[str],
) -> StageTask:
    """Learn a target from out-of-fold predictions on the fold's training sessions.

    Args:
        predictions: session id -> shape (frames, modalities).
        difficulty: session id -> shape (frames, modalities); None to do without.
        upstream: keys of all the stages they came from.
    """
    devel_ids = tuple(session.session_id for session in corpus.partition("devel"))
    key = task_key(
        stage="fusion",
        spec=spec.fusion.model_dump(exclude={"difficulty"}),
        seed=spec.seed,
        train=corpus.digest_of(fold.train_ids, target=target),
        devel=corpus.digest_of(devel_ids, target=target),
        difficulty=spec.difficulty_scale if difficulty is not None else None,
        predictions=[spec.protocol, spec.inference, *upstream],
    )
    return StageTask(
        stage="fusion",
        name=f"fusion to {target}, {fold.name}"
        + ("" if difficulty is not None else ", without difficulty"),
        modality="",
        target=target,
        network=spec.fusion.network,
        fit=spec.fusion.fit,
        normalisation="train",
        difficulty_scale=spec.difficulty_scale,
        seed=spec.seed,
        train_ids=fold.train_ids,
        devel_ids=devel_ids,
        key=key,
        features=predictions,
        difficulty=difficulty,
    )


def fused_predictions(
    models: Sequence[TrainedStage],
    sessions: Sequence[Session],
    predictions: Columns,
    difficulty: Columns | None,
    device: str = "cpu",
) -> list[NDArray[np.float32]]:
    """The mean of the fusion models' predictions, in the label's unit; shape (frames, 1) for each session.

    Args:
        predictions: session id -> shape (frames, modalities).
        difficulty: likewise, or None if the models read none.
    """
    values = [
        stage_values(session, "", predictions[session.session_id], difficulty)
        for session in sessions
    ]
    return mean_prediction(models, values, device)


def side_by_side(columns: Sequence[Columns]) -> dict[str, NDArray[np.float32]]:
    """Join what several modalities say of the same sessions into shape (frames, modalities) each."""
    return {
        name: np.concatenate([column[name] for column in columns], axis=1) for name in columns[0]
    }


def floors(
    predictions: NDArray[np.float32], weights: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """What needs no network: the mean and the weighted mean of the unimodal predictions.

    Args:
        predictions: shape (frames, modalities), NaN where a modality is absent.
        weights: one per modality, not negative: its devel CCC.

    Returns:
        "mean" and "weighted_mean", shape (frames,); NaN where every modality is absent.
    """
    return {
        "mean": _weighted_mean(predictions, np.ones(predictions.shape[1])),
        "weighted_mean": _weighted_mean(predictions, np.asarray(weights)),
    }


def floor_weights(devel_ccc: Mapping[str, float]) -> dict[str, float]:
    """Each modality's devel CCC, 0 where it is negative or undefined; all 1 where none is positive."""
    weights = {
        name: max(value, 0.0) if np.isfinite(value) else 0.0 for name, value in devel_ccc.items()
    }
    return weights if any(weights.values()) else dict.fromkeys(weights, 1.0)


def _weighted_mean(
    predictions: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    weight = np.where(np.isnan(predictions), 0.0, weights)
    if not weight.any():  # only modalities of no weight are present: they count alike
        weight = np.where(np.isnan(predictions), 0.0, 1.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.nan_to_num(predictions) * weight).sum(axis=1) / weight.sum(axis=1))
