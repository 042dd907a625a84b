"""Requests by other names, and of other sites' pages, are refused; by addresses they are answered.

A name is what a stranger can let point to loopback; an address and a known name are not.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from serving.proxy.hosts import KnownHosts
from serving.settings import Settings
from tests.serving_tests.conftest import Client

HERE = b"localhost:8000"
PAGE = "https://page.example"
SETTINGS = Settings(allowed_hosts=("model.example", "*.corp.example"), allowed_origins=(PAGE,))


@dataclass(frozen=True)
class Answer:
    """A status, an error's code or the text, and the response's headers."""

    status: int
    code: str
    headers: dict[bytes, bytes]


def _ask(
    *headers: tuple[bytes, bytes],
    settings: Settings = SETTINGS,
    method: str = "GET",
    http_version: str = "1.1",
) -> Answer:
    """Send a request with exactly these headers."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Scope = {
        "type": "http",
        "http_version": http_version,
        "method": method,
        "path": "/v1/predictions",
        "headers": list(headers),
    }
    app = PlainTextResponse("answered")
    hosts = KnownHosts(app, settings.host_names(), settings.allowed_origins)
    asyncio.run(hosts(scope, receive, send))

    body = messages[1]["body"].decode()
    code = json.loads(body)["error"]["code"] if body.startswith("{") else body
    return Answer(messages[0]["status"], code, dict(messages[0]["headers"]))


def _code(host: bytes, *origins: bytes) -> str:
    return _ask((b"host", host), *((b"origin", origin) for origin in origins)).code


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost:1", "localhost.", "localhost.:8000"),
        *("127.0.0.1", "127.0.0.1:8000", "10.1.2.3:80", "[::1]", "[::1]:8000", "[2001:DB8::7]:80"),
        *("[::ffff:10.1.2.3]:8000", "0.0.0.0:8000", "localhost:", "127.0.0.1."),
        *("model.example", "MODEL.example.:8000", "a.corp.example", "a.b.corp.example:8000"),
        socket.gethostname(),
    ],
)
def test_an_address_and_a_known_name_are_answered_at_any_port(host: str) -> None:
    assert _code(host.encode()) == "answered"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "evillocalhost"),
        *("127.0.0.1.evil.example", "1.2.3", "2130706433", "0x7f.0.0.1"),
        *("corp.example", "evilcorp.example", "model.example.evil", "localhost.."),
    ],
)
def test_another_name_is_refused(host: str) -> None:
    answer = _ask((b"host", host.encode()))
    assert (answer.status, answer.code) == (421, "unknown_host")


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b" ", b"localhost@evil.example", b"evil.example@localhost", b"user:word@localhost"),
        *(b"localhost/", b"http://localhost", b"localhost evil.example", b"localhost,evil.example"),
        *(b"::1", b"[::1", b"[localhost]:80:80", b"[fe80::1%25eth0]", b"localhost:http", b":8000"),
        *(b"localhost\x00", b"\xff\xfe", "löcalhost".encode(), b"a" * 300, b"localhost:123456"),
    ],
)
def test_what_is_no_host_is_malformed(host: bytes) -> None:
    answer = _ask((b"host", host))
    assert (answer.status, answer.code) == (400, "malformed_host")


def test_the_host_is_named_once() -> None:
    evil = (b"Host", b"evil.example")
    assert _ask((b"host", HERE), evil).code == "malformed_host"
    assert _ask(evil, (b"host", HERE)).code == "malformed_host"
    assert _ask((b"host", HERE), (b"host", HERE)).code == "malformed_host"
    assert _ask().code == "malformed_host"


def test_a_probe_without_a_host_is_answered_as_only_http_1_0_allows() -> None:
    assert _ask(http_version="1.0").code == "answered"
    assert _ask((b"host", b"evil.example"), http_version="1.0").code == "unknown_host"
    assert _ask((b"origin", b"http://evil.example"), http_version="1.0").status == 400


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("model.example", "http://model.example"),
        ("model.example", "https://model.example"),
        ("model.example:443", "https://model.example"),
        ("model.example", "http://model.example:80"),
        ("10.1.2.3:8000", "http://10.1.2.3:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("localhost:8000", PAGE),
    ],
)
def test_the_own_page_and_an_allowed_one_are_answered(host: str, origin: str) -> None:
    assert _code(host.encode(), origin.encode()) == "answered"


