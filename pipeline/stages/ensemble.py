"""An ensemble: the models of one task, and what they output for sessions they are asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.spec import CorruptionKind
from pipeline.stages.task import StageKeys, UpstreamKeys
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
        copies: returns, for a kind of corruption, outputs likewise for copies of these sessions in
            which the modality is spoilt (`corrupted_copy`): a fusion learns from them.
    """

    keys: StageKeys
    models: tuple[TrainedStage, ...]
    outputs: Columns
    copies: Callable[[CorruptionKind], Columns]


def upstream_keys(
    *,
    auto_encoders: Mapping[str, Ensemble] | None = None,
    regressors: Mapping[str, Ensemble] | None = None,
    other_regressors: Mapping[str, Mapping[str, Ensemble]] | None = None,
) -> UpstreamKeys:
    """Return the keys of the ensembles that a task reads.

    Args:
        auto_encoders: modality -> those whose error is its difficulty; None where none is read.
        regressors: modality -> those whose predictions are fused; None but for fusion.
        other_regressors: other target -> modality -> those that a fusion reads beside its own.
    """
    return UpstreamKeys(
        auto_encoders=_keys(auto_encoders or {}),
        regressors=_keys(regressors or {}),
        other_regressors={
            target: _keys(ensembles) for target, ensembles in (other_regressors or {}).items()
        },
    )


def _keys(ensembles: Mapping[str, Ensemble]) -> dict[str, StageKeys]:
    return {modality: ensemble.keys for modality, ensemble in ensembles.items()}
