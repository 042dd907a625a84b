"""Long sessions: predicted in overlapping chunks of one length, with linear cross-fades."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Times
from pipeline.model.bands import Band
from pipeline.model.fused_model import Difficulty, Prediction

Arrays = Mapping[str, NDArray[np.float32]]

_WEIGHT_OF = "weight of "
"""What the kind of a series begins with that holds the weights of a target."""


class Model(Protocol):
    """What a fused model does with one session."""

    def predict(self, features: Arrays, *, timestamps_ms: Times) -> Prediction:
        """Predict one session; see `FusedModel.predict`."""
        ...


def chunk_starts(num_frames: int, chunk_frames: int, overlap_frames: int) -> list[int]:
    """Return the first frames of the chunks.

    They are evenly spread, and the last chunk ends with the session.

    Args:
        num_frames: of the session; one that is not longer than a chunk has one chunk.
        chunk_frames: of every chunk.
        overlap_frames: that two neighbours share at least.
    """
    last_start = max(0, num_frames - chunk_frames)
    steps = -(-last_start // (chunk_frames - overlap_frames))
    return [round(start) for start in np.linspace(0, last_start, 1 + steps)]


def predict_in_chunks(
    model: Model,
    features: Arrays,
    timestamps_ms: Times,
    chunk_frames: int,
    overlap_frames: int,
) -> Prediction:
    """Predict one session that is longer than a chunk.

    Args:
        model: predicts one chunk at a time.
        features: modality -> shape (frames, columns).
        timestamps_ms: shape (frames,).
        chunk_frames: of every chunk.
        overlap_frames: that two neighbours share at least.

    Returns:
        The fused predictions, their bands, the difficulties and the weights; nothing else.
    """
    fade = _CrossFade(len(timestamps_ms), chunk_frames, overlap_frames)

    for start in chunk_starts(len(timestamps_ms), chunk_frames, overlap_frames):
        chunk = slice(start, start + chunk_frames)
        fade.add(
            model.predict(
                {modality: values[chunk] for modality, values in features.items()},
                timestamps_ms=timestamps_ms[chunk],
            ),
            chunk,
        )

    return Prediction(
        timestamps_ms=timestamps_ms,
        values=fade.means("value"),
        difficulty=fade.difficulty(),
        unimodal={},
        floors={},
        without_difficulty={},
        bands=fade.bands(),
        weights=fade.weights(),
    )


class _CrossFade:
    """Weighted means of what chunks predict; a chunk's weight falls linearly to its ends."""

    def __init__(self, num_frames: int, chunk_frames: int, overlap_frames: int) -> None:
        ramp = np.arange(1, chunk_frames + 1)
        to_nearer_end = np.minimum(ramp, ramp[::-1])
        self._weight = np.minimum(to_nearer_end, overlap_frames).astype(np.float64)

        self._total_weight = np.zeros(num_frames)
        self._sums: dict[tuple[str, str], NDArray[np.float64]] = {}

    def add(self, prediction: Prediction, chunk: slice) -> None:
        """Add what one chunk predicts."""
        self._total_weight[chunk] += self._weight

        for target, values in prediction.values.items():
            self._add(("value", target), values, chunk)
        for target, band in prediction.bands.items():
            self._add(("low", target), band.low, chunk)
            self._add(("high", target), band.high, chunk)
        for modality, difficulty in prediction.difficulty.items():
            self._add(("error", modality), difficulty.error, chunk)
            self._add(("percentile", modality), difficulty.percentile, chunk)
        for target, weights in prediction.weights.items():
            for modality, series in weights.items():
                self._add((f"{_WEIGHT_OF}{target}", modality), series, chunk)

    def means(self, kind: str) -> dict[str, NDArray[np.float64]]:
        """Return the means of one kind: by target or, of "error" and "percentile", by modality."""
        return {
            name: total / self._total_weight
            for (series_kind, name), total in self._sums.items()
            if series_kind == kind
        }

    def bands(self) -> dict[str, Band]:
        """Return the band of every target that has one: the means of its ends."""
        highs = self.means("high")
        return {target: Band(low, highs[target]) for target, low in self.means("low").items()}

    def difficulty(self) -> dict[str, Difficulty]:
        """Return the mean difficulty of every modality."""
        percentiles = self.means("percentile")
        return {
            modality: Difficulty(error, percentiles[modality])
            for modality, error in self.means("error").items()
        }

    def weights(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Return the mean weight of every modality, by target."""
        kinds = dict.fromkeys(kind for kind, _ in self._sums if kind.startswith(_WEIGHT_OF))
        return {kind.removeprefix(_WEIGHT_OF): self.means(kind) for kind in kinds}

    def _add(self, key: tuple[str, str], series: NDArray[np.float64], chunk: slice) -> None:
        total = self._sums.setdefault(key, np.zeros(len(self._total_weight)))
        total[chunk] += self._weight * series
