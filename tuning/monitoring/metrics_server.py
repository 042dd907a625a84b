"""Answers Prometheus over HTTP while a study runs. Knows no study: a function makes the text."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.errors import InputError

PATH = "/metrics"
MAX_CONNECTIONS = 8
"""Prometheus needs one; more are closed at once."""
REQUEST_TIMEOUT_S = 5.0
LAST_SCRAPE_S = 20.0
"""So long a study that is finished waits for whoever reads its metrics regularly."""
LOOPBACK_NAMES = ("localhost", "localhost.localdomain")


class MetricsServer(ThreadingHTTPServer):
    """Answers GET /metrics.

    Args:
        host: an address of this machine.
        port: 0 for any.
        text: returns what is answered.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, text: Callable[[], bytes]) -> None:
        self.text = text
        self.is_loopback = _is_loopback(host)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._read = threading.Condition()
        self._read_at: list[float] = []
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:  # a name that is not known is one, too
            raise InputError(
                f"Cannot listen for Prometheus at {host}, port {port}: {error.strerror or error}. "
                "Choose another --metrics-port, or a --metrics-host of this machine."
            ) from error

    def process_request(self, request: object, client_address: object) -> None:
        """Answer in a thread, where there is room."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""

    def note_read(self) -> None:
        """Remember that the metrics were read."""
        with self._read:
            self._read_at = [*self._read_at, time.monotonic()][-2:]
            self._read.notify_all()

    def let_read(self, timeout_s: float = LAST_SCRAPE_S) -> None:
        """Wait until the metrics are read once more, where they are read regularly."""
        with self._read:
            if len(self._read_at) < 2:
                return
            before, last = self._read_at
            due_s = last + 1.5 * (last - before) - time.monotonic()
            self._read.wait_for(lambda: self._read_at[-1] > last, min(max(due_s, 0.0), timeout_s))


@contextlib.contextmanager
def metrics_server(host: str, port: int, text: Callable[[], bytes]) -> Iterator[MetricsServer]:
    """Answer from threads of this process for the time of a block.

    Where the block ends without an error, its last metrics are still read.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """
    server = MetricsServer(host, port, text)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield server
        with contextlib.suppress(KeyboardInterrupt):  # all is done
            server.let_read()
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S
    server: MetricsServer

    def do_GET(self) -> None:
        # A web page may let a name of its own point at loopback, and would read the answer.
        if self.server.is_loopback and not _is_loopback(_host_of(self.headers.get("Host", ""))):
            self.send_error(421, explain="Ask at localhost or at a loopback address.")
            return
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, explain=f"The metrics are at {PATH}.")
            return

        text = self.server.text()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.server.note_read()

    def version_string(self) -> str:
        return "affectune"

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: the terminal shows the study."""


def _host_of(authority: str) -> str:
    """Return the host of a header Host: without its port and the brackets of IPv6."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
