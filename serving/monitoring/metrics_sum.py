"""The sum of what all processes of an endpoint on one machine have counted.

Each sends its samples over a link; one process adds them up. What an ended process counted stays,
what it was, such as its queue, goes. There are no files: a full disk does no harm, nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread

from pydantic import BaseModel, ValidationError

from serving.monitoring import local_link

log = logging.getLogger(__name__)

LINK = "AFFECTUNE_METRICS_LINK"
"""The variable that names the link."""
PERIOD_S = 0.25
TIMEOUT_S = 5.0

Samples = dict[str, float]
"""What identifies a sample, as text -> its value."""


class Sent(BaseModel):
    """What a process sends: samples that stay when it has ended, and those that go."""

    counts: Samples
    states: Samples


class MetricsSum:
    """Adds up the samples of the processes that are linked to this one.

    Args:
        name: of the link.

    Raises:
        OSError: another process does it.
    """

    def __init__(self, name: str) -> None:
        self._lock = Lock()
        self._ended: Counter[str] = Counter()
        self._running: dict[socket.socket, Sent] = {}
        self._listener = local_link.Listener(name, self._serve)

    def close(self) -> None:
        """End the links."""
        self._listener.close()

    def _serve(self, link: socket.socket) -> None:
        """Take the samples of one process, and answer each time with all of them."""
        try:
            for line in local_link.lines(link):
                sent = Sent.model_validate_json(line)
                with self._lock:
                    self._running[link] = sent
                    total = Counter(self._ended)
                    for sent in self._running.values():
                        _add(total, sent.counts)
                        _add(total, sent.states)
                link.sendall(json.dumps(total).encode() + b"\n")
        except ValidationError:
            log.warning("A process that is none of the endpoint's sent metrics.")
        finally:
            with self._lock:
                if link in self._running:
                    _add(self._ended, self._running.pop(link).counts)


class MetricsLink:
    """Sends the samples of this process a few times per second, and when they are asked for.

    Args:
        name: of the link. The first process that finds nobody there adds up itself.
        counts: returns the samples that stay when this process has ended.
        states: returns those that go.
    """

    def __init__(
        self, name: str, counts: Callable[[], Samples], states: Callable[[], Samples]
    ) -> None:
        self._name, self._counts, self._states = name, counts, states
        self._lock = Lock()
        self._link: socket.socket | None = None
        self._sum: MetricsSum | None = None
        self._is_closed = Event()
        Thread(target=self._send_regularly, daemon=True).start()

    def total(self) -> Samples:
        """Return the samples of all processes; those of this one where they cannot be had."""
        sent = Sent(counts=self._counts(), states=self._states())
        for _ in range(2):
            with self._lock, contextlib.suppress(OSError, ValueError):
                return self._exchange(sent)
        return sent.counts | sent.states

    def close(self) -> None:
        """Send no more."""
        self._is_closed.set()
        with self._lock:
            self._break()
            if self._sum is not None:
                self._sum.close()

    def _send_regularly(self) -> None:
        last: tuple[Samples, Samples] | None = None
        while not self._is_closed.wait(PERIOD_S):
            now = self._counts(), self._states()
            if now != last or self._link is None:
                self.total()
                last = now

    def _exchange(self, sent: Sent) -> Samples:
        try:
            if self._link is None:
                self._link = self._connect()
                self._link.settimeout(TIMEOUT_S)
            self._link.sendall(sent.model_dump_json().encode() + b"\n")
            total: Samples = json.loads(next(local_link.lines(self._link), b""))
        except (OSError, ValueError):
            self._break()
            raise
        return total

    def _connect(self) -> socket.socket:
        try:
            return local_link.connect(self._name)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):  # another process was faster
                self._sum = MetricsSum(self._name)
            return local_link.connect(self._name)

    def _break(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None


@contextlib.contextmanager
def summed_metrics() -> Iterator[None]:
    """Add up, in this process, the metrics of all processes that start in this block."""
    name = local_link.new_name("metrics")
    os.environ[LINK] = name
    metrics = MetricsSum(name)
    try:
        yield
    finally:
        metrics.close()
        del os.environ[LINK]


def _add(total: Counter[str], samples: Samples) -> None:
    for name, value in samples.items():
        total[name] += value  # type: ignore[assignment]  # a Counter of floats
