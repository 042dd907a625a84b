"""Sends a study's journal to a tracking server, from the position up to which it was sent before.

Knows no thread and no time: whatever fails is sent by the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, takewhile
from math import inf
from pathlib import Path

from tuning.journal.events import Event, StudyOpened
from tuning.journal.file import JOURNAL, read_journal
from tuning.mlflow_backend.client import Connect
from tuning.mlflow_backend.tracking.record import read_position, write_position
from tuning.mlflow_backend.tracking.run_updates import RunTree, RunUpdate
from tuning.mlflow_backend.tracking.run_writer import RunWriter
from tuning.mlflow_backend.tracking.study_runs import find_or_create_experiment

MAX_EVENTS = 500  # read at a time; while a server is away, the rest stays in the journal


class JournalSender:
    """A study's journal on its way to a server.

    What is sent twice is the same rows of the same runs, so the position is written after the
    events before it were sent.

    Args:
        folder: of the study; its journal holds at least the opening of the study.
        uri: of the tracking server.
        connect: makes the client.
        may_send: says up to which position of the journal events may be sent. Those after it are
            not published yet: whoever goes on with the study elsewhere does not know them, and has
            others under the same names.

    Raises:
        InputError: the server has runs of the study in an earlier format, or its experiment was
            deleted.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        connect: Connect,
        may_send: Callable[[], float] = lambda: inf,
    ) -> None:
        self._folder = folder
        self._may_send = may_send
        self._uri = uri

        opened, _ = next(read_journal(folder / JOURNAL))
        assert isinstance(opened, StudyOpened)
        client = connect(uri)
        self._experiment_id = find_or_create_experiment(client, uri, opened.study["name"])
        self._runs = RunWriter(client, self._experiment_id, opened.id)

        self._tree = RunTree(self._experiment_id)
        self._pending: dict[str, RunUpdate] = {}
        self._read_position = self._num_read = 0
        self.position = self.num_sent = 0
        """Up to here the journal has been sent; so many events are before that."""
        self.oldest_at: float | None = None
        """When the first event happened of those that are being sent; None while none are."""

        # A server that does not know the study gets all of it.
        if self._runs.study_run_id is not None:
            self._skip(read_position(folder, uri))

    def send(self) -> bool:
        """Send the next events.

        Returns:
            Whether the journal had been sent to its end before.
        """
        if not self._pending and not self._read_events():
            return True

        for name in list(self._pending):
            self._runs.write(self._pending[name])
            del self._pending[name]

        self.position, self.num_sent = self._read_position, self._num_read
        self.oldest_at = None
        study_run_id = self._runs.study_run_id
        write_position(self._folder, self._uri, self.position, self._experiment_id, study_run_id)
        return False

    def log_artifact(self, path: Path) -> None:
        """Upload a file, or a folder under its name; one that is not there is left out."""
        self._runs.log_artifact(path)

    def log_picture(self, name: str, content: bytes) -> None:
        """Upload a picture under a name, in which there may be a folder."""
        self._runs.log_picture(name, content)

    def remove_duplicates(self) -> None:
        """Remove runs that the server created after a request was given up."""
        self._runs.remove_duplicates()

    def _read_events(self) -> bool:
        """Read the next events as updates, one per run; False where there are none."""
        until = self._may_send()
        journal = read_journal(self._folder / JOURNAL, self._read_position)
        events = list(islice(takewhile(lambda read: read[1] <= until, journal), MAX_EVENTS))
        if events:
            self.oldest_at = events[0][0].at
        for event, position in events:
            self._add_updates(event)
            self._read_position = position
            self._num_read += 1
        return bool(events)

    def _add_updates(self, event: Event) -> None:
        for update in self._tree.apply(event):
            if update.name in self._pending:
                self._pending[update.name].add(update)
            else:
                self._pending[update.name] = update

    def _skip(self, position: int) -> None:
        """Apply the events up to a position without sending them; ignore a position in a line."""
        tree = RunTree(self._experiment_id)
        for number, (event, event_end) in enumerate(read_journal(self._folder / JOURNAL), 1):
            if event_end > position:
                break
            tree.apply(event)
            if event_end == position:
                self._tree = tree
                self._read_position = self.position = position
                self._num_read = self.num_sent = number