@pytest.mark.parametrize(
    "origin",
    [
        *(b"http://evil.example", b"http://localhost:9999", b"http://localhost", b"null", b""),
        *(b"http://127.0.0.1:8000", b"ftp://localhost:8000", b"localhost:8000", b"http://"),
        *(b"https://page.example.evil", b"http://page.example", b"https://page.example:8443"),
        *(b"http://evil@localhost:8000", b"http://localhost:8000/", b"\xff", b"file://"),
    ],
)
def test_a_page_of_another_origin_is_refused(origin: bytes) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = _ask((b"host", HERE), (b"origin", origin), method=method)
        assert (answer.status, answer.code) == (403, "foreign_origin")
        assert b"access-control-allow-origin" not in answer.headers


def test_an_origin_beside_an_allowed_one_is_refused() -> None:
    assert _code(HERE, PAGE.encode(), b"http://evil.example") == "foreign_origin"
    assert _code(HERE, b"http://evil.example", PAGE.encode()) == "foreign_origin"


def test_a_rebound_name_is_refused_though_its_page_is_of_the_same_origin() -> None:
    assert _code(b"evil.example:8000", b"http://evil.example:8000") == "unknown_host"
    assert _code(b"evil.example:8000", PAGE.encode()) == "unknown_host"


def test_a_browser_is_told_that_an_allowed_page_may_ask() -> None:
    origin = (b"origin", PAGE.encode())
    asks = (b"access-control-request-method", b"POST")
    names = (b"access-control-request-headers", b"authorization,content-type")
    preflight = _ask((b"host", HERE), origin, asks, names, method="OPTIONS")
    assert preflight.status == 200
    assert preflight.headers[b"access-control-allow-origin"] == PAGE.encode()
    assert b"authorization" in preflight.headers[b"access-control-allow-headers"]

    answer = _ask((b"host", HERE), origin, method="POST")
    assert answer.headers[b"access-control-allow-origin"] == PAGE.encode()
    assert answer.headers[b"vary"] == b"Origin"


def test_a_star_allows_all() -> None:
    anybody = Settings(allowed_hosts=("*",), allowed_origins=("*",))
    headers = ((b"host", b"evil.example"), (b"origin", b"null"))
    assert _ask(*headers, settings=anybody).code == "answered"
    assert _ask((b"host", b"a@b"), settings=anybody).code == "malformed_host"


def test_the_host_that_it_listens_at_is_known() -> None:
    named = Settings(host="Machine.example")
    assert _ask((b"host", b"machine.example:8000"), settings=named).code == "answered"
    assert _ask((b"host", b"model.example"), settings=named).code == "unknown_host"


@given(st.lists(st.tuples(st.sampled_from([b"host", b"origin"]), st.binary(max_size=40))))
def test_any_bytes_are_answered_or_refused_in_json(headers: list[tuple[bytes, bytes]]) -> None:
    assert _ask(*headers).status in (200, 400, 403, 421)


def test_every_path_of_the_application_refuses_a_strange_name_in_the_form_of_every_error(
    client_of: Callable[..., Client],
) -> None:
    client = client_of(token="correct horse")
    for path in ("/", "/page/page.js", "/healthz", "/readyz", "/metrics", "/v1/model", "/none"):
        response = client.get(path, host="evil.example")
        assert response.status_code == 421
        assert set(response.json()["error"]) == {"code", "message", "where"}
        assert response.headers["x-request-id"]
        assert "allowed_hosts" in response.json()["error"]["message"]
        assert client.get(path, origin="http://evil.example").status_code == 403
    assert client.get("/healthz", host="10.1.2.3:8000").status_code == 200


def test_a_refusal_is_logged_and_counted_under_its_code(client: Client) -> None:
    client.get("/healthz", host="evil.example")
    text = client.get("/metrics").text
    assert '{code="unknown_host"} 1.0' in text
