"""Stage 3: a target from all unimodal predictions and difficulties; and the floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.spec import StageName
from pipeline.stages.task import Task, UpstreamOutputs, raw_inputs
from pipeline.stages.trained_stage import Columns, TrainedStage, mean_of
from pipeline.stages.unimodal import UnimodalTask

FUSION, WITHOUT_DIFFICULTY = "fusion", "without difficulty"
"""The two variants: the fusion as the spec asks for it, and the one that reads no difficulty."""
FLOORS = {"mean": "mean", "weighted_mean": "weighted mean"}
"""The floors, and what people call them."""


class FusionTask(Task):
    """Predict a target from what several modalities predict of it."""

    stage: ClassVar[StageName] = "fusion"

    @property
    def title(self) -> str:
        """Return such as "fusion to arousal"."""
        return f"fusion to {self.target}"

    def upstream_tasks(self, modalities: Sequence[str]) -> tuple[Task, ...]:
        """Return the regressors of its target, one per modality."""
        return tuple(UnimodalTask(modality, self.target) for modality in modalities)

    def predict(
        self,
        models: Sequence[TrainedStage],
        sessions: Sequence[Session],
        upstream: UpstreamOutputs,
        device: str = "cpu",
    ) -> list[NDArray[np.float32]]:
        """Return the mean prediction for every frame, in the label's unit; shape (frames, 1)."""
        predictions = self.predict_with_weights(models, sessions, upstream, device)
        return [prediction for prediction, _ in predictions]

    def predict_with_weights(
        self,
        models: Sequence[TrainedStage],
        sessions: Sequence[Session],
        upstream: UpstreamOutputs,
        device: str = "cpu",
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
        """Return the mean prediction of several models, and the mean weight of each modality.

        Args:
            models: each reads those of the upstream outputs that it was trained with.
            sessions: to predict.
            upstream: everything that any of the models reads.
            device: "cpu" or "cuda".

        Returns:
            For each session the prediction, shape (frames, 1), in the label's unit; and the
            weights, shape (frames, modalities), of those models that have a gate, None if none has.
        """
        by_model = []
        for model in models:
            own_upstream = read_by(model, upstream)
            inputs = [raw_inputs(session, "", own_upstream) for session in sessions]
            by_model.append(model.predict_with_weights(inputs, device))

        predictions: list[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = []
        for outputs in zip(*by_model, strict=True):
            weights = [weights for _, weights in outputs if weights.shape[1]]
            prediction = mean_of([prediction for prediction, _ in outputs])
            predictions.append((prediction, mean_of(weights) if weights else None))
        return predictions


def read_by(model: TrainedStage, upstream: UpstreamOutputs) -> UpstreamOutputs:
    """Return those of the upstream outputs that a fusion was trained with."""
    return UpstreamOutputs(
        predictions=upstream.predictions,
        difficulty=upstream.difficulty if model.reads_difficulty else None,
        presence=upstream.presence if model.num_modalities else None,
        other_predictions=upstream.other_predictions if model.num_other_predictions else None,
    )


def join_columns(columns: Sequence[Columns]) -> dict[str, NDArray[np.float32]]:
    """Put the columns of several modalities beside each other.

    Args:
        columns: one per modality, over the same sessions.

    Returns:
        Session id -> shape (frames, modalities).
    """
    return {
        session_id: np.concatenate([column[session_id] for column in columns], axis=1)
        for session_id in columns[0]
    }


def floors(
    predictions: NDArray[np.float32], weights: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Return what needs no network: the mean and the weighted mean of the unimodal predictions.

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
    """Return each modality's weight in the weighted mean: its devel CCC.

    It is 0 where the CCC is negative or undefined, and 1 for all where none is positive.
    """
    weights = {
        modality: max(ccc, 0.0) if np.isfinite(ccc) else 0.0 for modality, ccc in devel_ccc.items()
    }
    return weights if any(weights.values()) else dict.fromkeys(weights, 1.0)


def _weighted_mean(
    predictions: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    is_missing = np.isnan(predictions)
    weight = np.where(is_missing, 0.0, weights)
    if not weight.any():  # only modalities of no weight are present: they count alike
        weight = np.where(is_missing, 0.0, 1.0)

    with np.errstate(invalid="ignore"):
        total = (np.nan_to_num(predictions) * weight).sum(axis=1)
        return np.asarray(total / weight.sum(axis=1))
