"""Server processes for tests and benchmarks: started, loaded with requests, ended.

Knows no model and no registry: whoever starts a server says what it serves.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread

import numpy as np
import psutil

MAX_START_S = 300
"""A busy machine needs minutes to start a server; a quiet one 15 s."""
MAX_END_S = 60
REQUEST_TIMEOUT_S = 150
BUSY_WITHOUT_RETRY_AFTER = 599
"""Stands for a 503 without the time of the next try, which the endpoint must never send."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str], port: int, ready_path: str, log: Path, **environment: str
) -> Iterator[int]:
    """Start a server, wait until it is ready, and end it when the block is left.

    SIGTERM goes to its whole process group, as from a terminal or a service manager.

    Args:
        command: its program and arguments.
        port: where it listens.
        ready_path: its GET is answered with 200 when the server is ready.
        log: where its output is appended.
        environment: variables that it gets beside those of this process.

    Yields:
        Its process id.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            start_new_session=True,
        )

    try:
        deadline = time.monotonic() + MAX_START_S
        while get_status(port, ready_path) != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start; see {log}")
            time.sleep(0.2)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(MAX_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve_command(model: str, port: int) -> list[str]:
    """Return the command line of `affectune serve`."""
    return [sys.executable, "-m", "affectune", "serve", "--model", model, "--port", str(port)]


def running_endpoint(
    model: str, port: int, log: Path, **settings: object
) -> contextlib.AbstractContextManager[int]:
    """Run `affectune serve` with some settings, which it reads from its environment."""
    environment = {
        f"AFFECTUNE_SERVE_{name.upper()}": str(value) for name, value in settings.items()
    }
    return running(serve_command(model, port), port, "/readyz", log, **environment)


def get_status(port: int, path: str) -> int:
    """Return the status of a GET; 0 where no response comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def replicas(process_id: int) -> list[int]:
    """Return the process ids of the replicas below a running endpoint, in ascending order."""
    descendants = psutil.Process(process_id).children(recursive=True)
    return sorted(process.pid for process in descendants if _is_replica(process))


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "ServeReplica:affectune" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Attributes:
        status: HTTP status; 0 where no response came.
        duration_s: from the request to the response, retries included.
        version: the model's; empty where the response names none.
    """

    status: int
    duration_s: float
    version: str


@dataclass
class Load:
    """Clients that send one request over and over, and the outcomes of all requests.

    Attributes:
        port: where the server listens on this machine.
        body: of each request, as JSON.
        path: where it is posted.
        retries: how often a client repeats a request that got no prediction.
        outcomes: one per request, in the order in which they ended.
    """

    port: int
    body: bytes
    path: str = "/v1/predictions"
    retries: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def closed(self, num_clients: int, duration_s: float, num_requests: int | None = None) -> float:
        """Send requests from clients that each wait for a response before the next request.

        Args:
            num_clients: how many, at the same time.
            duration_s: no request starts later; without meaning where `num_requests` is given.
            num_requests: of each client; None: as many as the time allows.

        Returns:
            Predictions per second, those of earlier loads of this object included.
        """
        begin = time.monotonic()
        arguments = (begin + duration_s, num_requests)
        threads = [Thread(target=self._client, args=arguments) for _ in range(num_clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        return len(self.durations_s()) / (time.monotonic() - begin)

    def open(self, rate: float, duration_s: float) -> None:
        """Send requests at random times, whether or not earlier ones have got a response.

        Args:
            rate: requests per second, on average.
            duration_s: no request starts later.
        """
        random = np.random.default_rng(0)
        threads = []
        begin, start_s = time.monotonic(), 0.0

        while (start_s := start_s + float(random.exponential(1 / rate))) < duration_s:
            time.sleep(max(0.0, begin + start_s - time.monotonic()))
            thread = Thread(target=self._client, args=(0.0, 1))
            thread.start()
            threads.append(thread)

        for thread in threads:
            thread.join()

    def counts(self) -> dict[int, int]:
        """Return how many requests ended with each status."""
        return dict(Counter(outcome.status for outcome in self.outcomes))

    def durations_s(self) -> list[float]:
        """Return the duration of every request that got a prediction."""
        return [outcome.duration_s for outcome in self.outcomes if outcome.status == 200]

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the durations of requests that got a prediction."""
        return float(np.percentile(self.durations_s(), percent)) * 1000

    def _client(self, end: float, num_requests: int | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT_S)

        for number in itertools.count():
            is_over = time.monotonic() >= end if num_requests is None else number >= num_requests
            if is_over:
                break
            outcome = self._request(connection)
            with self.lock:
                self.outcomes.append(outcome)

        connection.close()

    def _request(self, connection: http.client.HTTPConnection) -> Outcome:
        """Send one request, and repeat it where it gets no prediction and retries are left."""
        begin = time.perf_counter()

        status, version, retry_after_s = self._send(connection)
        for _ in range(self.retries):
            if status == 200:
                break
            time.sleep(retry_after_s)
            status, version, retry_after_s = self._send(connection)

        return Outcome(status, time.perf_counter() - begin, version)

    def _send(self, connection: http.client.HTTPConnection) -> tuple[int, str, float]:
        """Send the body once; return its status, the model's version and when to try next."""
        try:
            connection.request("POST", self.path, self.body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0, "", 0.0

        status, retry_after = response.status, response.headers["Retry-After"]
        if status == 503 and retry_after is None:
            status = BUSY_WITHOUT_RETRY_AFTER
        version = content[:300].partition(b'"version":"')[2].partition(b'"')[0].decode()
        return status, version, float(retry_after or 0)
