"""What a task reads: outputs of earlier stages beside each other, for sessions and their copies.

Knows no models: the outputs are those of ensembles, or were read from a store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.networks.modality_gate import NO_PREDICTION
from pipeline.preprocessing.corruption import column_std, corrupted_copy
from pipeline.preprocessing.normalisation import DifficultyScale
from pipeline.preprocessing.stuck import mark_stuck
from pipeline.spec import CorruptionKind
from pipeline.stages.difficulty import difficulty_columns
from pipeline.stages.fusion import join_columns
from pipeline.stages.task import UpstreamOutputs
from pipeline.stages.trained_stage import Columns

COPY_KINDS: tuple[CorruptionKind, ...] = ("freeze", "noise", "shift")
"""The corruptions of which stages predict copies; of a dropped modality there is no output."""


@dataclass(frozen=True)
class StageOutputs:
    """What one ensemble outputs.

    Attributes:
        outputs: session id -> shape (frames, 1).
        copies: kind of corruption -> the same for copies in which its modality is spoilt.
    """

    outputs: Columns
    copies: Mapping[CorruptionKind, Columns] = field(default_factory=dict)


def join_upstream(
    corpus: Corpus,
    scale: DifficultyScale,
    *,
    auto_encoders: Mapping[str, StageOutputs] | None = None,
    regressors: Mapping[str, StageOutputs] | None = None,
    other_regressors: Mapping[str, Mapping[str, StageOutputs]] | None = None,
    copy_kinds: Sequence[CorruptionKind] = (),
) -> UpstreamOutputs:
    """Return what a task reads of train and devel, modalities beside each other.

    Args:
        corpus: says where modalities are present.
        scale: of the difficulty.
        auto_encoders: modality -> reconstruction errors; None where no difficulty is read.
        regressors: modality -> predictions to fuse; None but for fusion.
        other_regressors: other target -> modality -> predictions that are read beside these.
        copy_kinds: the corruptions whose copies a fusion learns from.
    """
    clean = _join(corpus, scale, auto_encoders, regressors, other_regressors, None)
    if not regressors:
        return clean

    copies = {
        kind: _join(corpus, scale, auto_encoders, regressors, other_regressors, kind)
        for kind in copy_kinds
    }
    return UpstreamOutputs(
        clean.predictions, clean.difficulty, clean.presence, clean.other_predictions, copies
    )


def corrupt_corpus(corpus: Corpus, modality: str, kind: CorruptionKind) -> Corpus:
    """Return the train and devel sessions of a corpus as their copies with one modality spoilt.

    Args:
        corpus: its training sessions say how large the noise is.
        modality: what is spoilt.
        kind: how: see `corrupted_copy`.
    """
    std = column_std(corpus.partition("train"), modality)
    sessions = (*corpus.partition("train"), *corpus.partition("devel"))
    return corpus.select(
        [corrupt_session(session, modality, kind, std, corpus) for session in sessions]
    )


def corrupt_session(
    session: Session,
    modality: str,
    kind: CorruptionKind,
    std: NDArray[np.float64],
    corpus: Corpus,
) -> Session:
    """Return the copy of a session with one modality spoilt, as models see it.

    Args:
        session: of the corpus.
        modality: what is spoilt.
        kind: how: see `corrupted_copy`.
        std: standard deviation of the modality's columns in training.
        corpus: says for how long a feature set may hold its values.
    """
    copy = corrupted_copy(session, modality, kind, std)
    return mark_stuck(copy, corpus.max_held_frames)


def presence_columns(
    sessions: Sequence[Session], modalities: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return where modalities are present.

    Args:
        sessions: of any partition.
        modalities: in the order in which a fusion reads them.

    Returns:
        Session id -> shape (frames, modalities): 1 at a frame where the modality is present, 0
        where it is missing, `NO_PREDICTION` throughout where it is missing from the whole session.
    """
    columns = {}
    for session in sessions:
        present = np.stack([session.present[modality] for modality in modalities], axis=1)
        missing = np.where(present.any(axis=0), 0.0, NO_PREDICTION)
        columns[session.session_id] = np.where(present, 1.0, missing).astype(np.float32)
    return columns


def _with_copies(
    session: Session, modalities: Sequence[str], kind: CorruptionKind, corpus: Corpus
) -> Session:
    """Return a session in which every modality is spoilt as in its own copy."""
    for modality in modalities:
        session = corrupted_copy(session, modality, kind)
    return mark_stuck(session, corpus.max_held_frames)


def _join(
    corpus: Corpus,
    scale: DifficultyScale,
    auto_encoders: Mapping[str, StageOutputs] | None,
    regressors: Mapping[str, StageOutputs] | None,
    other_regressors: Mapping[str, Mapping[str, StageOutputs]] | None,
    kind: CorruptionKind | None,
) -> UpstreamOutputs:
    predictions = difficulty = presence = other_predictions = None

    if regressors:
        predictions = join_columns([_outputs(stage, kind) for stage in regressors.values()])
        sessions = [*corpus.partition("train"), *corpus.partition("devel")]
        if kind is not None and kind != "noise":  # noise leaves presence as it is
            sessions = [
                _with_copies(session, list(regressors), kind, corpus) for session in sessions
            ]
        presence = presence_columns(sessions, list(regressors))
    if other_regressors:
        others = [stage for stages in other_regressors.values() for stage in stages.values()]
        other_predictions = join_columns([_outputs(stage, kind) for stage in others])
    if auto_encoders:
        errors = [_outputs(stage, kind) for stage in auto_encoders.values()]
        difficulty = join_columns([difficulty_columns(error, scale) for error in errors])

    return UpstreamOutputs(predictions, difficulty, presence, other_predictions)


def _outputs(stage: StageOutputs, kind: CorruptionKind | None) -> Columns:
    """Return the outputs for the sessions, or for their copies; of a dropped modality none."""
    if kind is None:
        return stage.outputs
    if kind == "drop":
        return {name: np.full_like(output, np.nan) for name, output in stage.outputs.items()}
    return stage.copies[kind]
