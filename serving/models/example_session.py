"""An invented session to try a model with: made from the model's own scales, of no person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.model.fused_model import FusedModel
from serving.models.model_input import training_scale

NUM_FRAMES = 120
NOISE = slice(70, 95)
NOISE_STD = 6


def example_request(model: FusedModel) -> dict[str, Any]:
    """Return the features of `example_features` as a `PredictionRequest`."""
    features = {
        modality: {"columns": list(model.columns[modality]), "data": values.tolist()}
        for modality, values in example_features(model).items()
    }
    return {"session_id": "example", "features": features}


def example_features(model: FusedModel) -> dict[str, NDArray[np.float64]]:
    """Return an invented session, the same one every time.

    Every column drifts around its training mean; the first modality is noise for a while.

    Returns:
        modality -> shape (`NUM_FRAMES`, columns), in the model's order.
    """
    random = np.random.default_rng(1)
    features = {}

    for number, (modality, columns) in enumerate(model.columns.items()):
        z = _drift(random, len(columns))
        if number == 0:
            z[NOISE] = NOISE_STD * random.normal(size=z[NOISE].shape)

        scale = training_scale(model, modality)
        if scale is not None:  # a constant column has an infinite deviation, and stays at its mean
            z = scale.mean + z * np.where(np.isfinite(scale.std), scale.std, 0.0)
        features[modality] = z.astype(np.float32).astype(np.float64).round(5)

    return features


def _drift(random: np.random.Generator, num_columns: int) -> NDArray[np.float64]:
    """Return random walks as z-scores, shape (`NUM_FRAMES`, columns)."""
    walks = np.cumsum(random.normal(size=(NUM_FRAMES, num_columns)), axis=0)
    z: NDArray[np.float64] = (walks - walks.mean(axis=0)) / (walks.std(axis=0) + 1e-9)
    return z
