"""Which media type a client gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serving.proxy.accept import prefers
from serving.requests.arrow import MEDIA_TYPE
from serving.requests.schema import JSON
from tests.serving_tests.conftest import Client


@pytest.mark.parametrize(
    ("accept", "gets_arrow"),
    [
        ([], False),
        (["*/*"], False),
        (["application/*"], False),
        ([MEDIA_TYPE], True),
        ([MEDIA_TYPE.upper()], True),
        ([f"{MEDIA_TYPE};q=0"], False),
        ([f"{MEDIA_TYPE} ; q=0.000, */*"], False),
        ([f"{MEDIA_TYPE};q=0.001"], True),
        ([f"{MEDIA_TYPE};q=0.5, {JSON}"], False),
        ([f"{MEDIA_TYPE}, {JSON};q=0.5"], True),
        ([f"{JSON}, {MEDIA_TYPE}"], True),
        ([JSON, MEDIA_TYPE], True),
        ([f"{JSON};q=0, */*"], True),
        ([f"application/*;q=0.2, {JSON};q=0.1"], True),
        (["text/html"], False),
        ([f"{MEDIA_TYPE};q=2"], False),
        ([f"{MEDIA_TYPE};q=nan"], False),
        ([f"{MEDIA_TYPE};version=1;q=1.0"], True),
        ([f"x{MEDIA_TYPE}x"], False),
        (["," * 10_000 + MEDIA_TYPE], False),
    ],
)
def test_the_header_decides_as_http_says(accept: list[str], gets_arrow: bool) -> None:
    assert prefers(MEDIA_TYPE, JSON, accept) is gets_arrow


def test_a_client_that_refuses_arrow_gets_json(client_of: Callable[..., Client]) -> None:
    client = client_of()
    example = client.get("/v1/example").json()
    refused = client.post(example, accept=f"{MEDIA_TYPE};q=0")
    assert refused.headers["content-type"] == JSON
    assert client.post(example, accept=MEDIA_TYPE).headers["content-type"] == MEDIA_TYPE
