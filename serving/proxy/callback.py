"""What runs in the process of Ray's proxy around every request: bounds, own answers, the log.

The proxy imports this module by its name, see `proxy_errors.CALLBACK`. Knows no Ray.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource

import uvicorn.config
from starlette.middleware import Middleware

from serving.monitoring.access_log import (
    ERROR_CODE,
    AccessLog,
    new_request_id,
    record_request,
)
from serving.monitoring.json_log import log_json_lines
from serving.monitoring.metrics import Metrics
from serving.page.routes import load_page
from serving.proxy.connections import Connections
from serving.proxy.forwarding import Forwarding
from serving.proxy.hosts import KnownHosts
from serving.proxy.http_protocol import BoundedProtocol, Pipelines
from serving.requests.memory import keep_giving_back_memory
from serving.requests.request_error import RequestError
from serving.settings import PROXY_RECORDS, Settings, read_proxy_settings

FILES_OF_RAY = 256
"""Files and sockets that the proxy has open beside its clients' connections: some 100."""
MIN_CLIENTS = 16
M_MMAP_THRESHOLD = -3
MAPPED_BYTES = 128 * 2**10
"""glibc's own default; a fixed one does not grow."""


def middlewares() -> list[Middleware]:
    """Bound the HTTP server of this process, and return what the proxy puts around every request.

    Raises:
        InputError: a setting in the environment is out of range.
    """
    settings = read_proxy_settings(os.environ)
    _give_memory_back()
    metrics = Metrics.shared() if PROXY_RECORDS in os.environ else None
    log_json_lines()
    keep_giving_back_memory()
    load_page()

    # The server is made after this call, and takes its protocol from this table.
    uvicorn.config.HTTP_PROTOCOLS["auto"] = bounded_protocol(settings, metrics)  # type: ignore[assignment]
    return [
        Middleware(Forwarding, settings=settings),
        Middleware(KnownHosts, names=settings.host_names(), origins=settings.allowed_origins),
        Middleware(AccessLog, metrics=metrics),
    ]


def bounded_protocol(
    settings: Settings, metrics: Metrics | None
) -> functools.partial[BoundedProtocol]:
    """Return what makes the protocol of each connection of one server.

    Args:
        settings: the limits.
        metrics: where requests that no application sees are counted; None: they are not.
    """
    num_clients = min(settings.max_clients, _max_open_files() - FILES_OF_RAY)
    return functools.partial(
        BoundedProtocol,
        settings=settings,
        connections=Connections(max(num_clients, MIN_CLIENTS)),
        pipelines=Pipelines(),
        on_refused=functools.partial(_record, metrics),
    )


def _record(metrics: Metrics | None, error: RequestError) -> None:
    """Count and log a request whose head could not be read."""
    if metrics is None:
        return

    scope = {"method": "other", "path": "", ERROR_CODE: error.code}
    record_request(metrics, scope, error.status, 0.0, new_request_id())


def _max_open_files() -> int:
    """Return how many files this process may open, after it has taken all that it can get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 2**20


def _give_memory_back() -> None:
    """Have what large bodies took given back to the system, where the C library is glibc.

    It would else keep blocks for later that are as large as the largest that was ever given back.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
