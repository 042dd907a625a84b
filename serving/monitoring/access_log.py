"""One JSON line per request, with an id that the response carries too; and its share of metrics."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.credentials.masking import masked
from serving.monitoring.metrics import Metrics
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, to_json

log = logging.getLogger(__name__)

ERROR_CODE = "error_code"
"""The key of an ASGI scope under which a handler leaves the code of a request error."""
REFUSED = "refused"
"""The key under which a server leaves the RequestError with which it answered by itself."""
CLIENT_LEFT = 499
METHODS = ("GET", "POST", "HEAD")
ROUTES = frozenset(
    (
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/model",
        "/v1/example",
        "/v1/predictions",
    )
)
PAGE, PAGE_ROUTE = "/page/", "/page/{name}"
X_REQUEST_ID = b"x-request-id"
REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
INTERNAL_ERROR = RequestError(
    500, "internal", "It failed here; the log has the cause under this response's X-Request-Id."
)


class AccessLog:
    """ASGI middleware around everything, errors included.

    Args:
        app: the application to log.
        metrics: where requests, their latency and their errors are counted; None: a proxy before
            this process counts and logs them.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics | None) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, mark its response, and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begin = time.perf_counter()
        request_id = _request_id(scope)
        # What answers, such as a replica behind a proxy, is to use the same id.
        scope["headers"] = _with_request_id(scope["headers"], request_id)
        status = CLIENT_LEFT  # until a response begins

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_own_headers(message["headers"], request_id)
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        except Exception:
            log.exception("A request failed.", extra={"request_id": request_id.decode()})
            if status == CLIENT_LEFT:
                body = to_json(INTERNAL_ERROR.to_json())
                response = Response(body, INTERNAL_ERROR.status, media_type=JSON)
                await response(scope, receive, send_marked)
        finally:
            seconds = time.perf_counter() - begin
            if self.metrics is not None:
                record_request(self.metrics, scope, status, seconds, request_id)


def record_request(
    metrics: Metrics, scope: Scope, status: int, seconds: float, request_id: bytes
) -> None:
    """Count a request, and log it."""
    refused: RequestError | None = scope.get(REFUSED)
    if refused and status == CLIENT_LEFT:
        status, scope[ERROR_CODE] = refused.status, refused.code

    # Never the path itself as a label: anybody can invent paths.
    route = getattr(scope.get("route"), "path", None) or _route(scope["path"])
    method = scope["method"] if scope["method"] in METHODS else "other"
    code = scope.get(ERROR_CODE)

    metrics.requests.labels(route, method, str(status)).inc()
    metrics.latency.labels(route).observe(seconds)
    if code:
        metrics.request_errors.labels(code).inc()

    fields = {
        "request_id": request_id.decode(),
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    if code:
        fields["code"] = code
    log.info("request", extra=fields)


class JsonLinesFormatter(logging.Formatter):
    """Log records as JSON, one a line."""

    fields = ("request_id", "route", "status", "ms", "code", "version")

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line, with those of `fields` that it has."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": masked(record.getMessage()),
        }

        line |= {name: getattr(record, name) for name in self.fields if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line)


def with_own_headers(
    headers: Iterable[tuple[bytes, bytes]], request_id: bytes
) -> list[tuple[bytes, bytes]]:
    """Give a response the request's id, and those of `HEADERS` that it does not set itself."""
    kept = _with_request_id(headers, request_id)
    names = {name.lower() for name, _ in kept}
    return [*kept, *((name, value) for name, value in HEADERS if name not in names)]


def _with_request_id(
    headers: Iterable[tuple[bytes, bytes]], request_id: bytes
) -> list[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in headers if name.lower() != X_REQUEST_ID]
    return [*others, (X_REQUEST_ID, request_id)]


def _request_id(scope: Scope) -> bytes:
    """Return the client's id where it is a good one, else a new one."""
    sent: bytes = dict(scope["headers"]).get(X_REQUEST_ID, b"")
    return sent if REQUEST_ID.fullmatch(sent) else new_request_id()


def new_request_id() -> bytes:
    """Return an id for a request that brings none."""
    return uuid.uuid4().hex.encode()


def _route(path: str) -> str:
    """Return the route of a path, where no application has told it."""
    if path in ROUTES:
        return path
    is_of_page = path.startswith(PAGE) and "/" not in path.removeprefix(PAGE)
    return PAGE_ROUTE if is_of_page else "other"
