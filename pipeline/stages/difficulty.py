"""Difficulty: an auto-encoder's reconstruction error per frame (Hamieh et al. 2021, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.preprocessing.normalisation import DifficultyScale
from pipeline.stages.task import UpstreamOutputs, raw_inputs
from pipeline.stages.trained_stage import Columns, TrainedStage

PERCENTILES = np.linspace(0, 100, 101)


def reconstruction_errors(
    models: Sequence[TrainedStage], sessions: Sequence[Session], modality: str, device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """Return the mean over columns of the squared error in z-scores, as the mean over the models.

    With z the normalised features of a frame, z' what an auto-encoder rebuilds of them, and C
    columns, the error of the frame is sum((z' - z)^2) / C.

    Returns:
        For each session shape (frames, 1); NaN where the modality is missing: unknown, not easy.
    """
    inputs = [raw_inputs(session, modality, UpstreamOutputs()) for session in sessions]
    totals = [np.zeros((session.num_frames, 1)) for session in sessions]

    for model in models:
        outputs = model.predict(inputs, device)
        for total, raw, output in zip(totals, inputs, outputs, strict=True):
            squares = (output - model.normalisation.apply(raw)) ** 2
            total += squares.mean(axis=1, keepdims=True, dtype=np.float64)

    errors = []
    for session, total in zip(sessions, totals, strict=True):
        is_present = session.present[modality][:, None]
        errors.append(np.where(is_present, total / len(models), np.nan).astype(np.float32))
    return errors


def difficulty_columns(errors: Columns, scale: DifficultyScale) -> Columns:
    """Return reconstruction errors as network inputs.

    "log" tames their heavy tail by log1p, to be z-scored by each stage; "raw" leaves
    them as they are.
    """
    if scale == "raw":
        return errors
    return {session_id: np.log1p(error) for session_id, error in errors.items()}


def reference_percentiles(errors: Sequence[NDArray[np.float32]]) -> list[float]:
    """Return the percentiles 0, 1, ... 100 of out-of-fold errors, to compare frames with."""
    values = np.concatenate([error.ravel() for error in errors])
    values = values[np.isfinite(values)]
    if not values.size:
        return [0.0] * len(PERCENTILES)
    return [float(value) for value in np.percentile(values, PERCENTILES)]


def percentile(errors: NDArray[np.float32], references: Sequence[float]) -> NDArray[np.float64]:
    """Return where each error stands among the references: 0 the easiest, 100 the hardest.

    Args:
        errors: shape (frames,).
        references: see `reference_percentiles`.

    Returns:
        Shape (frames,); NaN where the error is NaN.
    """
    ranks = np.interp(errors, np.asarray(references), PERCENTILES)
    return np.where(np.isnan(errors), np.nan, ranks)


def spearman(
    errors: Sequence[NDArray[np.floating[Any]]], residuals: Sequence[NDArray[np.floating[Any]]]
) -> float:
    """Return Spearman's rank correlation of difficulty with absolute error.

    Args:
        errors: reconstruction errors, shape (frames,) per session.
        residuals: prediction minus label, likewise.

    Returns:
        The correlation over all frames where both are known; NaN where it is undefined.
    """
    from scipy.stats import spearmanr  # takes a second to import, and workers have no use for it

    error = np.concatenate(list(errors))
    residual = np.abs(np.concatenate(list(residuals)))
    is_known = np.isfinite(error) & np.isfinite(residual)
    error, residual = error[is_known], residual[is_known]

    if len(error) < 3 or np.ptp(error) == 0 or np.ptp(residual) == 0:
        return float("nan")
    return float(spearmanr(error, residual).statistic)
