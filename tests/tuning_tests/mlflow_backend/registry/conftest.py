"""A tiny corpus, a model of it, and its bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus import Corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import save_model
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """A corpus of two modalities and two targets."""
    return tiny_corpus()


@pytest.fixture(scope="package")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """A fused model of the corpus."""
    store = StageStore(tmp_path_factory.mktemp("store"))
    return train(corpus, tiny_spec(), WorkerPool(corpus, store))


@pytest.fixture(scope="package")
def bundle(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's bundle, with a card that is longer than MLflow takes."""
    folder = tmp_path_factory.mktemp("winner") / "model"
    save_model(model, folder, card="# The card\n" + "A sentence of the card.\n" * 400)
    return folder
