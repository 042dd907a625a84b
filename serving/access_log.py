"""One JSON line per request, with an id that the response carries too; and its share of metrics."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.credentials.masking import masked
from serving.metrics import Metrics
from serving.request_error import RequestError
from serving.schema import JSON, to_json

log = logging.getLogger(__name__)

ERROR_CODE = "error_code"
"""The key of an ASGI scope under which a handler leaves the code of a request error."""
CLIENT_LEFT = 499
METHODS = ("GET", "POST", "HEAD")
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
        metrics: where requests, their latency and their errors are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, mark its response, and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begin = time.perf_counter()
        request_id = _request_id(scope)
        status = CLIENT_LEFT  # until a response begins

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_headers(message["headers"], request_id)
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
            self._record(scope, status, time.perf_counter() - begin, request_id.decode())

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        # Never the path itself as a label: anybody can invent paths.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        code = scope.get(ERROR_CODE)

        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.latency.labels(route).observe(seconds)
        if code:
            self.metrics.request_errors.labels(code).inc()

        fields = {
            "request_id": request_id,
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


def _request_id(scope: Scope) -> bytes:
    """Return the client's id where it is a good one, else a new one."""
    sent: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex.encode()


def _with_headers(
    headers: list[tuple[bytes, bytes]], request_id: bytes
) -> list[tuple[bytes, bytes]]:
    """Add the request's id, and those of `HEADERS` that the response does not set itself."""
    names = {name.lower() for name, _ in headers}
    added = [(name, value) for name, value in HEADERS if name not in names]
    return [*headers, (b"x-request-id", request_id), *added]
