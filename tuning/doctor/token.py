"""Whether a Ray head asks for a token, and takes the one of this user. Imports no Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.finding import Finding
from pipeline.local_ray.token import MODE, TOKEN, TOKEN_FILE

CHECK = "Ray token"
ANSWER_S = 5.0
QUESTION = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
"""What a head that asks for a token answers only to those who have it."""
REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
OPEN = (
    "On every node: `export RAY_AUTH_MODE=token` and the same ~/.ray/auth_token (`ray "
    "get-auth-token --generate` makes one), then start Ray there anew"
)
SAME = (
    "Copy ~/.ray/auth_token of the head's machine to this one (rights 600), or set "
    f"{TOKEN_FILE} to it; then `export {MODE}=token`"
)


def token_findings(address: str) -> Iterator[Finding]:
    """Ask a head that lives with the token of this user, and without one.

    Args:
        address: of the head, host:port.
    """
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        yield Finding(CHECK, "ok", "not asked for: this Ray uses TLS")
        return
    if not _is_refused(address, None):
        said = f"'{address}' asks for no token: everybody who reaches it can run programs there"
        yield Finding(CHECK, "error", said, OPEN)
        return

    token, place = _own_token()
    if token is None:
        yield Finding(CHECK, "error", f"'{address}' asks for a token, and {place}", SAME)
    elif _is_refused(address, token):
        said = f"'{address}' refuses the token of {place}: it has another one"
        yield Finding(CHECK, "error", said, SAME)
    elif os.environ.get(MODE, "token").lower() != "token":
        said = f"'{address}' asks for a token, and {MODE} is {os.environ[MODE]!r}: none is sent"
        yield Finding(CHECK, "error", said, f"`export {MODE}=token`")
    else:
        yield Finding(CHECK, "ok", f"'{address}' asks for a token, and takes that of {place}")


def _own_token() -> tuple[str | None, str]:
    """Return the token that this user's programs send, and where it is; or why there is none."""
    if token := os.environ.get(TOKEN):
        return token.strip(), TOKEN
    path = Path(os.environ.get(TOKEN_FILE) or "~/.ray/auth_token").expanduser()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        return None, f"'{path}' cannot be read ({getattr(error, 'strerror', error)})"
    return (token, f"'{path}'") if token else (None, f"'{path}' is empty")


def _is_refused(address: str, token: str | None) -> bool:
    """Return whether a head refuses a question for the want of a token, or for a wrong one."""
    import grpc

    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(QUESTION)(b"", timeout=ANSWER_S, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name in REFUSED
    return False
