"""What tests of the endpoint share: one small bundle, and a client of the application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.corpus import Corpus
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from serving.app import build_app
from serving.predictor import Predictor
from serving.settings import Settings
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec


@dataclass(frozen=True)
class Client:
    """Speaks to the ASGI application directly: what comes back is what a server would send."""

    app: Any

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.send("GET", path, headers=headers)

    def post(
        self, body: bytes | dict[str, Any], *, kind: str = "application/json", **headers: str
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(
            "POST", "/v1/predictions", content=content, headers={"content-type": kind, **headers}
        )

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            arguments["headers"] = {
                k: v.encode("latin-1") for k, v in arguments.get("headers", {}).items()
            }
            async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(once())


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return tiny_corpus()


@pytest.fixture(scope="session")
def bundle(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained bundle as `affectune train` writes it."""
    folder = tmp_path_factory.mktemp("served") / "model"
    with WorkerPool(corpus, StageStore(tmp_path_factory.mktemp("served-store"))) as pool:
        model = train(corpus, tiny_spec(), pool)
    evaluation = evaluate(model, corpus, "devel")
    summary = json.dumps(evaluation.to_json("model")).encode()
    model.save(folder, card=model_card(model, evaluation, []), others={"summary.json": summary})
    return folder


@pytest.fixture
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle, "affectune", "3", Settings())


@pytest.fixture
def client_of(bundle: Path) -> Callable[..., Client]:
    """A client of an application with these settings."""

    def make(**settings: Any) -> Client:
        chosen = Settings.model_validate(settings)
        loaded = Predictor.load(bundle, "affectune", "3", chosen)
        return Client(build_app(lambda: loaded, chosen))

    return make


@pytest.fixture
def client(client_of: Callable[..., Client]) -> Client:
    return client_of()
