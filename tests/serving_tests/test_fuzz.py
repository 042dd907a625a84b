"""Whatever is sent, the answer is one of those that are stated: never 500, never a crash.

`AFFECTUNE_FUZZ=20000` asks for that many cases of each kind instead of a few.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import build_app
from serving.arrow import MEDIA_TYPE
from serving.predictor import Predictor
from serving.settings import Settings
from tests.pipeline_tests.corpora import tiny_session
from tests.serving_tests.conftest import Client
from tests.serving_tests.sessions import as_arrow, as_json, columns_of

CASES = int(os.environ.get("AFFECTUNE_FUZZ", "150"))
FEW = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
STATED = {200, 400, 401, 404, 405, 408, 413, 415, 422, 503}
SESSION = tiny_session("fuzz", "f", "test", frames=6)
REQUEST = as_json(SESSION, columns_of(SESSION))
BODY, ARROW = json.dumps(REQUEST).encode(), as_arrow(REQUEST)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def post(bundle: Path) -> Iterator[Callable[[bytes, str], httpx.Response]]:
    """Sends a body; one event loop for all."""
    chosen = Settings()
    predictor = Predictor.load(bundle, "affectune", "3", chosen)
    transport = httpx.ASGITransport(build_app(lambda: predictor, chosen))
    loop = asyncio.new_event_loop()

    def send(body: bytes, kind: str) -> httpx.Response:
        async def once() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
                return await client.post(
                    "/v1/predictions", content=body, headers={"content-type": kind}
                )

        return loop.run_until_complete(once())

    yield send
    loop.close()


def _check(response: httpx.Response) -> None:
    assert response.status_code in STATED, response.text
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"code", "message", "where"}


@FEW
@given(st.binary(max_size=200), st.sampled_from(["application/json", MEDIA_TYPE]))
def test_any_bytes(post: Callable[[bytes, str], httpx.Response], body: bytes, kind: str) -> None:
    _check(post(body, kind))


@FEW
@given(st.data(), st.sampled_from(["application/json", MEDIA_TYPE]))
def test_a_good_body_with_bytes_changed(
    post: Callable[[bytes, str], httpx.Response], data: st.DataObject, kind: str
) -> None:
    body = bytearray(BODY if kind == "application/json" else ARROW)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        new = data.draw(st.binary(max_size=4))
        body[at : at + data.draw(st.integers(0, 4))] = new
    _check(post(bytes(body), kind))


@FEW
@given(st.data())
def test_a_good_request_with_a_part_replaced(
    post: Callable[[bytes, str], httpx.Response], data: st.DataObject
) -> None:
    changed: Any = copy.deepcopy(REQUEST)
    place: Any = {"root": changed}
    key: Any = "root"
    while (
        isinstance(place[key], dict | list)
        and place[key]
        and data.draw(st.booleans() | st.just(True))
    ):
        place = place[key]
        key = data.draw(
            st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place))))
        )
        if data.draw(st.integers(0, 3)) == 0:
            break
    place[key] = data.draw(JSON_VALUES)
    _check(post(json.dumps(changed).encode(), "application/json"))


def test_requests_made_from_the_openapi_document(client: Client) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    count = 0
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # the document is valid: the next line would fail

        @settings(FEW, max_examples=max(25, CASES // 4))
        @given(operation.as_strategy())
        def ask(case: schemathesis.Case[Any]) -> None:
            nonlocal count
            count += 1
            response = case.call()
            assert response.status_code in STATED, response.text

        ask()
    assert count >= 100
