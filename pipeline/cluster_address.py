"""The address of a Ray cluster: read, and asked for an answer within seconds. Imports no Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError, naming_doctor
from pipeline.local_ray.head import HeadSilent, bracketed, raise_if_unusable

VARIABLE = "RAY_ADDRESS"
LOCAL, AUTO = "local", "auto"
EXAMPLE = "ray-head:6379"
POLL_S = 2.0
"""So often a head that is waited for is asked."""


@naming_doctor()
def find_cluster(
    option: str | None,
    resolve_auto: Callable[[], str | None],
    *,
    option_name: str = "--address",
    wait_s: float = 0.0,
    on_wait: Callable[[str], None] = lambda reason: None,
) -> str | None:
    """Return the address of the cluster to use, after it has answered.

    Args:
        option: what was asked for; None: what RAY_ADDRESS says.
        resolve_auto: finds the cluster that this machine is part of; None where there is none.
        option_name: of the option, for errors.
        wait_s: so long a head that does not answer is waited for.
        on_wait: called once, with why the head is waited for.

    Returns:
        "host:port", or None for a Ray of this process on this machine.

    Raises:
        InputError: it is no address of a Ray head, no Ray head answers there, or it lets this
            process not in: see `pipeline.local_ray.head`.
    """
    until, has_said = time.monotonic() + wait_s, False
    while True:
        try:
            return _find_cluster(option, resolve_auto, option_name)
        except HeadSilent as error:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise
            if not has_said:
                on_wait(str(error))
                has_said = True
            time.sleep(min(POLL_S, left_s))


def parse_address(address: str, source: str) -> tuple[str, int]:
    """Return host and port of a Ray head.

    Args:
        address: as it was given.
        source: who gave it, for errors.

    Raises:
        InputError: it is no address of a Ray head.
    """
    said = f"{source} is '{masked_uri(address)}'"
    scheme, separator, _ = address.partition("://")
    if separator and scheme == "ray":
        raise InputError(
            f"{said}, the address of a Ray Client server. Affectune needs the head's own address: "
            f"give auto or host:port, such as {EXAMPLE}."
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


def _find_cluster(
    option: str | None, resolve_auto: Callable[[], str | None], option_name: str
) -> str | None:
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
            raise HeadSilent(
                f"{source} is 'auto', and no Ray cluster runs on this machine. Start one with "
                "`ray start --head`, or leave the address out: then this machine alone is used."
            )
        source = f"{source} auto"

    host, port = parse_address(address, source)
    raise_if_unusable(host, port, source)
    return f"{bracketed(host)}:{port}"
