"""One JSON line per request, with an id that the response carries, too; and its share of the metrics."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics
from serving.request_error import RequestError
from serving.schema import to_json

log = logging.getLogger(__name__)
FAILED = RequestError(
    500, "internal", "It failed here; the log has the cause under this response's X-Request-Id."
)
REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class RequestsLog:
    """ASGI middleware around everything, errors included."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        status = 499  # the client left before there was an answer

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                set_already = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in HEADERS if name not in set_already]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *added]
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        except Exception:
            log.exception("A request failed.", extra={"request_id": request_id.decode()})
            if status == 499:  # no answer has begun
                await Response(to_json(FAILED.to_json()), 500, media_type="application/json")(
                    scope, receive, send_marked
                )
        finally:
            self._note(scope, status, time.perf_counter() - begin, request_id.decode())

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(
            scope.get("route"), "path", "other"
        )  # never the path itself: anybody can invent paths
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.latency.labels(route).observe(seconds)
        if code := scope.get("refusal"):
            self.metrics.refusals.labels(code).inc()
        fields = {
            "request_id": request_id,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        log.info("request", extra={**fields, **({"code": code} if code else {})})


class JsonLines(logging.Formatter):
    """Log records as JSON, one a line."""

    fields = ("request_id", "route", "status", "ms", "code", "version")

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in self.fields if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
