"""The log as JSON lines: each record exactly one line on the standard error of `affectune serve`.

Ray's way there leaves out lines that look alike, puts the process's name before each, and breaks
long ones. So a process of the endpoint sends its lines itself, over a link whose name is in its
environment. Without it, or where it breaks, as on another machine, they go to standard error.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import select
import socket
import sys
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler, QueueListener
from threading import Lock

from serving.monitoring import local_link
from serving.monitoring.access_log import JsonLinesFormatter

LINK = "AFFECTUNE_LOG_LINK"
"""The variable that names the link."""
MAX_WAITING = 10_000
"""Lines that wait to be sent, if nobody reads the log. Beyond, a request must not wait: its line is
lost, and a later line says so."""
SEND_TIMEOUT_S = 30.0
LAST_LINES_S = 2.0


def log_json_lines() -> None:
    """Have everything in serving log as JSON lines, in this process from now on."""
    logger = logging.getLogger("serving")
    for handler in logger.handlers:
        handler.close()

    name = os.environ.get(LINK)
    logger.handlers = [_Sender(name) if name else _on_stderr()]
    logger.propagate = False
    logger.setLevel(logging.INFO)


@contextlib.contextmanager
def collected_log() -> Iterator[None]:
    """Write the lines of all processes that start in this block to this one's standard error."""
    name = local_link.new_name("log")
    os.environ[LINK] = name
    lock, descriptor = Lock(), sys.stderr.fileno()

    def copy(link: socket.socket) -> None:
        for line in local_link.lines(link):
            with lock, contextlib.suppress(OSError):
                _write(descriptor, line + b"\n")

    listener = local_link.Listener(name, copy)
    try:
        yield
    finally:
        listener.close(LAST_LINES_S)
        del os.environ[LINK]


class _Sender(QueueHandler):
    """Formats records where they are made, and has a thread send them.

    Args:
        name: of the link.
    """

    def __init__(self, name: str) -> None:
        self._waiting: queue.Queue[logging.LogRecord] = queue.Queue(MAX_WAITING)
        super().__init__(self._waiting)
        self.setFormatter(JsonLinesFormatter())
        self._num_lost = 0

        self._target = _Target(name)
        self._thread = QueueListener(self._waiting, self._target)
        self._thread.start()
        atexit.register(self._send_last_lines)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Have a record sent; where too many wait, only their number is."""
        try:
            if self._num_lost:
                text = f"{self._num_lost} lines were lost: nobody read the log."
                self._waiting.put_nowait(self.prepare(_warning(text)))
                self._num_lost = 0
            self._waiting.put_nowait(record)
        except queue.Full:
            self._num_lost += 1

    def close(self) -> None:
        """Send what waits, and end the thread."""
        atexit.unregister(self._send_last_lines)
        self._send_last_lines()
        super().close()

    def _send_last_lines(self) -> None:
        deadline = time.monotonic() + LAST_LINES_S
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)


class _Target(logging.Handler):
    """Sends formatted records over a link, and writes them to standard error where it breaks."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._link: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; a link that broke is made anew, once."""
        line = f"{record.getMessage()}\n".encode()
        for _ in range(2):
            try:
                if self._link is None:
                    self._link = local_link.connect(self._name)
                    self._link.settimeout(SEND_TIMEOUT_S)
                self._link.sendall(line)
                return
            except OSError:
                if self._link is not None:
                    self._link.close()
                self._link = None
        with contextlib.suppress(OSError):
            _write(sys.stderr.fileno(), line)


def _on_stderr() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLinesFormatter())
    return handler


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of the bytes, also where the descriptor does not block."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [], 1.0)
