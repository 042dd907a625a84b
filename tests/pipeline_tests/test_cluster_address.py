"""An address of a Ray cluster is refused within seconds, with what to do, unless Ray answers."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from pipeline import cluster_head
from pipeline.cluster_address import VARIABLE, find_cluster
from pipeline.cluster_head import HEALTH
from pipeline.errors import InputError


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test depend on the environment, or wait long."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(cluster_head, "ANSWER_S", 1.0)


@contextmanager
def head(code: grpc.StatusCode | None, method: str = HEALTH) -> Iterator[str]:
    """Run a server that answers a method as a head does: well, or with an error."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if code is not None:
            context.abort(code, "no")
        return b""

    service, _, name = method.strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {name: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def refusal(address: str | None) -> str:
    """Return why an address is refused."""
    with pytest.raises(InputError) as raised:
        find_cluster(address, lambda: None)
    return str(raised.value)


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAUTHENTICATED])
def test_a_head_that_answers_is_used_also_one_that_wants_a_token(
    code: grpc.StatusCode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with head(code) as address:
        assert find_cluster(address, lambda: None) == address
        assert find_cluster("auto", lambda: address) == address
        monkeypatch.setenv(VARIABLE, address)
        assert find_cluster(None, lambda: None) == address
        assert find_cluster("auto", lambda: None) == address


@pytest.mark.parametrize("address", [None, "", "local", " local "])
def test_without_an_address_this_machine_is_used(address: str | None) -> None:
    assert find_cluster(address, lambda: "never asked") is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://head:8265", "without http://"),
        ("https://user:hidden@head/jobs", "dashboard"),
        ("ray://head:10001", "Ray Client"),
        ("redis://:hid/den@head:6379", "host:port"),
        ("head", "not host:port"),
        ("head:0", "not host:port"),
        ("head:six", "not host:port"),
        ("head:6379/path", "not host:port"),
        ("::1:6379", "not host:port"),
        ("user:hidden@head:6379", "RAY_AUTH_TOKEN"),
    ],
)
def test_what_is_no_address_of_a_head_is_refused_at_once(address: str, words: str) -> None:
    message = refusal(address)
    assert words in message
    assert "hid" not in message
    assert message.startswith("--address is ")


def test_auto_without_a_cluster_is_refused_and_so_is_one_that_is_gone() -> None:
    assert "ray start --head" in refusal("auto")
    with pytest.raises(InputError, match=r"refused.*unset RAY_ADDRESS"):
        find_cluster("auto", lambda: "127.0.0.1:9")


def test_the_variable_is_named_where_it_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:8265")
    assert refusal(None).startswith("RAY_ADDRESS is ")


def test_what_listens_there_and_is_not_a_head_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "nothing came within" in refusal(f"127.0.0.1:{silent.getsockname()[1]}")

    with head(None, "/another.Service/Method") as address:
        assert "another kind of server" in refusal(address)

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert "No Ray cluster answers" in refusal(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
