"""The head of a Ray cluster, asked whether it lives, takes our token, and has our versions.

Ray itself waits for minutes, without a word, for a head that is not there, and its errors of tokens
and versions name no mend. Imports no Ray.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from platform import python_version
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.local_ray.token import MODE, TOKEN, find_token

if TYPE_CHECKING:
    import grpc

ANSWER_S = 5.0
HEALTH = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""What every Ray head answers, at once and without having to be connected to."""
CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""Another one after a restart of a head that keeps its state nowhere."""
KEY_VALUE = "/ray.rpc.InternalKVGcsService/InternalKVGet"
METADATA, METADATA_SPACE = b"CLUSTER_METADATA", b"cluster"
"""Where Ray keeps the versions of the head, as JSON."""
TLS = "RAY_USE_TLS"
PYTHON_LEVEL = "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"
"""Ray's variable: "minor" lets nodes have several patches of one Python."""

HOW_TO_SHARE = (
    "All machines of a cluster need one token: copy the file ~/.ray/auth_token of the head to the "
    f"same place here, with the rights 600, or set {TOKEN}."
)


class HeadSilent(InputError):
    """No head answers, which may change by itself: it starts, or a name is known again."""


def raise_if_unusable(host: str, port: int, source: str) -> None:
    """Ask the head whether it lives, takes the token of this process, and has its versions.

    Where it asks for a token and this process was told nothing about that, it sends one from now
    on, as Ray's own variable says.

    Args:
        host: a name or an IP address.
        port: of the head.
        source: who gave the address, for errors.

    Raises:
        HeadSilent: no Ray head answers.
        InputError: it does not take our token, there is none, or its Ray or Python is another one.
    """
    target = f"{bracketed(host)}:{port}"
    place = f"The Ray cluster at '{target}' ({source})"
    with _channel(target) as channel:
        token = _agree_on_token(channel, place, target, source)
        try:
            versions = _versions(
                _ask(channel, KEY_VALUE, _request(METADATA, METADATA_SPACE), token)
            )
        except _grpc().RpcError as error:
            raise _silent(error, target, source) from None
    _raise_if_other_versions(versions, place)


def asks_for_token(target: str) -> bool:
    """Return whether a head that answers asks for a token.

    Args:
        target: "host:port".
    """
    with _channel(target) as channel:
        return _refusal(channel, target, "--address", None) is not None


def cluster_id(target: str, timeout_s: float) -> bytes | None:
    """Return what names the cluster whose head answers at an address; None: none does in time.

    Args:
        target: "host:port".
        timeout_s: so long an answer may take.
    """
    with _channel(target) as channel:
        try:
            answer = _ask(channel, CLUSTER_ID, b"", find_token()[0], timeout_s)
        except _grpc().RpcError:
            return None
    return answer


def numeric(host: str, port: int) -> str:
    """Return an address that needs no names: those may be gone for a while.

    Raises:
        OSError: the name is not known.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return f"{bracketed(str(found[0][4][0]))}:{port}"


def bracketed(host: str) -> str:
    """Return a host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


def _agree_on_token(channel: grpc.Channel, place: str, target: str, source: str) -> str | None:
    """Return the token that the head takes; None where it asks for none."""
    mode = os.environ.get(MODE, "").strip().lower()
    token, token_source = find_token()
    is_used = mode == "token"
    if is_used and token is None:
        raise InputError(f"{MODE} is 'token', and there is none: {token_source}. {HOW_TO_SHARE}")
    refusal = _refusal(channel, target, source, token if is_used else None)
    if refusal is None:
        return token if is_used else None
    if MODE in os.environ and not is_used:
        raise InputError(
            f"{place} asks for a token, and {MODE} is '{os.environ[MODE]}' here. Unset it."
        )
    if token is None:
        raise InputError(
            f"{place} asks for a token, and there is none: {token_source}. {HOW_TO_SHARE}"
        )
    if is_used or _refusal(channel, target, source, token) is not None:
        raise InputError(
            f"{place} does not let us in with what {token_source} holds. {HOW_TO_SHARE}"
        )
    os.environ[MODE] = "token"
    return token


