"""Watches a cluster's head while a study runs, and says within seconds that it is lost.

Ray itself is silent for a minute, and then ends the process without a chance to say or keep a word.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from pipeline.cluster_address import parse_address
from pipeline.errors import SurroundingsError
from pipeline.local_ray.head import cluster_id, numeric
from pipeline.supervisor import leave_now, leave_without_libraries, start_again

log = logging.getLogger(__name__)

PROBE_S, ANSWER_S = 2.0, 3.0
SAID_S = 8.0
"""A head that has not answered for so long is told."""
LOST_S = 36.0
"""So long it may stay away, cut off or busy; Ray's own nodes give it up after a minute."""
END_S = 15.0
"""So long the study has to end by itself then: calls of Ray may never return."""
STATUS = 1


class ClusterLost(SurroundingsError):
    """The head of the cluster is gone, or another one is in its place."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, mend="Start the cluster again (`ray start --head`, then the nodes)"
        )

    def __reduce__(self) -> tuple[type[ClusterLost], tuple[str]]:
        return ClusterLost, (str(self),)


class HeadWatch:
    """Asks a head again and again, in a thread of its own.

    Args:
        address: "host:port", as it was given.
        is_waited_for: the command is started again after a loss, and waits for the head.
        ask: returns what names the cluster that answers at an address within some seconds; None
            where none does.
        seconds: tells the time.

    Attributes:
        fault: set once the head is lost; the study is to end then, before Ray ends it.
    """

    def __init__(
        self,
        address: str,
        *,
        is_waited_for: bool,
        ask: Callable[[str, float], bytes | None] = cluster_id,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: ClusterLost | None = None
        self._address, self._is_waited_for = address, is_waited_for
        self._ask, self._seconds = ask, seconds
        self._target = address
        with contextlib.suppress(OSError):
            # Names may be unknown for a while in which the head is there.
            self._target = numeric(*parse_address(address, "the address"))
        self._cluster: bytes | None = None
        self._answered_at = seconds()
        self._has_said = False

    def probe(self) -> ClusterLost | None:
        """Ask the head once, say what there is to say, and return `fault`."""
        answer = self._ask(self._target, ANSWER_S)
        silent_s = self._seconds() - self._answered_at
        if answer is not None:
            self._cluster = self._cluster or answer
            if answer != self._cluster:
                self._lose("it was started anew, and knows nothing of this study")
            elif self._has_said:
                log.warning("The head of the Ray cluster at '%s' answers again.", self._address)
            self._answered_at, self._has_said = self._seconds(), False
        elif silent_s >= LOST_S:
            self._lose(f"it has not answered for {silent_s:.0f} s")
        elif silent_s >= SAID_S and not self._has_said:
            self._has_said = True
            log.warning(
                "The head of the Ray cluster at '%s' has not answered for %.0f s. What was trained "
                "is kept. It is given up in %.0f s.",
                self._address,
                silent_s,
                LOST_S - silent_s,
            )
        return self.fault

    def loss_behind(self, error: Exception) -> ClusterLost | None:
        """Return the loss of the head that an error of Ray comes from; None where it lives."""
        if self.fault is None and self._ask(self._target, ANSWER_S) != self._cluster:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._lose(f"Ray says: {lines[0].rstrip('.')}")
        return self.fault

    @contextlib.contextmanager
    def watching(self) -> Iterator[HeadWatch]:
        """Watch from here on; once the head is lost, the process ends within seconds."""
        self.probe()
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            yield self
        finally:
            # After a loss it goes on: what is left to do may be held up, too.
            if self.fault is None:
                ended.set()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(PROBE_S):
            if self.probe() is not None:
                break
        if self.fault is None or ended.wait(END_S):
            return
        is_again = self._is_waited_for and start_again()
        leave_now(STATUS, f"{'Note' if is_again else 'Error'}: {self.fault}")

    def _lose(self, cause: str) -> None:
        after = (
            "The study waits for it, and goes on by itself."
            if self._is_waited_for
            else "Start the cluster again (`ray start --head`, then the nodes); the same command "
            "with --resume goes on, and with --wait-for-cluster 30m it does so by itself."
        )
        leave_without_libraries()
        self.fault = ClusterLost(
            f"The head of the Ray cluster at '{self._address}' is lost: {cause}. What was trained "
            f"is kept, to the last seconds. {after}"
        )
