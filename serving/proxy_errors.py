"""What Ray's proxy answers by itself, such as a time-out, in the one JSON form for every error.

The proxy imports this module by its name, see `CALLBACK`. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.request_error import RequestError
from serving.schema import JSON, to_json

CALLBACK = ("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "serving.proxy_errors.middlewares")
"""The variable by which Ray's proxy finds `middlewares`, and its value."""
ERRORS = {
    408: ("request_timeout", "There was no answer in time. Try again, or cut the session."),
    429: ("busy", "Too many requests. Try again."),
    500: ("internal", "The endpoint failed. Its log has more."),
    503: ("unavailable", "No replica can answer now. Try again."),
}
RETRY_AFTER_S = "1"


def middlewares() -> list[Middleware]:
    """Return what the proxy puts around every request."""
    return [Middleware(ProxyErrors)]


class ProxyErrors:
    """Puts errors that are not in JSON, which are the proxy's own, into the form of `Error`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back."""
        body = b""

        async def send_json(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start" and _is_of_proxy(message):
                body = _body(message["status"])
                headers = MutableHeaders(scope=message)
                headers["content-type"], headers["content-length"] = JSON, str(len(body))
                if message["status"] in (429, 503):
                    headers.setdefault("retry-after", RETRY_AFTER_S)
            elif message["type"] == "http.response.body" and body:
                if message.get("more_body"):
                    return
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self._app(scope, receive, send_json)


def _is_of_proxy(message: MutableMapping[str, Any]) -> bool:
    headers = MutableHeaders(scope=message)
    return message["status"] in ERRORS and headers.get("content-type", "").split(";")[0] != JSON


def _body(status: int) -> bytes:
    code, text = ERRORS[status]
    return to_json(RequestError(status, code, text).to_json())
