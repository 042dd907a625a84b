"""Timing: a session's frames to those that a regressor works at, and its outputs back to them.

Annotators lag behind what they saw. Moving labels earlier by a constant delay for training, and
predictions back, is the standard correction:

Mariooryad, S. and Busso, C. (2015): Correcting time-continuous emotional labels by modeling the
reaction lag of evaluators. IEEE Transactions on Affective Computing 6(2), 97-108.
Huang, Z. et al. (2015): An investigation of annotation delay compensation and output-associative
fusion for multimodal continuous emotion prediction. AVEC 2015, 41-48.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.preprocessing.context import context_columns


@dataclass(frozen=True)
class Timing:
    """How a regressor sees time, in frames of the session; by default as it is.

    Attributes:
        delay_frames: how far labels lag behind the features: the features at a frame learn the
            label of so many frames later.
        context_frames: lengths of the windows whose mean and slope are further input columns.
        is_context_centred: see `context_columns`.
        resample_frames: how many frames of the session are one frame of the network.
    """

    delay_frames: int = 0
    context_frames: tuple[int, ...] = ()
    is_context_centred: bool = False
    resample_frames: int = 1

    def network_inputs(
        self, raw: NDArray[np.float32], *, difficulty_size: int
    ) -> NDArray[np.float32]:
        """Turn a session's raw inputs into those at the network's frames.

        Args:
            raw: shape (frames, columns), NaN where missing.
            difficulty_size: how many of the last columns are difficulties, which have no context.

        Returns:
            Shape (network frames, columns): features, their context, difficulties; NaN where
            missing. Where the network's frames are longer, each is the mean of what it has.
        """
        if self.context_frames:
            num_features = raw.shape[1] - difficulty_size
            features, difficulty = raw[:, :num_features], raw[:, num_features:]
            context = context_columns(
                features, self.context_frames, is_centred=self.is_context_centred
            )
            raw = np.concatenate([features, context, difficulty], axis=1)

        return self._resampled(raw)

    def network_labels(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the label that each frame of the network learns.

        Args:
            labels: shape (frames,), NaN where unknown.

        Returns:
            Shape (network frames,); NaN where unknown, as at the end, whose features have no label
            yet.
        """
        if self.delay_frames:
            delayed = labels[self.delay_frames :]
            end = np.full(len(labels) - len(delayed), np.nan)
            labels = np.concatenate([delayed, end])

        return self._resampled(labels[:, None])[:, 0]

    def session_outputs(self, outputs: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
        """Turn a network's outputs into those at the session's frames.

        Between the middles of two of the network's frames the output is on a line; before the first
        and after the last it is constant. So the first frames, whose features lie before the
        session by the delay, repeat the first output.

        Args:
            outputs: shape (network frames, outputs).
            num_frames: of the session.

        Returns:
            Shape (num_frames, outputs).
        """
        frames = np.maximum(np.arange(num_frames) - self.delay_frames, 0)
        if self.resample_frames == 1:
            return outputs[frames] if self.delay_frames else outputs

        starts = np.arange(0, num_frames, self.resample_frames)
        stops = np.minimum(starts + self.resample_frames, num_frames)
        middles = (starts + stops - 1) / 2
        columns = [np.interp(frames, middles, column) for column in outputs.T]
        return np.stack(columns, axis=1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the record of a trained stage; `from_json` reads it."""
        return {**asdict(self), "context_frames": list(self.context_frames)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return the timing of a record; what it lacks is as it is by default."""
        return cls(**{**record, "context_frames": tuple(record.get("context_frames", ()))})

    def _resampled(self, series: NDArray[Any]) -> NDArray[Any]:
        """Return the means over blocks of frames, shape (network frames, columns); NaN left out."""
        if self.resample_frames == 1:
            return series

        starts = np.arange(0, len(series), self.resample_frames)
        is_known = np.isfinite(series)
        totals = np.add.reduceat(np.where(is_known, series, 0.0), starts, axis=0, dtype=np.float64)
        counts = np.add.reduceat(is_known, starts, axis=0, dtype=np.int64)
        with np.errstate(invalid="ignore"):
            means = totals / np.where(counts, counts, np.nan)
        return means.astype(series.dtype)
