"""Long sessions: predicted in overlapping chunks of one length, which cross-fade linearly where they overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.model.fused_model import Difficulty, Prediction

Arrays = Mapping[str, NDArray[np.float32]]


class Predicts(Protocol):
    """What a fused model does with one session."""

    def predict(self, features: Arrays, *, timestamps_ms: NDArray[np.int64]) -> Prediction: ...


def chunk_starts(frames: int, chunk_frames: int, overlap_frames: int) -> list[int]:
    """First frames of the chunks: evenly spread, all of one length, the last one ending with the session."""
    count = 1 + max(0, -(-(frames - chunk_frames) // (chunk_frames - overlap_frames)))
    return [round(start) for start in np.linspace(0, max(0, frames - chunk_frames), count)]


def predict_long(
    model: Predicts,
    features: Arrays,
    timestamps_ms: NDArray[np.int64],
    chunk_frames: int,
    overlap_frames: int,
) -> Prediction:
    """Predict one session: whole where it fits into a chunk, else chunk by chunk.

    Returns:
        The fused predictions and the difficulties; nothing else.
    """
    frames = len(timestamps_ms)
    if frames <= chunk_frames:
        return model.predict(features, timestamps_ms=timestamps_ms)
    total = np.zeros(frames)
    sums: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for start in chunk_starts(frames, chunk_frames, overlap_frames):
        part = slice(start, start + chunk_frames)
        said = model.predict(
            {name: values[part] for name, values in features.items()},
            timestamps_ms=timestamps_ms[part],
        )
        ramp = np.arange(1, chunk_frames + 1)
        weight = np.minimum(np.minimum(ramp, ramp[::-1]), overlap_frames).astype(np.float64)
        total[part] += weight
        for name, series in _series(said).items():
            sums.setdefault(name, np.zeros(frames))[part] += weight * series
    means = {name: values / total for name, values in sums.items()}
    return Prediction(
        timestamps_ms=timestamps_ms,
        values={name[1]: values for name, values in means.items() if name[0] == "value"},
        difficulty={
            name[1]: Difficulty(values, means["percentile", name[1]])
            for name, values in means.items()
            if name[0] == "error"
        },
        unimodal={},
        floors={},
        without_difficulty={},
    )


def _series(said: Prediction) -> dict[tuple[str, ...], NDArray[np.float64]]:
    return {
        **{("value", target): series for target, series in said.values.items()},
        **{("error", modality): hard.error for modality, hard in said.difficulty.items()},
        **{("percentile", modality): hard.percentile for modality, hard in said.difficulty.items()},
    }
