"""A server with the bounds of the proxy, on a port of this machine, around any application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.monitoring.access_log import AccessLog
from serving.monitoring.metrics import Metrics
from serving.proxy.callback import bounded_protocol
from serving.proxy.forwarding import Forwarding
from serving.settings import Settings
from tests.serving_tests.attackers import Attack, attack

PATIENCE_S = 20.0
"""So long a test waits for what is to come soon."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the number of bytes in its body."""
    size_bytes, is_over = 0, False
    while not is_over:
        message = await receive()
        size_bytes += len(message.get("body", b""))
        is_over = not message.get("more_body", False)
    await Response(str(size_bytes))(scope, receive, send)


@contextlib.contextmanager
def served(app: ASGIApp = echo, **settings: Any) -> Iterator[int]:
    """Serve an application as the proxy does; yield the port."""
    limits, metrics = Settings.model_validate(settings), Metrics()
    config = uvicorn.Config(
        AccessLog(Forwarding(app, limits), metrics),
        http=bounded_protocol(limits, metrics),  # type: ignore[arg-type]  # it is called like one
        loop="uvloop",  # as Ray's proxy has it
        lifespan="off",
        log_level="critical",
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


@contextlib.contextmanager
def attacked(act: Attack, port: int, num_clients: int) -> Iterator[None]:
    """Have clients attack a port while the block runs."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(attack(act, port, num_clients))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes the connection.

    Raises:
        TimeoutError: it does not close it.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(data)
        end = time.monotonic() + PATIENCE_S
        while part := connection.recv(2**16):
            received += part
            if time.monotonic() > end:
                raise TimeoutError
    return received
