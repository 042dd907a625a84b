"""A session to try a model with, when there is none at hand: invented from the model's own scales, of no person."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.model.fused_model import FusedModel

FRAMES = 120
SPOILT = slice(70, 95)


def example_session(model: FusedModel) -> dict[str, Any]:
    """A request: every column drifts around its training mean; the first feature set is noise for a while."""
    random = np.random.default_rng(1)
    features = {}
    for number, (modality, columns) in enumerate(model.columns.items()):
        drift = np.cumsum(random.normal(size=(FRAMES, len(columns))), axis=0)
        z = (drift - drift.mean(axis=0)) / (drift.std(axis=0) + 1e-9)
        if number == 0:
            z[SPOILT] = 6 * random.normal(size=z[SPOILT].shape)
        stages = model.auto_encoders.get(modality, ())
        scale = stages[0].scale if stages and len(stages[0].scale.mean) == len(columns) else None
        if scale is not None:  # a constant column has an infinite deviation, and stays at its mean
            z = scale.mean + z * np.where(np.isfinite(scale.std), scale.std, 0.0)
        features[modality] = {
            "columns": list(columns),
            "data": z.astype(np.float32).astype(float).round(5).tolist(),
        }
    return {"session_id": "example", "features": features}
