"""How raw columns become network inputs: z-scores fitted once, on unique training frames, and kept with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0  # a z-score beyond this says "far outside the training range", not how far
DIFFICULTY_CLIP = 5.0  # reconstruction error is heavy-tailed, even as a logarithm
CONSTANT = 1e-7  # a standard deviation below this share of the column's magnitude is rounding


@dataclass(frozen=True)
class Normalisation:
    """Z-scores for one stage's input: feature columns, then difficulty columns.

    Attributes:
        mean, std: shape (columns,), over the unique training frames where the column is present;
            std is infinite for a constant column, which makes its z-score 0.
        missing: shape (columns,): the network input where a value is missing. A missing feature is 0, the training
            mean; a missing difficulty is the hardest there is, because a missing frame is not an easy one.
        side_size: how many of the columns, the last ones, are difficulties.
        normalisation: of the feature columns: "train", "session" (within each session) or "both" (twice as many).
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    missing: NDArray[np.float64]
    difficulty_size: int
    normalisation: Literal["train", "session", "both"]

    @classmethod
    def fit(
        cls,
        sessions: Sequence[NDArray[np.float32]],
        *,
        difficulty_size: int,
        normalisation: Literal["train", "session", "both"],
        difficulty_scale: Literal["log", "raw"],
    ) -> Normalisation:
        """Fit on training sessions, each of shape (frames, columns), NaN where missing."""
        columns = sessions[0].shape[1]
        mean, std = _mean_and_std(sessions)
        missing = np.zeros(columns)
        side = slice(columns - difficulty_size, columns)
        if difficulty_size and difficulty_scale == "raw":
            largest = [np.nanmax(values[:, side], axis=0, initial=0.0) for values in sessions]
            mean[side], std[side], missing[side] = 0.0, 1.0, np.max(largest, axis=0)
        elif difficulty_size:
            missing[side] = DIFFICULTY_CLIP
        return cls(mean, std, missing, difficulty_size, normalisation)

    @property
    def input_size(self) -> int:
        """Columns that `apply` returns."""
        return len(self.mean) + (
            len(self.mean) - self.difficulty_size if self.normalisation == "both" else 0
        )

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """One session's network input, finite.

        Args:
            values: shape (frames, columns), NaN where missing.

        Returns:
            Shape (frames, input_size).
        """
        split = values.shape[1] - self.difficulty_size
        with np.errstate(over="ignore"):
            z = (values - self.mean) / self.std
        parts = [z[:, :split]] if self.normalisation != "session" else []
        if self.normalisation != "train":
            mean, std = _mean_and_std([values[:, :split]])
            parts.append((values[:, :split] - mean) / std)
        features = np.clip(np.concatenate(parts, axis=1), -CLIP, CLIP)
        limit = DIFFICULTY_CLIP if np.any(self.missing[split:] == DIFFICULTY_CLIP) else np.inf
        side = np.clip(z[:, split:], -limit, limit)
        repeats = features.shape[1] // split if split else 0
        fill = np.concatenate([np.tile(self.missing[:split], repeats), self.missing[split:]])
        both = np.concatenate([features, side], axis=1)
        return np.where(np.isnan(both), fill, both).astype(np.float32)


def _mean_and_std(
    sessions: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column over all sessions, NaN left out; (0, infinity) for a column without any value."""
    columns = sessions[0].shape[1]
    count, total = np.zeros(columns), np.zeros(columns)
    for values in sessions:
        count += np.isfinite(values).sum(axis=0)
        total += np.nansum(values, axis=0, dtype=np.float64)
    mean = total / np.maximum(count, 1)
    squares = np.zeros(columns)
    for values in sessions:
        squares += np.nansum((values - mean) ** 2, axis=0, dtype=np.float64)
    std = np.sqrt(squares / np.maximum(count, 1))
    return mean, np.where(std > CONSTANT * np.abs(mean) + 1e-30, std, np.inf)
