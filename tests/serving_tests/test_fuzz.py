"""Whatever is sent, the status is one that is documented: never 500, never a crash.

`make fuzz EXAMPLES=20000` tries that many requests of each kind instead of a few.
"""

from __future__ import annotations

import asyncio
import copy
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import build_app
from serving.models.predictor import Predictor
from serving.requests.arrow import MEDIA_TYPE
from serving.settings import Settings
from tests.pipeline_tests.corpora import tiny_session
from tests.serving_tests.conftest import Client
from tests.serving_tests.sessions import as_arrow, as_json, columns_of

CASES = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
DOCUMENTED_STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 503}
SESSION = tiny_session("fuzz", "f", "test", frames=6)
REQUEST = as_json(SESSION, columns_of(SESSION))
BODY, ARROW = json.dumps(REQUEST).encode(), as_arrow(REQUEST)

GO_DEEPER = st.booleans() | st.just(True)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def post(bundle: Path) -> Iterator[Callable[[bytes, str], httpx.Response]]:
    """Send a body of some media type; all in one event loop."""
    limits = Settings()
    predictor = Predictor.load(bundle, "affectune", "3", limits)
    transport = httpx.ASGITransport(build_app(lambda: predictor, limits))
    loop = asyncio.new_event_loop()

    def send(body: bytes, kind: str) -> httpx.Response:
        async def send_once() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                return await client.post(
                    "/v1/predictions", content=body, headers={"content-type": kind}
                )

        return loop.run_until_complete(send_once())

    yield send
    loop.close()


def _assert_documented(response: httpx.Response) -> None:
    assert response.status_code in DOCUMENTED_STATUSES, response.text
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"code", "message", "where"}


@CASES
@given(st.binary(max_size=200), st.sampled_from(["application/json", MEDIA_TYPE]))
def test_any_bytes_get_a_documented_response(
    post: Callable[[bytes, str], httpx.Response], body: bytes, kind: str
) -> None:
    _assert_documented(post(body, kind))


@CASES
@given(st.data(), st.sampled_from(["application/json", MEDIA_TYPE]))
def test_a_good_body_with_changed_bytes_gets_a_documented_response(
    post: Callable[[bytes, str], httpx.Response], data: st.DataObject, kind: str
) -> None:
    body = bytearray(BODY if kind == "application/json" else ARROW)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body) - 1))
        new = data.draw(st.binary(max_size=4))
        body[start : start + data.draw(st.integers(0, 4))] = new

    _assert_documented(post(bytes(body), kind))


@CASES
@given(st.data(), st.sampled_from(["application/json", MEDIA_TYPE]))
def test_a_good_body_with_repeated_and_moved_parts_gets_a_documented_response(
    post: Callable[[bytes, str], httpx.Response], data: st.DataObject, kind: str
) -> None:
    body = bytearray(BODY if kind == "application/json" else ARROW)
    for _ in range(data.draw(st.integers(1, 3))):
        start, end, to = (data.draw(st.integers(0, len(body))) for _ in range(3))
        body[to:to] = body[start:end] * data.draw(st.integers(1, 3))

    _assert_documented(post(bytes(body), kind))


@CASES
@given(st.data())
def test_arrow_that_declares_other_sizes_gets_a_documented_response(
    post: Callable[[bytes, str], httpx.Response], data: st.DataObject
) -> None:
    """Numbers and offsets in the heads of messages, where they are aligned."""
    body = bytearray(ARROW)
    for _ in range(data.draw(st.integers(1, 4))):
        format_ = data.draw(st.sampled_from(["<i", "<q", "<h"]))
        size = struct.calcsize(format_)
        place = size * data.draw(st.integers(0, len(body) // size - 1))
        largest = 2 ** (8 * size - 1) - 1
        near = struct.unpack_from(format_, body, place)[0] + data.draw(st.integers(-64, 64))
        number = data.draw(st.just(near) | st.integers(-largest, largest) | st.integers(0, 4096))
        struct.pack_into(format_, body, place, max(-largest, min(largest, number)))

    _assert_documented(post(bytes(body), MEDIA_TYPE))


@CASES
@given(st.data())
@pytest.mark.slow
def test_a_good_request_with_a_replaced_part_gets_a_documented_response(
    post: Callable[[bytes, str], httpx.Response], data: st.DataObject
) -> None:
    request: Any = copy.deepcopy(REQUEST)
    container: Any = {"root": request}
    key: Any = "root"

    while isinstance(container[key], dict | list) and container[key] and data.draw(GO_DEEPER):
        container = container[key]
        is_object = isinstance(container, dict)
        keys = list(container) if is_object else list(range(len(container)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.integers(0, 3)) == 0:
            break
    container[key] = data.draw(JSON_VALUES)

    _assert_documented(post(json.dumps(request).encode(), "application/json"))


@pytest.mark.hypothesis
@pytest.mark.slow
def test_requests_made_from_the_openapi_document_get_a_documented_response(
    client_of: Callable[..., Client],
) -> None:
    app = client_of(allowed_hosts=["testserver"]).app  # as which schemathesis asks
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    count = 0
    for result in schema.get_all_operations():
        # The document is valid; otherwise this fails.
        operation: Any = result.ok()  # type: ignore[union-attr]

        @settings(CASES, max_examples=max(25, CASES.max_examples // 4))
        @given(operation.as_strategy())
        def send(case: schemathesis.Case[Any]) -> None:
            nonlocal count
            count += 1
            response = case.call()
            assert response.status_code in DOCUMENTED_STATUSES - {421}, response.text

        send()

    assert count >= 100
