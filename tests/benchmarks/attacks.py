"""A well-behaved client beside attackers: how often it succeeds, and the memory that they take.

`SECONDS` in the environment: how long each attack lasts (60).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import psutil

import affectune
from tests.benchmarks.paper_model import request_body, write_paper_bundle
from tests.benchmarks.rows import Row, less_is_better, more_is_better
from tests.serving_tests.attackers import ATTACKS
from tests.serving_tests.endpoint_process import free_port, running, serve_command

NUM_FRAMES = 60
PERIOD_S = 0.2
TIMEOUT_S = 5.0
MIN_SUCCESS_PERCENT, MAX_MB = 99.0, 1024.0
FILES = 1024
"""The endpoint may open so many, as most systems have it."""
QUIET_S = 10.0
"""So long after the last attack the memory is measured again."""


@dataclass
class Figures:
    """What came of one attack.

    Attributes:
        statuses: of the well-behaved client's requests, by path; 0 where no response came.
        max_ms: its slowest request.
        max_mb: of the largest process among proxy and replicas.
    """

    statuses: dict[str, list[int]] = field(default_factory=dict)
    max_ms: float = 0.0
    max_mb: float = 0.0

    def success_percent(self) -> float:
        """Return how many of the requests were answered with 200."""
        statuses = [status for by_path in self.statuses.values() for status in by_path]
        return 100.0 * statuses.count(200) / len(statuses)


def attack_rows() -> list[Row]:
    """Return the success of a well-behaved client and the memory, for each attack."""
    duration_s = float(os.environ.get("SECONDS", "60"))
    names = os.environ.get("ATTACKS", ",".join(["none", *ATTACKS])).split(",")

    with tempfile.TemporaryDirectory() as temporary:
        folder, port = Path(temporary), free_port()
        bundle = write_paper_bundle(folder)
        body = request_body(affectune.load(bundle), NUM_FRAMES)

        limited = ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh"]
        command = [*limited, *serve_command(str(bundle), port)]
        with running(command, port, "/readyz", folder / "log") as process:
            rows = []
            for name in names:
                rows += _rows(name, _measure(name, port, process, body, duration_s))
            time.sleep(QUIET_S)
            after_mb = max(_memory_mb(process))

    return [*rows, less_is_better("attacks_memory_afterwards", after_mb, MAX_MB, "MB")]


def _rows(name: str, figures: Figures) -> list[Row]:
    percent = figures.success_percent()
    return [
        more_is_better(f"attack_{name}_success", percent, MIN_SUCCESS_PERCENT, "%"),
        less_is_better(f"attack_{name}_memory", figures.max_mb, MAX_MB, "MB"),
    ]


def _measure(name: str, port: int, process: int, body: bytes, duration_s: float) -> Figures:
    figures, is_over = Figures(), Event()

    with _attackers(name, port, duration_s + 5):
        time.sleep(2)
        clients = [
            Thread(target=_client, args=(port, "GET", "/healthz", b"", figures, duration_s)),
            Thread(target=_client, args=(port, "GET", "/readyz", b"", figures, duration_s)),
            Thread(
                target=_client, args=(port, "POST", "/v1/predictions", body, figures, duration_s)
            ),
        ]
        watcher = Thread(target=_watch, args=(process, figures, is_over))
        for thread in (*clients, watcher):
            thread.start()
        for client in clients:
            client.join()
        is_over.set()
        watcher.join()

    return figures


@contextlib.contextmanager
def _attackers(name: str, port: int, duration_s: float) -> Iterator[None]:
    """Run the clients of one attack, or none, in a process of their own."""
    if name == "none":
        yield
        return

    module = "tests.serving_tests.attackers"
    command = [sys.executable, "-m", module, name, str(port), str(duration_s)]
    attackers = subprocess.Popen(command)
    try:
        yield
    finally:
        attackers.kill()
        attackers.wait()


def _client(
    port: int, method: str, path: str, body: bytes, figures: Figures, duration_s: float
) -> None:
    """Send a request on a connection of its own, again and again."""
    statuses = figures.statuses.setdefault(path, [])
    end = time.monotonic() + duration_s

    while (begin := time.monotonic()) < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        except (OSError, http.client.HTTPException):
            statuses.append(0)
        finally:
            connection.close()

        taken_s = time.monotonic() - begin
        figures.max_ms = max(figures.max_ms, taken_s * 1000)
        time.sleep(max(0.0, PERIOD_S - taken_s))


def _watch(process: int, figures: Figures, is_over: Event) -> None:
    while not is_over.wait(0.5):
        figures.max_mb = max(figures.max_mb, *_memory_mb(process))


def _memory_mb(process: int) -> list[float]:
    """Return the resident memory of the proxy and of each replica."""
    sizes = []
    for child in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(name in " ".join(child.cmdline()) for name in ("ProxyActor", "ServeReplica")):
                sizes.append(child.memory_info().rss / 2**20)
    return sizes
