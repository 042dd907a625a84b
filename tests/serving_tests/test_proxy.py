"""The server as the proxy has it, with real connections: what one client takes from another."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import resource
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn.config
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.monitoring.access_log import AccessLog
from serving.monitoring.metrics import Metrics
from serving.proxy import callback
from serving.proxy.forwarding import Forwarding
from serving.proxy.hosts import KnownHosts
from serving.proxy.http_protocol import BoundedProtocol
from serving.requests import byte_budget
from serving.settings import PREFIX, Settings, proxy_environment, read_proxy_settings
from tests.serving_tests.attackers import ATTACKS
from tests.serving_tests.proxy_server import PATIENCE_S, attacked, echo, exchange, served

SHORT_S = 0.3
POST = b"POST /v1/predictions HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with small bounds on sizes around an application that echoes them."""
    with served(max_head_bytes=8192, max_body_bytes=2**20) as port:
        yield port


@pytest.fixture(scope="module")
def impatient() -> Iterator[int]:
    """A server that waits for nothing long."""
    with served(head_timeout_s=0.5, body_timeout_s=0.5, idle_timeout_s=0.1) as port:
        yield port


def request(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a request on a connection of its own; return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def patient_request(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    """Return the body of a response with 200, after a few tries.

    On a busy machine this client may itself be slow between connecting and sending.
    """
    for _ in range(5):
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _, content = request(port, method, path, body)
            if status == 200:
                return content
    pytest.fail(f"no response to {method} {path}")


def error_of(answer: bytes) -> tuple[int, str]:
    """Return status and code of an error in the one JSON form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    assert head.lower().count(b"x-request-id") == 1
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "where"}
    return int(head.split()[1]), error["code"]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_client_is_served_beside_attackers(name: str) -> None:
    act, num_clients = ATTACKS[name]
    # Three times as many connections as there are places, where the attack is one of many.
    num_clients = min(num_clients, 90 if "large" not in name else 12)

    with served(max_clients=30) as port, attacked(act, port, num_clients):
        time.sleep(SHORT_S)  # let them take what they can
        for _ in range(5):
            assert patient_request(port, "GET", "/healthz") == b'{"status":"ok"}'
            assert patient_request(port, "POST", "/v1/predictions", b"x" * 3000) == b"3000"


@pytest.mark.parametrize("sent", [b"", b"GET", GET, GET + b"X: " + b"a" * 500])
def test_a_head_that_does_not_come_ends_the_connection(impatient: int, sent: bytes) -> None:
    answer = exchange(impatient, sent)
    assert (error_of(answer) if sent else answer) == ((408, "head_timeout") if sent else b"")


@pytest.mark.parametrize("first", [GET + b"\r\n", POST + b"Content-Length: 1\r\n\r\na"])
def test_an_idle_connection_is_closed(impatient: int, first: bytes) -> None:
    assert exchange(impatient, first).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 10\r\n\r\na", b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"],
    ids=["length", "chunked"],
)
def test_a_body_that_does_not_come_is_given_up(impatient: int, body: bytes) -> None:
    assert error_of(exchange(impatient, POST + body)) == (408, "body_timeout")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (GET + b"X: " + b"a" * 9000 + b"\r\n\r\n", (431, "head_too_large")),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (431, "head_too_large")),
        (GET + b"X: " + b"a" * 2_000_000, (431, "head_too_large")),
        (GET + b"a:b\r\n" * 101 + b"\r\n", (431, "head_too_large")),
        (GET + b"X: " + b"a" * 9000, (431, "head_too_large")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400, "bad_request")),
        (b"GET /healthz\r\n\r\n", (400, "bad_request")),
        (b"GET /healthz HTTP/1.1\r\n\r\n", (400, "bad_request")),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", (400, "bad_request")),
        (POST + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", (400, "bad_request")),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", (400, "bad_request")),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n", (400, "bad_request")),
        (POST[:-14] + b"1.0\r\nTransfer-Encoding: chunked\r\n\r\n", (400, "bad_request")),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", (400, "bad_request")),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1500, (400, "bad_request")),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", (400, "bad_request")),
    ],
    ids=[
        "header", "target", "endless header", "many headers", "no end", "TLS", "no version",
        "no host", "two lengths", "two ends", "other encoding", "space",
        "HTTP/1.0", "no chunk", "tiny chunks", "no path",
    ],
)  # fmt: skip
def test_what_is_no_request_or_too_large_is_answered_in_json(
    port: int, sent: bytes, error: tuple[int, str]
) -> None:
    assert error_of(exchange(port, sent)) == error


def test_chunks_of_a_usual_size_are_read(port: int) -> None:
    chunks = b"400\r\n" + b"a" * 1024 + b"\r\n"
    sent = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks * 900
    assert exchange(port, sent + b"0\r\n\r\n").endswith(str(900 * 1024).encode())


@pytest.mark.parametrize(
    ("head", "end"),
    [
        (b"Content-Length: 5000000\r\n\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n4c4b40\r\n", b"\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunked"],
)
def test_a_client_that_sends_too_much_can_send_it_and_read_why(
    port: int, head: bytes, end: bytes
) -> None:
    answer = exchange(port, POST + head + b"a" * 5_000_000 + end)
    assert error_of(answer) == (413, "too_large")
    assert b"connection: close" in answer.lower()


def test_a_client_that_sends_too_much_slowly_can_read_why_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(POST + b"Content-Length: 5000000\r\n\r\n")
        for _ in range(5):
            client.sendall(b"a" * 1_000_000)
            time.sleep(0.5)
        assert error_of(client.recv(2**16)) == (413, "too_large")


def test_what_nobody_reads_is_cut_off() -> None:
    with served(write_timeout_s=SHORT_S) as port, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /page/plotly.js HTTP/1.1\r\nHost: a\r\n\r\n")

        client.settimeout(SHORT_S)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            time.sleep(SHORT_S)
            try:
                client.sendall(b"x" * 1000)  # fails once the other side has gone
            except OSError:
                return
    pytest.fail("the connection is still open")


def test_responses_that_nobody_reads_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_budget, "GRACE_S", 0.1)
    large = PlainTextResponse("x" * 3_000_000)

    with served(large, max_outgoing_bytes=10_000_000, max_clients=64) as port:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET /v1/model HTTP/1.1\r\nHost: a\r\n\r\n")

        statuses = set()
        end = time.monotonic() + PATIENCE_S
        while 200 not in statuses and time.monotonic() < end:
            with contextlib.suppress(http.client.IncompleteRead):  # this client was slow itself
                status, _, body = request(port, "GET", "/v1/model")
                statuses.add(status)
                assert len(body) == 3_000_000 or status == 503
        for client in clients:
            client.close()
    assert 200 in statuses


def test_pipelined_requests_are_answered_in_turn(port: int) -> None:
    sent = b"".join(POST + b"Content-Length: %d\r\n\r\n%s" % (n, b"a" * n) for n in range(1, 6))
    sent += GET + b"Connection: close\r\n\r\n"
    bodies = exchange(port, sent).split(b"\r\n\r\n")[1:]
    assert [body[:1] for body in bodies] == [b"1", b"2", b"3", b"4", b"5", b"{"]


class Blocked:
    """An application that does not answer, once it is told not to."""

    def __init__(self) -> None:
        self.is_blocked = False
        self.num_blocked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.is_blocked:
            self.num_blocked += 1
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await JSONResponse({"status": "ready"})(scope, receive, send)


def test_no_load_delays_health_and_the_page_and_readiness_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Blocked()

    with served(app, max_forwarded=3) as port:
        assert request(port, "GET", "/readyz")[0] == 200
        monkeypatch.setattr("serving.proxy.forwarding.PROBE_TIMEOUT_S", SHORT_S)
        app.is_blocked = True
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET /v1/model HTTP/1.1\r\nHost: a\r\n\r\n")

        connect = partial(request, port, "GET")
        end = time.monotonic() + PATIENCE_S
        while app.num_blocked < 3 and time.monotonic() < end:
            time.sleep(0.02)
        status, headers, body = connect("/v1/model")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["error"]["code"] == "busy"

        assert connect("/healthz")[0] == connect("/")[0] == connect("/page/page.css")[0] == 200
        assert connect("/readyz")[::2] == (200, b'{"status":"ready"}')
        for client in clients:
            client.close()


async def lost(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nothing, as Ray's proxy does when a replica dies."""


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """Fail."""
    raise RuntimeError


@pytest.mark.parametrize(
    ("app", "error"),
    [
        (lost, (503, "replica_lost")),
        (broken, (503, "replica_lost")),
        (PlainTextResponse("Path '/' not found. Ping ...", 404), (503, "unavailable")),
        (PlainTextResponse("Request x timed out.", 408), (408, "request_timeout")),
        (PlainTextResponse("Too many", 429), (429, "busy")),
        (PlainTextResponse("failed", 500), (500, "internal")),
        (PlainTextResponse("unavailable", 503), (503, "unavailable")),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_a_replica_is_an_error_like_any_other(
    app: ASGIApp, error: tuple[int, str]
) -> None:
    with served(app) as port:
        answer = exchange(port, POST + b"Content-Length: 1\r\nConnection: close\r\n\r\na")
    assert error_of(answer) == error
    assert (b"retry-after: 1" in answer) is (error[0] in (429, 503))


@pytest.mark.parametrize(
    "response", [JSONResponse({"error": {}}, 503), PlainTextResponse("text", 200)]
)
def test_what_a_replica_answers_passes_unchanged(response: Any) -> None:
    with served(response) as port:
        status, _, body = request(port, "GET", "/v1/model")
    assert (status, body) == (response.status_code, response.body)


@pytest.mark.parametrize("sent", ["", "good_id-1", "bad id", "\xe0", "x" * 65])
def test_a_request_has_one_id_everywhere(sent: str) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ids = [value for name, value in scope["headers"] if name == b"x-request-id"]
        seen.extend(ids)
        headers = {"x-request-id": ids[0].decode()}  # as a replica does
        await PlainTextResponse("", headers=headers)(scope, receive, send)

    with served(app) as port:
        own = {"X-Request-Id": sent} if sent else {}
        headers = request(port, "GET", "/v1/model", headers=own)[1]

    [told] = headers.get_all("x-request-id") or []
    assert seen == [told.encode()]
    assert (told == sent) is (sent == "good_id-1")


@pytest.mark.parametrize(
    "name",
    ["X-Request-Timeout-Seconds", "x-request-disconnect-disabled", "serve_multiplexed_model_id",
     "Serve-Multiplexed-Model-Id", "X-Session-Id", "x_session_id"],
)  # fmt: skip
def test_no_client_tells_ray_what_to_do(name: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        names = [key.decode().lower() for key, _ in scope["headers"]]
        await JSONResponse(names)(scope, receive, send)

    with served(app) as port:
        names = json.loads(request(port, "GET", "/v1/model", headers={name: "\xff"})[2])
    assert name.lower() not in names
    assert "host" in names


def test_each_request_leaves_one_line(
    port: int, impatient: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving")
    request(port, "GET", "/healthz")
    request(port, "HEAD", "/page/page.css")
    request(port, "GET", "/nothing")
    request(port, "POST", "/v1/predictions", b"abc")
    exchange(port, POST + b"Content-Length: 5000000\r\n\r\n" + b"a" * 5_000_000)
    exchange(impatient, POST + b"Content-Length: 10\r\n\r\na")
    exchange(port, POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    exchange(port, b"nonsense\r\n\r\n")
    exchange(impatient, GET)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(POST + b"Content-Length: 10\r\n\r\na")

    expected = [
        ("/healthz", 200),
        ("/page/{name}", 200),
        ("/v1/predictions", 200),
        ("/v1/predictions", 400),
        ("/v1/predictions", 408),
        ("/v1/predictions", 413),
        ("/v1/predictions", 499),
        ("other", 200),
        ("other", 400),
        ("other", 408),
    ]
    end = time.monotonic() + PATIENCE_S
    while len(lines := _lines(caplog)) < len(expected) and time.monotonic() < end:
        time.sleep(0.05)
    assert lines == expected


def _lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    return sorted(
        (record.route, record.status)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.getMessage() == "request"
    )


def test_the_absolute_form_of_a_target_is_read(port: int) -> None:
    sent = b"GET http://a/healthz?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert exchange(port, sent).endswith(b'{"status":"ok"}')


def test_files_bound_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(300, 300)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))

    def num_clients(soft: int, hard: int, **settings: Any) -> int:
        limits.append((soft, hard))
        made = callback.bounded_protocol(Settings.model_validate(settings), Metrics())
        number: int = made.keywords["connections"].max_connections
        return number

    assert num_clients(1024, 1024) == 1024 - callback.FILES_OF_RAY
    assert num_clients(1024, 4096) == 1000
    assert num_clients(64, 64) == callback.MIN_CLIENTS
    assert num_clients(1024, resource.RLIM_INFINITY, max_clients=5000) == 5000


def test_a_proxy_reads_the_settings_of_its_endpoint_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"max_clients": 77, "body_timeout_s": 1.5, "token": "secret-word", "model": "/secret"}
    settings = Settings.model_validate(values)
    environment = proxy_environment(settings)
    assert "secret" not in str(environment)

    read = read_proxy_settings(environment | {f"{PREFIX}MODEL": "other", f"{PREFIX}UNKNOWN": "1"})
    assert (read.max_clients, read.body_timeout_s) == (77, 1.5)
    assert read.token is None


def test_the_proxy_of_ray_is_furnished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
    monkeypatch.setattr(callback, "log_json_lines", lambda: None)
    monkeypatch.setattr(callback, "_give_memory_back", lambda: None)
    monkeypatch.setattr(callback, "keep_giving_back_memory", lambda: None)
    monkeypatch.setenv(f"{PREFIX}MAX_CLIENTS", "12")

    made: list[Any] = callback.middlewares()
    assert [middleware.cls for middleware in made] == [Forwarding, KnownHosts, AccessLog]

    config = uvicorn.Config(echo)
    config.load()
    protocol: Any = config.http_protocol_class
    assert protocol.func is BoundedProtocol
    assert protocol.keywords["settings"].max_clients == 12
