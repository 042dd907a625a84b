"""An address of a Ray cluster is refused within seconds, with what to do, unless Ray answers."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from platform import python_version

import grpc
import pytest

from pipeline import cluster_address
from pipeline.cluster_address import VARIABLE, find_cluster
from pipeline.errors import InputError
from pipeline.local_ray import head as head_module
from pipeline.local_ray.head import HEALTH, KEY_VALUE, PYTHON_LEVEL
from pipeline.local_ray.token import MODE, TOKEN, TOKEN_FILE

VERSIONS = {"ray_version": metadata.version("ray"), "python_version": python_version()}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no test depend on the environment, or wait long."""
    for name in (VARIABLE, MODE, TOKEN, TOKEN_FILE):
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(head_module, "ANSWER_S", 1.0)


@contextmanager
def head(
    token: str | None = None,
    methods: Sequence[str] = (HEALTH, KEY_VALUE),
    port: int = 0,
    **versions: str,
) -> Iterator[str]:
    """Run a server that answers methods as a head does which asks for a token."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if token and ("authorization", f"Bearer {token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        text = json.dumps(VERSIONS | versions).encode()
        return b"\x0a\x00\x12" + bytes([len(text) % 128 + 128, len(text) // 128]) + text

    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(1))
    for method in methods:
        service, _, name = method.strip("/").partition("/")
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {name: handler})]
        )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def refusal(address: str | None) -> str:
    """Return why an address is refused."""
    with pytest.raises(InputError) as raised:
        find_cluster(address, lambda: None)
    return str(raised.value)


def write_token(home: Path, token: str) -> None:
    """Write a token as Ray does."""
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(f"{token}\n", encoding="ascii")


def test_a_head_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with head() as address:
        assert find_cluster(address, lambda: None) == address
        assert find_cluster("auto", lambda: address) == address
        monkeypatch.setenv(VARIABLE, address)
        assert find_cluster(None, lambda: None) == address
        assert find_cluster("auto", lambda: None) == address
    assert MODE not in os.environ


def test_a_head_that_asks_for_a_token_gets_the_one_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with head("right") as address:
        message = refusal(address)
        assert "asks for a token, and there is none" in message
        assert ".ray/auth_token" in message

        write_token(tmp_path, "right")
        assert find_cluster(address, lambda: None) == address
        assert os.environ[MODE] == "token"
        assert find_cluster(address, lambda: None) == address

        monkeypatch.setenv(TOKEN, "wrong")
        message = refusal(address)
        assert f"does not let us in with what {TOKEN} holds" in message
        assert "wrong" not in message

        monkeypatch.setenv(MODE, "disabled")
        assert f"{MODE} is 'disabled' here" in refusal(address)


def test_a_token_that_is_asked_for_here_and_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(MODE, "token")
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "none"))
    with head() as address:
        assert str(tmp_path / "none") in refusal(address)


def test_a_head_of_another_ray_or_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with head(ray_version="2.1.0") as address:
        message = refusal(address)
        assert "Ray 2.1.0" in message
        assert VERSIONS["ray_version"] in message
    with head(python_version="3.9.1") as address:
        assert "Python 3.9.1" in refusal(address)

    minor, _, _ = python_version().rpartition(".")
    with head(python_version=f"{minor}.99") as address:
        assert f"{PYTHON_LEVEL}=minor" in refusal(address)
        monkeypatch.setenv(PYTHON_LEVEL, "minor")
        assert find_cluster(address, lambda: None) == address


def test_a_head_that_is_away_is_waited_for_and_one_that_refuses_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_address, "POLL_S", 0.01)
    reasons: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ExitStack() as stack:

        def start(reason: str) -> None:
            reasons.append(reason)
            stack.enter_context(head(port=port))

        address = f"127.0.0.1:{port}"
        assert find_cluster(address, lambda: None, wait_s=60, on_wait=start) == address
    assert len(reasons) == 1
    assert "refused" in reasons[0]

    with pytest.raises(InputError, match="refused"):
        find_cluster("127.0.0.1:9", lambda: None, wait_s=0.05)
    with head("right") as address, pytest.raises(InputError, match="asks for a token"):
        find_cluster(address, lambda: None, wait_s=60)


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

    with head(methods=["/another.Service/Method"]) as address:
        assert "another kind of server" in refusal(address)

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert "No Ray cluster answers" in refusal(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
