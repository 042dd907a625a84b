"""An S3 server on loopback (moto's), and a proxy before it that fails as networks do."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "bucket"
KEY_ID, SECRET = "KEYID", "pear7grape8plum"
START_S = 60.0
STEP_BYTES = 64 * 1024

Fault = str
"""What happens to a request: "503", "403", "429", "501" (refused before anything is done), "silent"
(no answer for a while), "cut" (closed in the middle of the answer's body), "lost" (done, but closed
before the answer), "unconditional" (its conditions are left out)."""


class S3Server:
    """The server, in a process of its own.

    Attributes:
        port: on loopback.
    """

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError(f"The S3 server did not start: {log.read_text()}")
            time.sleep(0.05)
        self.put(f"/{BUCKET}")

    def put(self, path: str) -> None:
        """Send an empty PUT, such as one that makes a bucket."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30):
            pass

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(30)


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, or has them fail.

    Attributes:
        choose: takes a request's method and path, and returns its fault; None: it is passed on.
        requests: method, path and status of all that were passed on or refused.
        bytes_per_s: so fast the bodies of requests are taken.
        num_torn: so many requests ended before their data did.
        silent_s: so long a silent request waits.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        # What the kernel holds back for the proxy arrives although its sender is killed.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STEP_BYTES)
        self.behind = port
        self.choose: Callable[[str, str], Fault | None] = lambda method, path: None
        self.requests: list[tuple[str, str, int]] = []
        self.bytes_per_s: float | None = None
        self.silent_s = 5.0
        self.writing = threading.Lock()
        self.over = threading.Event()
        self.num_torn = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        """Answer requests from a thread until the block is left."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.over.set()
            self.shutdown()
            self.server_close()

    def fail(self, *faults: Fault, methods: str = "GET|HEAD|PUT|POST|DELETE") -> None:
        """Have the next requests of some methods fail, one after the other."""
        waiting = list(faults)

        def choose(method: str, path: str) -> Fault | None:
            return waiting.pop(0) if waiting and re.fullmatch(methods, method) else None

        self.choose = choose

    def uri(self, prefix: str, keys: str = f"{KEY_ID}:{SECRET}@", bucket: str = BUCKET) -> str:
        """Return the URI of a store behind the proxy."""
        options = f"endpoint_override=127.0.0.1:{self.server_port}&scheme=http&region=us-east-1"
        return f"s3://{keys}{bucket}/{prefix}?{options}"

    def direct_uri(self, prefix: str) -> str:
        """Return the URI of a store on the server itself."""
        return self.uri(prefix).replace(f":{self.server_port}&", f":{self.behind}&")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that are gone."""


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        fault = self.server.choose(self.command, self.path)
        body = self._body()
        if fault == "silent":
            self.server.over.wait(self.server.silent_s)
            self._hang_up()
            return
        if fault is not None and fault.isdigit():
            code = {"403": "AccessDenied", "501": "NotImplemented"}.get(fault, "SlowDown")
            self._answer(int(fault), {}, f"<Error><Code>{code}</Code></Error>".encode())
            return

        status, headers, content = self._ask(body, has_conditions=fault != "unconditional")
        if fault == "lost":
            self._hang_up()
        elif fault == "cut":
            self._answer(status, headers, content, sent=len(content) // 2)
            self._hang_up()
        else:
            self._answer(status, headers, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _body(self) -> bytes:
        """Take the whole body, as fast as is allowed.

        Raises:
            ConnectionError: the client is gone before its end: then nothing is done.
        """
        left, body = int(self.headers.get("Content-Length") or 0), b""
        while left:
            part = b""
            with contextlib.suppress(ConnectionError):
                part = self.rfile.read(min(left, STEP_BYTES))
            if not part:
                self.server.num_torn += 1
                raise ConnectionError
            body, left = body + part, left - len(part)
            if self.server.bytes_per_s:
                time.sleep(len(part) / self.server.bytes_per_s)
        return body

    def _ask(self, body: bytes, *, has_conditions: bool) -> tuple[int, dict[str, str], bytes]:
        skipped = {"connection", "transfer-encoding"}
        if not has_conditions:
            skipped |= {"if-match", "if-none-match"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        # moto looks whether an object is there, and then writes it: not in one step.
        with self.server.writing if self.command == "PUT" else contextlib.nullcontext():
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        connection.close()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in skipped}
        return answer.status, kept, content

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, *, sent: int | None = None
    ) -> None:
        self.server.requests.append((self.command, self.path, status))
        self.send_response_only(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Proxy]:
    """Yield a proxy before a new S3 server, until the block is left."""
    server = S3Server(folder / f"s3-{os.getpid()}.log")
    try:
        with Proxy(server.port).running() as proxy:
            yield proxy
    finally:
        server.stop()
