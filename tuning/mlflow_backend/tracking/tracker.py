"""Records a study in MLflow while it runs, from a thread of its own.

The driver waits for it only at the study's end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path

from pipeline.credentials.masking import masked_uri
from pipeline.errors import AffectuneError, InputError
from tuning.journal.clock import now
from tuning.journal.file import JOURNAL, read_journal
from tuning.mlflow_backend.client import Connect, cause_of, connect
from tuning.mlflow_backend.tracking.journal_sender import JournalSender

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 15.0
LONGEST_CLOSING_WAIT_S = 1.0
Picture = tuple[str, bytes]
"""Name and content."""


class Tracker:
    """Sends what is new in a study's journal every few seconds.

    The journal is the buffer, so a server that is away costs nothing: what it missed is sent later,
    by a resume if need be.

    Args:
        folder: of the study.
        uri: of the tracking server; see `study_runs.raise_if_not_recordable`.
        interval_s: how often the journal is read.
        first_wait_s: pause after a request that failed; it doubles with every further failure.
        connect: makes the client.
        may_send: says up to which position of the journal events may be sent: see `JournalSender`.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        *,
        may_send: Callable[[], float] = lambda: inf,
        interval_s: float = 5.0,
        first_wait_s: float = 0.5,
        connect: Connect = connect,
    ) -> None:
        self.uri = uri
        self._folder = folder
        self._interval_s = interval_s
        self._first_wait_s = first_wait_s
        self._connect = connect
        self._may_send = may_send
        self._sender: JournalSender | None = None
        self._artifacts: list[Path | Picture] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._deadline: float | None = None
        self._is_away = False
        self._started_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)

    def start(self) -> Tracker:
        """Look the study up on the server, and begin to send; the journal must be there.

        A server that does not answer is no error: it is tried in the thread until `close`.

        Raises:
            InputError: the server has runs of the study in an earlier format, or its experiment was
                deleted.
        """
        self._started_at = now()
        try:
            self._open_sender()
        except InputError:
            raise
        except Exception as error:  # MLflow and the network raise errors of many kinds
            self._report_away(error)

        self._thread.start()
        return self

    def log_artifacts(self, *paths: Path) -> None:
        """Keep files, and folders with their content, with the study's run.

        They are sent after the journal so far.
        """
        with self._lock:
            self._artifacts += paths
        self._wake.set()

    def log_pictures(self, pictures: Mapping[str, bytes]) -> None:
        """Keep pictures with the study's run, likewise.

        Args:
            pictures: name, perhaps with a folder in it -> content.
        """
        with self._lock:
            self._artifacts += pictures.items()
        self._wake.set()

    def backlog(self, num_events: int) -> tuple[int, float]:
        """Return how many events the server does not have, and for how many seconds it lacks one.

        Args:
            num_events: of the journal until now.
        """
        sender = self._sender
        num_unsent = max(0, num_events - (0 if sender is None else sender.num_sent))
        oldest_at = self._started_at if sender is None else sender.oldest_at
        age_s = 0.0 if oldest_at is None else max(0.0, now() - oldest_at)
        return num_unsent, age_s if num_unsent else 0.0

    def close(self, timeout_s: float = 60.0) -> int:
        """Send the rest, and end.

        Returns:
            How many events and artefacts were not sent in time; a resume sends the events.
        """
        self._deadline = time.monotonic() + timeout_s
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s + 0.5)

        num_unsent = self._num_unsent()
        if num_unsent:
            log.warning(
                "The tracking server '%s' did not take the last %d events. Nothing is lost: the "
                "same command with --resume sends them.",
                masked_uri(self.uri),
                num_unsent,
            )
        return num_unsent

    def _run(self) -> None:
        wait_s = self._first_wait_s
        while True:
            is_closing = self._deadline is not None
            try:
                is_complete = self._send()
            except Exception as error:  # MLflow and the network raise errors of many kinds
                self._report_away(error)
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    return
                pause_s, wait_s = wait_s, min(2 * wait_s, LONGEST_WAIT_S)
                if self._deadline is not None:
                    pause_s = min(pause_s, LONGEST_CLOSING_WAIT_S)
            else:
                self._report_back()
                if is_complete and is_closing:
                    return
                pause_s = self._interval_s if is_complete else 0.0
                wait_s = self._first_wait_s

            self._wake.wait(pause_s)
            self._wake.clear()

    def _open_sender(self) -> JournalSender:
        if self._sender is None:
            self._sender = JournalSender(self._folder, self.uri, self._connect, self._may_send)
        return self._sender

    def _send(self) -> bool:
        """Send some events; after the last of them, the artefacts.

        Returns:
            Whether everything is sent.
        """
        sender = self._open_sender()
        if not sender.send():
            return False

        with self._lock:
            artifacts = list(self._artifacts)
        for artifact in artifacts:
            if isinstance(artifact, Path):
                sender.log_artifact(artifact)
            else:
                sender.log_picture(*artifact)
            with self._lock:
                self._artifacts.remove(artifact)

        if self._deadline is not None:
            sender.remove_duplicates()
        return True

    def _report_away(self, error: Exception) -> None:
        if not self._is_away:
            log.warning(
                "Cannot record in '%s': %s. Training goes on, and what is missing is sent later.",
                masked_uri(self.uri),
                cause_of(error),
            )
        self._is_away = True

    def _report_back(self) -> None:
        if self._is_away:
            log.warning(
                "The tracking server '%s' answers again; nothing was lost.", masked_uri(self.uri)
            )
        self._is_away = False

    def _num_unsent(self) -> int:
        """Count the events behind the position, and the artefacts."""
        position = 0 if self._sender is None else self._sender.position
        try:
            num_events = sum(1 for _ in read_journal(self._folder / JOURNAL, position))
        except (AffectuneError, OSError):
            num_events = 0
        return num_events + len(self._artifacts)
