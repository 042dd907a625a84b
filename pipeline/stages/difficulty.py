"""How hard a frame is: the auto-encoder's reconstruction error, and its scale (Hamieh et al. 2021, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.stages.stage import Columns, TrainedStage, stage_values

PERCENTILES = np.linspace(0, 100, 101)


def reconstruction_errors(
    models: Sequence[TrainedStage], sessions: Sequence[Session], modality: str, device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """Mean over columns of the squared error in z-scores, one number per frame, mean over the models.

    Returns:
        For each session shape (frames, 1); NaN where the feature set is not present: unknown, not easy.
    """
    totals = [np.zeros((session.num_frames, 1)) for session in sessions]
    for model in models:
        values = [stage_values(session, modality, None, None) for session in sessions]
        for total, raw, rebuilt in zip(totals, values, model.predict(values, device), strict=True):
            total += ((rebuilt - model.scale.apply(raw)) ** 2).mean(
                axis=1, keepdims=True, dtype=np.float64
            )
    return [
        np.where(session.present[modality][:, None], total / len(models), np.nan).astype(np.float32)
        for session, total in zip(sessions, totals, strict=True)
    ]


def difficulty_columns(errors: Columns, scale: Literal["log", "raw"]) -> Columns:
    """Reconstruction errors as network inputs: their logarithm tames the heavy tail; each stage z-scores it."""
    return {name: np.log1p(error) for name, error in errors.items()} if scale == "log" else errors


def references(errors: Sequence[NDArray[np.float32]]) -> list[float]:
    """The percentiles 0, 1, ... 100 of out-of-fold errors: what a new frame is compared with."""
    values = np.concatenate([error.ravel() for error in errors])
    values = values[np.isfinite(values)]
    return (
        [float(value) for value in np.percentile(values, PERCENTILES)]
        if values.size
        else [0.0] * len(PERCENTILES)
    )


def percentile(errors: NDArray[np.float32], reference: Sequence[float]) -> NDArray[np.float64]:
    """Where each error stands among the references, 0 (easiest) to 100 (hardest); NaN where it is NaN."""
    ranked = np.interp(errors, np.asarray(reference), PERCENTILES)
    return np.where(np.isnan(errors), np.nan, ranked)


def spearman(
    errors: Sequence[NDArray[np.floating[Any]]], residuals: Sequence[NDArray[np.floating[Any]]]
) -> float:
    """Rank correlation of difficulty with absolute error over all frames where both are known; NaN where undefined."""
    from scipy.stats import (
        spearmanr,  # a second to import, and workers and replicas have no use for it
    )

    error, residual = np.concatenate(list(errors)), np.abs(np.concatenate(list(residuals)))
    use = np.isfinite(error) & np.isfinite(residual)
    if use.sum() < 3 or np.ptp(error[use]) == 0 or np.ptp(residual[use]) == 0:
        return float("nan")
    return float(spearmanr(error[use], residual[use]).statistic)
