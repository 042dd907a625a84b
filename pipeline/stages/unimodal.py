"""Stage 2: features and their difficulty to a target, one regressor per feature set and target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.spec import Spec
from pipeline.stages.cross_fit import Fold
from pipeline.stages.stage import (
    Columns,
    StageTask,
    TrainedStage,
    mean_prediction,
    stage_values,
    task_key,
)


def unimodal_task(
    corpus: Corpus,
    spec: Spec,
    fold: Fold,
    modality: str,
    target: str,
    difficulty: Columns | None,
    upstream: Sequence[str],
) -> StageTask:
    """Learn a target from one feature set on the fold's training sessions.

    Args:
        difficulty: of this modality, from models that never saw the session's subject; None to do without.
        upstream: keys of the auto-encoders it came from.
    """
    devel_ids = tuple(session.session_id for session in corpus.partition("devel"))
    key = task_key(
        stage="unimodal",
        spec=spec.unimodal.model_dump(exclude={"difficulty"}),
        seed=spec.seed,
        train=corpus.digest_of(fold.train_ids, modality=modality, target=target),
        devel=corpus.digest_of(devel_ids, modality=modality, target=target),
        difficulty=[spec.difficulty_scale, spec.protocol, spec.inference, *upstream]
        if difficulty is not None
        else None,
    )
    return StageTask(
        stage="unimodal",
        name=f"{modality} to {target}, {fold.name}",
        modality=modality,
        target=target,
        network=spec.unimodal.network,
        fit=spec.unimodal.fit,
        normalisation=spec.unimodal.normalisation,
        difficulty_scale=spec.difficulty_scale,
        seed=spec.seed,
        train_ids=fold.train_ids,
        devel_ids=devel_ids,
        key=key,
        difficulty=difficulty,
    )


def unimodal_predictions(
    models: Sequence[TrainedStage],
    sessions: Sequence[Session],
    modality: str,
    difficulty: Columns | None,
    device: str = "cpu",
) -> list[NDArray[np.float32]]:
    """The mean of the models' predictions, in the label's unit.

    Returns:
        For each session shape (frames, 1); NaN throughout where the feature set is absent from the whole session:
        a constant guess must not count as an opinion.
    """
    values = [stage_values(session, modality, None, difficulty) for session in sessions]
    return [
        predicted if session.present[modality].any() else np.full_like(predicted, np.nan)
        for session, predicted in zip(
            sessions, mean_prediction(models, values, device), strict=True
        )
    ]
