"""What a proxy does with a request: answers it, or reads it whole and gives it to a replica.

Knows no Ray: the application behind it may be Ray's proxy or any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import replace
from urllib.parse import quote

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.monitoring.access_log import ERROR_CODE, PAGE
from serving.page.routes import INDEX, page_response
from serving.proxy.error_responses import error_response
from serving.proxy.proxied import MARK, MARK_NAME
from serving.proxy.proxy_errors import REPLICA_LOST, UNAVAILABLE, proxy_error
from serving.requests.byte_budget import BudgetExceeded, ByteBudget, Share
from serving.requests.request_body import BodyReader
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, to_json
from serving.settings import Settings

log = logging.getLogger(__name__)

HEALTH = to_json({"status": "ok"})
PIECE_BYTES = 64 * 2**10
"""Of a response; the client has to read one before the next one leaves."""
FREE_BYTES = 64 * 2**10
"""A body or a response so small always finds room: the connections bound their number."""
LINGER_S, LINGER_BYTES = 10.0, 64 * 2**20
"""A client whose body is refused can send so much of the rest of it, and then read why."""
PROBE_TIMEOUT_S, MAX_PROBES, PROBE_AGE_S = 2.0, 8, 30.0
"""A replica has so long to say whether it is ready; then counts what was last said, if that is not
older than the last of these."""
NOT_FORWARDED = frozenset(
    (
        # Ray would let a client change its time limit, and have its leaving ignored.
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        # Ray would route by these, and fail where they are no text.
        b"serve-multiplexed-model-id",
        b"x-session-id",
        MARK_NAME,  # it is ours to say
    )
)
BUSY = RequestError(503, "busy", "Too many requests are waiting. Try again.", retry_after_s=1)


class Forwarding:
    """ASGI middleware of a proxy.

    A replica gets a request once its body is there, and is done with it before the client reads
    the response: neither a slow sender nor a slow reader holds a place in a replica.

    Args:
        app: passes requests on to replicas.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._bodies = BodyReader(settings, FREE_BYTES)
        self._outgoing = ByteBudget(settings.max_outgoing_bytes, FREE_BYTES)
        self._num_forwarded = self._num_probes = 0
        self._last_readiness: tuple[float, Response] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return  # what serves this has no others

        body = _Receiver(scope, receive)
        request = Request(scope, body)
        try:
            _normalise(scope)
            own_response = self._own_response(request)
            if own_response is not None:
                await _send_pieces(scope, own_response, send)
            elif response := await self._forwarded(request):
                await self._send(scope, response, send)
        except ClientDisconnect:
            return
        except RequestError as error:
            scope[ERROR_CODE] = error.code
            await _send_refusal(scope, body, error, send)

    def _own_response(self, request: Request) -> Response | None:
        """Return the response to a request that needs no replica, so that no load delays it."""
        path = request.scope["path"]
        if request.method not in ("GET", "HEAD"):
            return None

        if path == "/healthz":
            return Response(HEALTH, media_type=JSON)
        if path == "/":
            return page_response(request, INDEX)
        if path.startswith(PAGE):
            return page_response(request, path.removeprefix(PAGE))
        return None

    async def _forwarded(self, request: Request) -> Response | None:
        """Return a replica's response; None where the client has left."""
        if request.scope["path"] == "/readyz":
            return await self._readiness(request)

        self._raise_if_full()
        async with self._bodies.reading(request) as body:
            self._raise_if_full()
            self._num_forwarded += 1
            try:
                return await self._ask_replica(request, body)
            finally:
                self._num_forwarded -= 1

    def _raise_if_full(self) -> None:
        if self._num_forwarded >= self._settings.max_forwarded:
            raise replace(BUSY)

    async def _readiness(self, request: Request) -> Response | None:
        """Return what a replica says, or what one said last where none says it in time.

        Raises:
            RequestError: 503, no replica has said anything lately, or one has just ended.
        """
        if self._num_probes < MAX_PROBES:
            self._num_probes += 1
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    return await self._probe(request)
            except TimeoutError:
                pass
            finally:
                self._num_probes -= 1

        said_s, response = self._last_readiness or (0.0, None)
        if response is None or time.monotonic() - said_s > PROBE_AGE_S:
            raise replace(UNAVAILABLE)
        return response

    async def _probe(self, request: Request) -> Response | None:
        try:
            response = await self._ask_replica(request, b"")
        except RequestError:
            self._last_readiness = None
            raise
        if response is not None and response.status_code in (200, 503):
            self._last_readiness = time.monotonic(), response
        return response

    async def _ask_replica(self, request: Request, body: bytes) -> Response | None:
        """Return the whole response of a replica; None where the client has left.

        Raises:
            RequestError: it is the proxy's own response, or there is none.
        """
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        response = Response()
        response.status_code = 0
        parts: list[bytes] = []
        has_left = False

        async def receive() -> Message:
            nonlocal has_left
            message = messages.pop() if messages else await request.receive()
            has_left = has_left or message["type"] == "http.disconnect"
            return message

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.status_code = message["status"]
                response.raw_headers = [(name, value) for name, value in message["headers"]]
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        try:
            await self._app(request.scope, receive, send)
        except Exception:
            log.exception("A request could not be passed on.")
            raise replace(REPLICA_LOST) from None

        if response.status_code == 0:
            if has_left:
                return None
            raise replace(REPLICA_LOST)
        if error := proxy_error(response.status_code, Headers(raw=response.raw_headers)):
            raise error
        response.body = b"".join(parts)
        request.scope[ERROR_CODE] = _error_code(response)
        return response

    async def _send(self, scope: Scope, response: Response, send: Send) -> None:
        """Send a response of a replica, which takes room until its client has read it.

        Raises:
            RequestError: 503, too many responses wait for being read.
        """
        with self._outgoing.share() as share:
            try:
                async with share.moving(self._settings.request_timeout_s):
                    self._hold(share, response)
                    await _send_pieces(scope, response, send, share)
            except (BudgetExceeded, TimeoutError):
                log.warning("A response was cut off, because its client read it too slowly.")

    def _hold(self, share: Share, response: Response) -> None:
        try:
            self._outgoing.hold(share, len(response.body))
        except BudgetExceeded:
            raise replace(BUSY) from None


