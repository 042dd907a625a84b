"""Stage 1: the task of rebuilding a feature set."""

from __future__ import annotations

from pipeline.corpus import Corpus
from pipeline.spec import Spec
from pipeline.stages.cross_fit import Fold
from pipeline.stages.stage import StageTask, task_key


def auto_encoder_task(corpus: Corpus, spec: Spec, fold: Fold, modality: str) -> StageTask:
    """Learn to rebuild a feature set from itself, on the fold's training sessions."""
    devel_ids = tuple(session.session_id for session in corpus.partition("devel"))
    key = task_key(
        stage="auto_encoder",
        spec=spec.auto_encoder.model_dump(),
        seed=spec.seed,
        train=corpus.digest_of(fold.train_ids, modality=modality),
        devel=corpus.digest_of(devel_ids, modality=modality),
    )
    return StageTask(
        stage="auto_encoder",
        name=f"auto-encoder {modality}, {fold.name}",
        modality=modality,
        target="",
        network=spec.auto_encoder.network,
        fit=spec.auto_encoder.fit,
        normalisation="train",
        difficulty_scale=spec.difficulty_scale,
        seed=spec.seed,
        train_ids=fold.train_ids,
        devel_ids=devel_ids,
        key=key,
    )