def _refusal(channel: grpc.Channel, target: str, source: str, token: str | None) -> str | None:
    """Return why the head lets nobody in with a token, or without one; None where it does.

    Raises:
        HeadSilent: no Ray head answers.
    """
    try:
        _ask(channel, HEALTH, b"", token)
    except _grpc().RpcError as error:
        code = error.code().name
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return str(code)
        raise _silent(error, target, source) from None
    return None


def _ask(
    channel: grpc.Channel, method: str, request: bytes, token: str | None, timeout_s: float = 0.0
) -> bytes:
    header = [("authorization", f"Bearer {token}")] if token else []
    ask = channel.unary_unary(method)
    answer: bytes = ask(request, timeout=timeout_s or ANSWER_S, metadata=header)
    return answer


@contextmanager
def _channel(target: str) -> Iterator[grpc.Channel]:
    """Open a connection that shares nothing with others: each question is asked anew."""
    grpc = _grpc()
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    if os.environ.get(TLS, "0") in ("", "0"):
        channel = grpc.insecure_channel(target, options=options)
    else:
        channel = grpc.secure_channel(target, _certificates(), options=options)
    with channel:
        yield channel


def _certificates() -> grpc.ChannelCredentials:
    """Return what Ray's variables say of TLS."""
    parts = []
    for name in ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT"):
        path = os.environ.get(name, "")
        try:
            with open(path, "rb") as file:
                parts.append(file.read())
        except OSError as error:
            raise InputError(
                f"{TLS} is set, and {name} is '{path}', which cannot be read: {error.strerror}. "
                f"Set it to the file, or unset {TLS}."
            ) from None
    return _grpc().ssl_channel_credentials(*parts)


def _silent(error: grpc.RpcError, target: str, source: str) -> InputError:
    """Return why an answer is none of a Ray head."""
    reason, is_other = _reason(error.code().name, str(error.details()))
    kind = InputError if is_other else HeadSilent
    return kind(
        f"No Ray cluster answers at '{target}' ({source}): {reason}. Start one with "
        "`ray start --head`, correct the address, or leave it out (and unset RAY_ADDRESS): then "
        "this machine alone is used."
    )


def _reason(code: str, details: str) -> tuple[str, bool]:
    """Return why an answer is none, and whether another kind of server gave it."""
    if code == "UNIMPLEMENTED":
        return "what listens there is another kind of server, perhaps Ray's client server", True
    if code == "DEADLINE_EXCEEDED":
        return f"nothing came within {ANSWER_S:.0f} s", False
    if "resolv" in details or "lookup" in details:
        return "there is no host of that name", False
    if "HTTP/2" in details or "SETTINGS" in details:
        return "what listens there is not Ray", True
    if "refused" in details:
        return "the connection was refused", False
    return details.rpartition(": ")[2].strip(" .") or code, False


def _versions(answer: bytes) -> dict[str, Any]:
    """Return the head's versions from the answer of its store; empty where it names none yet."""
    begin, end = answer.find(b"{"), answer.rfind(b"}")
    try:
        versions = json.loads(answer[begin : end + 1])
    except ValueError:
        return {}
    return versions if isinstance(versions, dict) else {}


def _raise_if_other_versions(versions: dict[str, Any], place: str) -> None:
    ray, python = versions.get("ray_version"), versions.get("python_version")
    own = metadata.version("ray")
    if ray and ray != own:
        raise InputError(
            f"{place} runs Ray {ray}, and this is Ray {own}. All machines need the same: install "
            f"Affectune there with the same constraints, or ray=={ray} here."
        )
    if python and _compared(python) != _compared(python_version()):
        raise InputError(
            f"{place} runs Python {python}, and this is Python {python_version()}. All machines "
            f"need the same: use Python {python} here, or Python {python_version()} there. Where "
            f"only the last number differs, {PYTHON_LEVEL}=minor lets Ray go on."
        )


def _compared(version: str) -> list[str]:
    is_minor = os.environ.get(PYTHON_LEVEL) == "minor"
    return version.split(".")[: 2 if is_minor else 3]


def _request(key: bytes, space: bytes) -> bytes:
    """Return a question for a key of the head's store, as protobuf writes it."""
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(space)]) + space


def _grpc() -> Any:
    import grpc  # it takes a moment, and few commands ask

    return grpc