class _Receiver:
    """Receives the messages of a request, and knows whether its body has come."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self.is_over = not {"content-length", "transfer-encoding"} & set(headers.keys())
        self._receive = receive

    async def __call__(self) -> Message:
        message = await self._receive()
        self.is_over = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Receive what the client still sends, within bounds."""
        size_bytes = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self.is_over and size_bytes < LINGER_BYTES:
                    size_bytes += len((await self()).get("body", b""))


async def _send_pieces(
    scope: Scope, response: Response, send: Send, share: Share | None = None
) -> None:
    """Send a response; each piece of it once the client has read what came before."""
    body = b"" if scope["method"] == "HEAD" else bytes(response.body)
    await send(_start(response))

    for begin in range(0, len(body), PIECE_BYTES):
        piece = body[begin : begin + PIECE_BYTES]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        if share is not None:
            share.move(len(piece))
    await send({"type": "http.response.body", "body": b""})


async def _send_refusal(scope: Scope, incoming: _Receiver, error: RequestError, send: Send) -> None:
    """Send the response to a refused request, even where its client still sends the body."""
    response = error_response(error)
    if not incoming.is_over or error.code == UNAVAILABLE.code:
        response.headers["connection"] = "close"

    body = b"" if scope["method"] == "HEAD" else response.body
    await send(_start(response))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if error.status != 408:
        await incoming.discard()
    await send({"type": "http.response.body", "body": b""})


def _start(response: Response) -> Message:
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }


def _normalise(scope: Scope) -> None:
    """Give a request the form in which the application reads it.

    Raises:
        RequestError: 400, its target is no path.
    """
    kept = [pair for pair in scope["headers"] if not _is_not_forwarded(pair[0])]
    scope["headers"] = [*kept, MARK]
    if scope["path"].startswith("/"):
        return

    # The absolute form, http://host/path, as clients send it to a proxy.
    scheme, _, rest = scope["path"].partition("://")
    if scheme.lower() not in ("http", "https"):
        raise RequestError(400, "bad_request", "The request's target is no path.")
    scope["path"] = "/" + rest.partition("/")[2]
    scope["raw_path"] = quote(scope["path"]).encode()


def _is_not_forwarded(name: bytes) -> bool:
    return name.lower().replace(b"_", b"-") in NOT_FORWARDED


def _error_code(response: Response) -> str | None:
    """Return the code of an error, for the log."""
    if response.status_code < 400 or len(response.body) > PIECE_BYTES:
        return None

    try:
        return str(json.loads(bytes(response.body))["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None
