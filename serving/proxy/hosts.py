"""Who may ask from a browser: host names that this endpoint answers to, origins of web pages.

A web page elsewhere can send requests to an endpoint on loopback, and, by a name of its own that it
lets point there, read the answers. So a request names the endpoint by an address, or by a name that
is known here, and a page of another origin is refused. Starlette's TrustedHostMiddleware knows no
addresses in general and answers in plain text; its CORSMiddleware refuses nothing that a browser
sends without asking first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.monitoring.access_log import ERROR_CODE
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, to_json

ANY = "*"
AUTHORITY = re.compile(rb"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,255}))(?::([0-9]{0,5}))?")
"""Of a Host header in lower case: an IPv6 address, or a name or IPv4 address; a port."""
DEFAULT_PORTS = {b"http": "80", b"https": "443"}

MALFORMED = RequestError(
    400, "malformed_host", "The header Host must be there once, and name this endpoint.", "Host"
)
UNKNOWN = RequestError(
    421,
    "unknown_host",
    "This endpoint does not answer to the name in the header Host. Ask at localhost or an IP "
    "address, or have the name added to the endpoint's setting allowed_hosts.",
    "Host",
)
FOREIGN = RequestError(
    403,
    "foreign_origin",
    "A web page of another origin asked for this. Have its origin added to the endpoint's setting "
    "allowed_origins.",
    "Origin",
)


class KnownHosts:
    """ASGI middleware that refuses requests to other host names and of other sites' web pages.

    Args:
        app: what answers the others.
        names: that it answers to, beside localhost and any IP address: host names in lower case,
            `*.example.org` for all below one, `*` for all.
        origins: of web pages elsewhere that may ask, such as https://example.org; `*` for all.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], origins: Collection[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *names}
        self._domains = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._origins = {origin.encode() for origin in origins}
        self._shared_app = CORSMiddleware(
            app,
            allow_origins=[*origins],
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=[ANY],
            allow_private_network=True,
            expose_headers=["Retry-After", "X-Request-Id"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        error = self._error(scope["http_version"], hosts, origins)
        if error is not None:
            scope[ERROR_CODE] = error.code
            response = Response(to_json(error.to_json()), error.status, media_type=JSON)
            await response(scope, receive, send)
        elif origins and self._is_shared_with(origins[0]):
            await self._shared_app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _error(
        self, http_version: str, hosts: list[bytes], origins: list[bytes]
    ) -> RequestError | None:
        """Return why a request is refused, or None."""
        if not hosts and not origins and http_version == "1.0":
            return None  # a load balancer's probe; a browser always names the host

        host = AUTHORITY.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None:
            return MALFORMED
        if not self._is_known(host):
            return UNKNOWN

        is_foreign = len(origins) > 1 or (
            len(origins) == 1
            and not self._is_shared_with(origins[0])
            and not _is_same_origin(origins[0], host)
        )
        return FOREIGN if is_foreign else None

    def _is_known(self, host: re.Match[bytes]) -> bool:
        name, _ = _parts(host)
        if ANY in self._names or _is_address(name):
            return True
        return name in self._names or name.endswith(self._domains)

    def _is_shared_with(self, origin: bytes) -> bool:
        return origin in self._origins or ANY.encode() in self._origins


def _values(scope: Scope, name: bytes) -> list[bytes]:
    """Return the values of all headers of a name."""
    return [value.strip(b" \t") for key, value in scope["headers"] if key.lower() == name]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_same_origin(origin: bytes, host: re.Match[bytes]) -> bool:
    """Return whether a page comes from the same host and port that it asks.

    The scheme may be either: a proxy before the endpoint may speak TLS for it.
    """
    scheme, _, authority = origin.partition(b"://")
    default = DEFAULT_PORTS.get(scheme)
    page = AUTHORITY.fullmatch(authority)
    if default is None or page is None:
        return False

    (page_name, page_port), (name, port) = _parts(page), _parts(host)
    return (page_name, page_port or default) == (name, port or default)


def _parts(authority: re.Match[bytes]) -> tuple[str, str]:
    """Return an address, or a name without its final dot; and the port, or ""."""
    address, name, port = authority.groups(b"")
    return (address or name.removesuffix(b".")).decode(), port.decode()
