"""Sessions and predictions at the label rows of a target, where several rows share a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.model.bands import Band
from pipeline.model.fused_model import Difficulty, Prediction

Series = NDArray[np.float64]


def at_label_rows(
    target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> tuple[tuple[Session, ...], tuple[Prediction, ...]]:
    """Return sessions and their predictions as a target is scored: one row per label row.

    A frame without a label counts for no score, so that frames do as well unless one has several
    rows. Then its prediction counts once for each of them.

    Args:
        target: whose rows count.
        sessions: those evaluated.
        predictions: one per session.
    """
    pairs = [
        _at_rows(target, session, prediction) if _has_shared_frames(target, session) else None
        for session, prediction in zip(sessions, predictions, strict=True)
    ]
    return (
        tuple(pair[0] if pair else each for pair, each in zip(pairs, sessions, strict=True)),
        tuple(pair[1] if pair else each for pair, each in zip(pairs, predictions, strict=True)),
    )


def _has_shared_frames(target: str, session: Session) -> bool:
    rows = session.label_rows.get(target)
    return rows is not None and bool((np.diff(rows.frames) == 0).any())


def _at_rows(target: str, session: Session, prediction: Prediction) -> tuple[Session, Prediction]:
    """Return what an evaluation of one target reads, at the target's rows."""
    rows = session.label_rows[target]
    frames = rows.frames

    def take(series: Mapping[str, Series]) -> dict[str, Series]:
        return {name: values[frames] for name, values in series.items()}

    taken = replace(
        session,
        timestamps_ms=session.timestamps_ms[frames],
        segment_ids=rows.segment_ids,
        features={name: values[frames] for name, values in session.features.items()},
        present={name: values[frames] for name, values in session.present.items()},
        labels={target: rows.values},
        timestamps=rows.timestamps,
        label_rows={},
    )
    return taken, replace(
        prediction,
        timestamps_ms=taken.timestamps_ms,
        values=take({target: prediction.values[target]}),
        difficulty={
            modality: Difficulty(each.error[frames], each.percentile[frames])
            for modality, each in prediction.difficulty.items()
        },
        unimodal={target: take(prediction.unimodal[target])},
        floors={target: take(prediction.floors[target])},
        without_difficulty={
            name: values[frames]
            for name, values in prediction.without_difficulty.items()
            if name == target
        },
        weights={
            name: take(weights) for name, weights in prediction.weights.items() if name == target
        },
        bands={
            name: Band(band.low[frames], band.high[frames])
            for name, band in prediction.bands.items()
            if name == target
        },
    )
