"""A small corpus, an ensemble that was trained on it, and what became of distilling it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.corpus import Corpus
from pipeline.distillation.distil import distil
from pipeline.distillation.lessons import Lessons, lessons_from
from pipeline.distillation.student import fit_student
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec

STAGE = {
    "network": {"num_layers": 1, "hidden_size": 8, "dropout": 0.0},
    "fit": {"max_epochs": 12, "batch_size": 4, "learning_rate": 0.01},
}
SPEC = tiny_spec(auto_encoder=STAGE, unimodal=STAGE, fusion=STAGE, folds=2, inference="distilled")


@dataclass(frozen=True)
class Distilled:
    """A teacher, and what `distil` made of it."""

    teacher: FusedModel
    student: FusedModel
    model: FusedModel
    lessons: Lessons
    store: Path


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """Return a corpus with two modalities and two targets."""
    return tiny_corpus()


@pytest.fixture(scope="package")
def distilled(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    """Train an ensemble of two folds, and distil it."""
    store = tmp_path_factory.mktemp("store")
    pool = WorkerPool(corpus, StageStore(store))
    teacher = train(corpus, SPEC.model_copy(update={"inference": "fold_mean"}), pool)

    lessons = lessons_from(teacher, corpus, SPEC.seed)
    student = fit_student(teacher, lessons, WorkerPool(lessons.corpus, StageStore(store)))
    return Distilled(teacher, student, distil(teacher, corpus, pool), lessons, store)
