"""A small corpus, and a model that was trained on it."""

from __future__ import annotations

import pytest

from pipeline.corpus import Corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """Return a corpus with two modalities and two targets."""
    return tiny_corpus()


@pytest.fixture(scope="package")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a model that was trained on the corpus in a moment."""
    store = StageStore(tmp_path_factory.mktemp("store"))

    return train(corpus, tiny_spec(), WorkerPool(corpus, store))
