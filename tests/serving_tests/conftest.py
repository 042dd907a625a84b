"""What tests of the endpoint share: one small bundle, and a client that needs no server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.corpus import Corpus
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import save_model
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from serving.app import build_app
from serving.models.predictor import Predictor
from serving.settings import Settings
from tests.pipeline_tests.corpora import band_calibration, tiny_corpus, tiny_fusion, tiny_spec


@dataclass(frozen=True)
class Client:
    """Speaks to the ASGI application directly: it gets what a server would send."""

    app: Any

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Send a GET request."""
        return self.send("GET", path, headers=headers)

    def post(
        self, body: bytes | dict[str, Any], *, kind: str = "application/json", **headers: str
    ) -> httpx.Response:
        """Send a session to predict; `kind` is the media type of the body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(
            "POST", "/v1/predictions", content=content, headers={"content-type": kind, **headers}
        )

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send any request; `arguments` are those of httpx."""
        headers = arguments.pop("headers", {})
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}

        async def send_once() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                return await client.request(method, path, headers=encoded, **arguments)

        return asyncio.run(send_once())


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """A corpus of tiny sessions."""
    return tiny_corpus()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> StageStore:
    """What the bundles are trained into: they share their first stages."""
    return StageStore(tmp_path_factory.mktemp("served-store"))


@pytest.fixture(scope="session")
def bundle(corpus: Corpus, store: StageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained bundle as `affectune train` writes it."""
    folder = tmp_path_factory.mktemp("served") / "model"
    with WorkerPool(corpus, store) as pool:
        model = train(corpus, tiny_spec(), pool)

    # One target has a band, the other one none.
    model = replace(model, bands={"arousal": band_calibration()})
    evaluation = evaluate(model, corpus, "devel")
    summary = json.dumps(evaluation.to_json("model")).encode()
    save_model(
        model, folder, card=model_card(model, evaluation, []), extra_files={"summary.json": summary}
    )
    return folder


@pytest.fixture(scope="session")
def gateless_bundle(
    corpus: Corpus, store: StageStore, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle whose fusions are recurrent layers without a gate."""
    folder = tmp_path_factory.mktemp("gateless") / "model"
    with WorkerPool(corpus, store) as pool:
        save_model(train(corpus, tiny_spec(fusion=tiny_fusion(kind="recurrent")), pool), folder)
    return folder


@pytest.fixture
def predictor(bundle: Path) -> Predictor:
    """The bundle, loaded with the default limits."""
    return Predictor.load(bundle, "affectune", "3", Settings())


@pytest.fixture
def client_of(bundle: Path) -> Callable[..., Client]:
    """Make a client of an application with these settings."""

    def make(**values: Any) -> Client:
        settings = Settings.model_validate(values)
        predictor = Predictor.load(bundle, "affectune", "3", settings)
        return Client(build_app(lambda: predictor, settings))

    return make


@pytest.fixture
def client(client_of: Callable[..., Client]) -> Client:
    """A client of an application with the default settings."""
    return client_of()
