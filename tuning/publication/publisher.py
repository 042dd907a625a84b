"""Publishes a study while it runs, from a thread that never keeps the driver waiting."""

from __future__ import annotations

import logging
import threading
import time

from pipeline.credentials.masking import masked
from pipeline.errors import AffectuneError
from tuning.publication.head import BEAT_S
from tuning.publication.publication import Publication

log = logging.getLogger(__name__)

CLOSING_PAUSE_S = 0.5
"""Before what failed is tried again, once the study has ended."""
HASTENED_PAUSE_S = 0.5
"""At least so long after a beat comes the next one, however much is new."""


class Publisher:
    """Publishes a study every few seconds whether or not there is something new, or when asked to.

    Args:
        publication: of the study.
        beat_s: seconds between two beats.
    """

    def __init__(self, publication: Publication, *, beat_s: float = BEAT_S) -> None:
        self._publication, self._beat_s = publication, beat_s
        self._is_away = self._is_closing = False
        self._wake, self._deadline = threading.Event(), float("inf")
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    @property
    def position(self) -> int:
        """Return up to where, in bytes, the journal is published."""
        return self._publication.position

    def hasten(self) -> None:
        """Publish now, and not at the next beat: a machine that is lost until then loses it."""
        if not self._is_away:
            self._wake.set()

    def raise_if_replaced(self) -> None:
        """Refuse to go on with a study that another process goes on with.

        Raises:
            AffectuneError: one does.
        """
        if self._publication.is_replaced:
            raise AffectuneError(
                f"Another process has gone on with the study '{self._publication.name}', because "
                "nothing was heard of this one, which stops. Follow that one with `affectune study "
                "status` and the store."
            )

    def close(self, timeout_s: float) -> None:
        """Publish the rest, and that the study has ended; give up after a time, with a warning."""
        if not self._thread.is_alive():
            return
        self._deadline = time.monotonic() + timeout_s
        self._is_closing = True
        self._wake.set()
        self._thread.join(timeout_s + CLOSING_PAUSE_S)

        if not self._publication.is_ended and not self._publication.is_replaced:
            log.warning(
                "The store did not take the end of the study '%s': others see it as it was. The "
                "same command with --resume publishes the rest.",
                self._publication.name,
            )

    def _run(self) -> None:
        while not self._publication.is_replaced:
            is_closing, begin = self._is_closing, time.monotonic()
            try:
                self._publication.publish(is_open=not is_closing)
            except Exception as error:  # libraries of object stores raise errors of many kinds
                self._report_away(error)
                if time.monotonic() >= self._deadline:
                    return
            else:
                self._is_away = False
                if is_closing:
                    return
            self._wake.wait(CLOSING_PAUSE_S if self._is_closing else self._beat_s)
            self._wake.clear()
            if not self._is_closing:
                pause_s = min(HASTENED_PAUSE_S, self._beat_s)
                time.sleep(max(0.0, begin + pause_s - time.monotonic()))

    def _report_away(self, error: Exception) -> None:
        if not self._is_away:
            cause = masked(str(error)) or type(error).__name__
            log.warning(
                "Others do not see how the study goes on: %s Training goes on, and what is missing "
                "is published later.",
                cause if cause.endswith((".", "?")) else f"{cause}.",
            )
        self._is_away = True
