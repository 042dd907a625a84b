"""A small corpus, and a model that was trained on it."""

from __future__ import annotations

import pytest

from pipeline.corpus import Corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_fusion, tiny_spec


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """Return a corpus with two modalities and two targets."""
    return tiny_corpus()


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> StageStore:
    """Return the store that the models share."""
    return StageStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="package")
def model(corpus: Corpus, store: StageStore) -> FusedModel:
    """Return a model that was trained on the corpus in a moment."""
    return train(corpus, tiny_spec(), WorkerPool(corpus, store))


@pytest.fixture(scope="package")
def gateless_model(corpus: Corpus, store: StageStore) -> FusedModel:
    """Return a model whose fusions are recurrent layers without a gate."""
    spec = tiny_spec(fusion=tiny_fusion(kind="recurrent"))

    return train(corpus, spec, WorkerPool(corpus, store))
