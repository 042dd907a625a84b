"""Normalisation: z-scores fitted once, on unique training frames, and kept with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0
"""A z-score beyond this says "far outside the training range", not how far."""
DIFFICULTY_CLIP = 5.0
"""Reconstruction error is heavy-tailed, even as a logarithm."""
CONSTANT = 1e-7
"""A standard deviation below this share of the column's magnitude is rounding."""

NormalisationMode = Literal["train", "session", "both"]
DifficultyScale = Literal["log", "raw"]


@dataclass(frozen=True)
class Normalisation:
    """Z-scores for one stage's input: feature columns, then difficulty columns.

    Attributes:
        mean, std: shape (columns,), over the unique training frames where the column is present;
            std is infinite for a constant column, which makes its z-score 0.
        missing: shape (columns,), the network input where a value is missing. A missing feature is
            0, the training mean. A missing difficulty is the highest, because a missing frame is
            not an easy one.
        difficulty_size: how many of the columns, the last ones, are difficulties.
        mode: of the feature columns: "train" z-scores them with `mean` and `std`, "session" within
            each session, "both" gives every column twice.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    missing: NDArray[np.float64]
    difficulty_size: int
    mode: NormalisationMode

    @classmethod
    def fit(
        cls,
        sessions: Sequence[NDArray[np.float32]],
        *,
        difficulty_size: int,
        mode: NormalisationMode,
        difficulty_scale: DifficultyScale,
        unscaled: slice = slice(0),
    ) -> Normalisation:
        """Fit on training sessions.

        Args:
            sessions: raw inputs, each of shape (frames, columns), NaN where missing.
            difficulty_size: how many of the last columns are difficulties.
            mode: see `Normalisation`.
            difficulty_scale: "raw" difficulties are not z-scored.
            unscaled: columns that are inputs as they are, such as presence.
        """
        num_columns = sessions[0].shape[1]
        mean, std = _mean_and_std(sessions)
        mean[unscaled], std[unscaled] = 0.0, 1.0
        missing = np.zeros(num_columns)
        difficulty = slice(num_columns - difficulty_size, num_columns)

        if difficulty_size and difficulty_scale == "raw":
            largest = [np.nanmax(raw[:, difficulty], axis=0, initial=0.0) for raw in sessions]
            mean[difficulty], std[difficulty] = 0.0, 1.0
            missing[difficulty] = np.max(largest, axis=0)
        elif difficulty_size:
            missing[difficulty] = DIFFICULTY_CLIP

        return cls(mean, std, missing, difficulty_size, mode)

    @property
    def input_size(self) -> int:
        """Return how many columns `apply` returns."""
        num_features = len(self.mean) - self.difficulty_size
        return len(self.mean) + (num_features if self.mode == "both" else 0)

    def apply(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn one session's raw input into network input.

        Args:
            raw: shape (frames, columns), NaN where missing.

        Returns:
            Shape (frames, input_size), finite.
        """
        num_features = raw.shape[1] - self.difficulty_size
        with np.errstate(over="ignore"):
            z = (raw - self.mean) / self.std

        parts = []
        if self.mode != "session":
            parts.append(z[:, :num_features])
        if self.mode != "train":
            mean, std = _mean_and_std([raw[:, :num_features]])
            parts.append((raw[:, :num_features] - mean) / std)
        features = np.clip(np.concatenate(parts, axis=1), -CLIP, CLIP)

        is_scaled = np.any(self.missing[num_features:] == DIFFICULTY_CLIP)
        limit = DIFFICULTY_CLIP if is_scaled else np.inf
        difficulty = np.clip(z[:, num_features:], -limit, limit)

        repeats = features.shape[1] // num_features if num_features else 0
        missing_features = np.tile(self.missing[:num_features], repeats)
        missing = np.concatenate([missing_features, self.missing[num_features:]])
        inputs = np.concatenate([features, difficulty], axis=1)
        return np.where(np.isnan(inputs), missing, inputs).astype(np.float32)


def _mean_and_std(
    sessions: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both per column over all sessions, NaN left out; (0, infinity) for an empty column."""
    num_columns = sessions[0].shape[1]
    counts, totals = np.zeros(num_columns), np.zeros(num_columns)
    for raw in sessions:
        counts += np.isfinite(raw).sum(axis=0)
        totals += np.nansum(raw, axis=0, dtype=np.float64)
    mean = totals / np.maximum(counts, 1)

    squares = np.zeros(num_columns)
    for raw in sessions:
        squares += np.nansum((raw - mean) ** 2, axis=0, dtype=np.float64)
    std = np.sqrt(squares / np.maximum(counts, 1))

    varies = std > CONSTANT * np.abs(mean) + 1e-30
    return mean, np.where(varies, std, np.inf)
