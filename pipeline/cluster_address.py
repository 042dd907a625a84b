"""The address of a Ray cluster: read, and asked for an answer within seconds. Imports no Ray.

Ray itself waits for minutes, without a word, for a cluster that is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError

VARIABLE = "RAY_ADDRESS"
LOCAL, AUTO = "local", "auto"
ANSWER_S = 5.0
HEALTH = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""What every Ray head answers, at once and without having to be connected to."""
EXAMPLE = "ray-head:6379"


def find_cluster(
    option: str | None, resolve_auto: Callable[[], str | None], *, option_name: str = "--address"
) -> str | None:
    """Return the address of the cluster to use, after it has answered.

    Args:
        option: what was asked for; None: what RAY_ADDRESS says.
        resolve_auto: finds the cluster that this machine is part of; None where there is none.
        option_name: of the option, for errors.

    Returns:
        "host:port", or None for a Ray of this process on this machine.

    Raises:
        InputError: it is no address of a Ray head, or no Ray head answers there.
    """
    address = (option or os.environ.get(VARIABLE) or "").strip()
    source = option_name if option else VARIABLE
    if address in ("", LOCAL):
        return None

    if address == AUTO:
        # Ray lets its variable say which; with this option, too.
        address = (os.environ.get(VARIABLE) or AUTO).strip()
    if address == AUTO:
        address = resolve_auto() or ""
        if not address:
            raise InputError(
                f"{source} is 'auto', and no Ray cluster runs on this machine. Start one with "
                "`ray start --head`, or leave the address out: then this machine alone is used."
            )
        source = f"{source} auto"

    host, port = _parse(address, source)
    _raise_if_silent(host, port, source)
    return f"{_bracketed(host)}:{port}"


def _parse(address: str, source: str) -> tuple[str, int]:
    """Return host and port of a Ray head."""
    said = f"{source} is '{masked_uri(address)}'"
    scheme, separator, _ = address.partition("://")
    if separator and scheme == "ray":
        raise InputError(
            f"{said}, the address of a Ray Client server. Affectune runs on a machine of the "
            f"cluster instead: give the head's own address there, such as auto or {EXAMPLE}."
        )
    if separator:
        raise InputError(
            f"{said}, a web address such as that of Ray's dashboard or job server. Give the head's "
            f"own address, host:port without {scheme}://, such as auto or {EXAMPLE}."
        )

    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
        is_plain = parts.netloc == address
    except ValueError:
        host, port, is_plain = None, None, False
    if "@" in address:
        raise InputError(
            f"{said}. A Ray head is reached without a user: give host:port, such as {EXAMPLE}. "
            "For a cluster that asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        )
    if not is_plain or not host or not port:
        raise InputError(
            f"{said}, which is not host:port. Give both, such as {EXAMPLE}, or auto for the "
            "cluster that this machine is part of."
        )
    return host, port


def _raise_if_silent(host: str, port: int, source: str) -> None:
    """Ask the head whether it lives; any answer of Ray's counts, also that a token is missing."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return  # a plain question would get no answer

    import grpc

    target = f"{_bracketed(host)}:{port}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(HEALTH)(b"", timeout=ANSWER_S)
        except grpc.RpcError as error:
            reason = _reason(error.code().name, str(error.details()))
            if reason is not None:
                raise InputError(
                    f"No Ray cluster answers at '{target}' ({source}): {reason}. Start one with "
                    "`ray start --head`, correct the address, or leave it out (and unset "
                    f"{VARIABLE}): then this machine alone is used."
                ) from None


def _reason(code: str, details: str) -> str | None:
    """Return why an answer is none; None where a Ray head gave it."""
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return None
    if code == "UNIMPLEMENTED":
        return "what listens there is another kind of server, perhaps Ray's client server"
    if code == "DEADLINE_EXCEEDED":
        return f"nothing came within {ANSWER_S:.0f} s"
    if "resolv" in details or "lookup" in details:
        return "there is no host of that name"
    if "HTTP/2" in details or "SETTINGS" in details:
        return "what listens there is not Ray"
    if "refused" in details:
        return "the connection was refused"
    return details.rpartition(": ")[2].strip(" .") or code


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
