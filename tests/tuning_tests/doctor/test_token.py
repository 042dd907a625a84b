"""A head that asks for no token, and one that refuses the token of this user, are told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tuning.doctor.token import QUESTION, token_findings

TOKEN = "4f1c9a" * 6


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, and no variables."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@contextmanager
def head(token: str | None) -> Iterator[str]:
    """Run a head that asks for a token, or for none."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        given = dict(context.invocation_metadata()).get("authorization")
        if token is not None and given != f"Bearer {token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b""

    service, _, name = QUESTION.strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {name: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_head_that_asks_for_no_token_lets_everybody_in() -> None:
    with head(None) as address:
        [finding] = token_findings(address)
    assert (finding.status, "asks for no token" in finding.finding) == ("error", True)
    assert "RAY_AUTH_MODE=token" in finding.mend


@pytest.mark.parametrize(
    ("own", "mode", "status", "said"),
    [
        (TOKEN, None, "ok", "takes that of"),
        (f"{TOKEN}\n", "token", "ok", "takes that of"),
        ("wrong" * 7, None, "error", "refuses the token of"),
        ("", None, "error", "is empty"),
        (None, None, "error", "cannot be read (No such file or directory)"),
        (TOKEN, "disabled", "error", "none is sent"),
    ],
)
def test_the_token_of_this_user_is_tried(
    own: str | None,
    mode: str | None,
    status: str,
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if own is not None:
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text(own)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with head(TOKEN) as address:
        [finding] = token_findings(address)
    assert (finding.status, bool(finding.mend)) == (status, status != "ok")
    assert said in finding.finding
    assert TOKEN not in str(finding)


def test_a_token_in_a_variable_goes_before_that_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with head(TOKEN) as address:
        [finding] = token_findings(address)
    assert (finding.status, "RAY_AUTH_TOKEN" in finding.finding) == ("ok", True)
