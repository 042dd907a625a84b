"""An ensemble: the models of one task, and what they output for sessions they are asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.preprocessing.normalisation import DifficultyScale
from pipeline.stages.difficulty import difficulty_columns
from pipeline.stages.fusion import join_columns
from pipeline.stages.task import StageKeys, UpstreamKeys, UpstreamOutputs
from pipeline.stages.trained_stage import Columns, TrainedStage


@dataclass(frozen=True)
class Ensemble:
    """The models of one task, and what they output.

    Attributes:
        keys: for each fold the keys of its models, one per seed.
        models: those whose mean predicts devel, test and new sessions.
        outputs: session id -> shape (frames, 1), for every training session from the models that
            held it out, and for devel: reconstruction errors, or predictions in the label's unit.
            In sample, a training session was held out by none.
    """

    keys: StageKeys
    models: tuple[TrainedStage, ...]
    outputs: Columns


def read_ensembles(
    scale: DifficultyScale,
    *,
    auto_encoders: Mapping[str, Ensemble] | None = None,
    regressors: Mapping[str, Ensemble] | None = None,
) -> tuple[UpstreamKeys, UpstreamOutputs]:
    """Return what a task reads from ensembles: their keys, and their outputs beside each other.

    Args:
        scale: of the difficulty.
        auto_encoders: modality -> those whose error is its difficulty; None where none is read.
        regressors: modality -> those whose predictions are fused; None but for fusion.
    """
    encoders, regressors = auto_encoders or {}, regressors or {}
    keys = UpstreamKeys(
        auto_encoders={modality: ensemble.keys for modality, ensemble in encoders.items()},
        regressors={modality: ensemble.keys for modality, ensemble in regressors.items()},
    )

    predictions = difficulty = None
    if regressors:
        predictions = join_columns([ensemble.outputs for ensemble in regressors.values()])
    if encoders:
        columns = [difficulty_columns(ensemble.outputs, scale) for ensemble in encoders.values()]
        difficulty = join_columns(columns)
    return keys, UpstreamOutputs(predictions, difficulty)
