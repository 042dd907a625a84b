"""A replica answers only what came through a bounded proxy, and no client can say that for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.app import build_app
from serving.models.predictor import Predictor
from serving.proxy.forwarding import Forwarding
from serving.proxy.proxied import MARK, BehindBoundedProxy
from serving.settings import Settings
from tests.serving_tests.proxy_server import echo


def ask(app: ASGIApp, path: str = "/v1/model", **headers: str) -> httpx.Response:
    """Send a GET request to an application."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node7") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(send())


@pytest.fixture
def replica(bundle: Path) -> ASGIApp:
    """The application of a replica."""
    predictor = Predictor.load(bundle, "affectune", "3", Settings())
    return build_app(lambda: predictor, Settings(), is_behind_proxy=True)


def test_what_comes_through_another_proxy_is_refused_with_the_mend(replica: ASGIApp) -> None:
    response = ask(replica)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unbounded_proxy")
    assert (
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serving.proxy.callback.middlewares"
        in response.text
    )
    assert response.headers["retry-after"]


def test_a_bounded_proxy_on_any_node_is_answered(replica: ASGIApp) -> None:
    assert ask(Forwarding(replica, Settings())).status_code == 200


def test_a_client_cannot_bring_the_mark() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(tuple(pair) for pair in scope["headers"])
        await echo(scope, receive, send)

    ask(Forwarding(app, Settings()), **{"X-Affectune-Bounded": "2", "X_Affectune_Bounded": "3"})
    assert [pair for pair in seen if b"bounded" in pair[0].lower()] == [MARK]


def test_other_protocols_are_left_to_the_application() -> None:
    kinds = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kinds.append(scope["type"])

    asyncio.run(BehindBoundedProxy(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert kinds == ["lifespan"]
