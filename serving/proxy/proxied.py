"""The mark that the bounded proxy puts on what it passes on, and the refusal of what lacks it.

On a cluster Ray's proxies are bounded only where they were started so. One that is not would let
any client fill its memory, and knows no host names: no replica answers what comes through it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.monitoring.access_log import ERROR_CODE
from serving.proxy.proxy_errors import CALLBACK
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, to_json

MARK_NAME = b"x-affectune-bounded"
MARK = (MARK_NAME, b"1")
REMINDER_S = 60.0
HOW = (
    "Ray's proxy on this node does not bound requests. Start Serve with the configuration that "
    f"`affectune serve --write-config` writes, or start the nodes with {'='.join(CALLBACK)}; "
    "then run `serve shutdown` once, and deploy again."
)
UNBOUNDED = RequestError(503, "unbounded_proxy", HOW, retry_after_s=60)

log = logging.getLogger(__name__)


class BehindBoundedProxy:
    """ASGI middleware of a replica that answers only what came through a bounded proxy.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._said_s = -REMINDER_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or MARK in map(tuple, scope["headers"]):
            await self._app(scope, receive, send)
            return

        if time.monotonic() - self._said_s >= REMINDER_S:
            self._said_s = time.monotonic()
            log.error(HOW)
        error = replace(UNBOUNDED)
        scope[ERROR_CODE] = error.code
        headers = {"retry-after": str(error.retry_after_s)}
        await Response(to_json(error.to_json()), error.status, headers, JSON)(scope, receive, send)
