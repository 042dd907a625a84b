"""A study and its store: what it takes over from there before it runs, and publishes while it does.

It is published by the process that runs it, under an id of its own: see `tuning.publication`.
"""

from __future__ import annotations

import json
import logging
import socket
import uuid

from pipeline.credentials.masking import masked_uri
from pipeline.status_line import print_status
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.json_record import read_record
from pipeline.storage.stage_store import StageStore
from tuning.journal.events import Event, RungDecision, StudyOpened, TrialEnded
from tuning.journal.file import Journal
from tuning.publication.head import Head, head_or_none
from tuning.publication.publication import Publication
from tuning.publication.publisher import Publisher
from tuning.publication.resumption import bring_up_to_date, fetch, find_unfinished
from tuning.publication.term import Term, begin_term
from tuning.publication.transcript import seal_after
from tuning.report.page import REPORT
from tuning.study.study_folder import MODEL_FOLDER, PUBLISHED, SUMMARY

log = logging.getLogger(__name__)


class SharedStudy:
    """A study's part in its store.

    Args:
        journal: of the study, open.
        store: of the study.
        command: that goes on with the study, without credentials.
    """

    def __init__(self, journal: Journal, store: StageStore, command: str) -> None:
        self._journal, self._store, self._command = journal, store, command
        self._folder = journal.path.parent
        self._objects = store.objects
        self._driver = uuid.uuid4().hex
        self._publisher: Publisher | None = None

    def find_unfinished(self, digest: str) -> Head | None:
        """Return what the store has of the same study, begun in another folder and not at its end.

        Raises:
            SurroundingsError: the store cannot be read.
        """
        return find_unfinished(self._objects, digest)

    def take_over(self, head: Head) -> None:
        """Go on here, where there is nothing yet, with a study that another folder began.

        Raises:
            InputError: it runs there, or what is published of it is damaged.
            AffectuneError: it cannot be read or written.
        """
        where = f"{head.ended} of {head.fits} fits ended on {head.host}"
        print_status(f"Going on with the study '{head.name}' from its store: {where}")
        term = self._begin_term(head.id)
        fetch(self._objects, head.id, self._journal)
        self._publish(term, self._first_event())

    def go_on(self) -> None:
        """Go on with the study of this folder, with all that was done elsewhere since.

        Raises:
            InputError: it runs elsewhere, or went on there from an earlier moment.
            AffectuneError: what is published cannot be read.
        """
        if self._publisher is None:
            opened = self._first_event()
            bring_up_to_date(self._objects, opened.id, self._journal, lambda message: None)
            term = self._begin_term(opened.id)
            bring_up_to_date(self._objects, opened.id, self._journal, print_status)
            self._publish(term, opened)

    def publish(self, opened: StudyOpened) -> None:
        """Begin to publish, unless all is there, or being published.

        Args:
            opened: the first event of the study.
        """
        if self._publisher is not None:
            return
        head = head_or_none(self._objects, opened.id)
        if head is not None and seal_after(self._journal.events, head.lines) != head.seal:
            log.warning(
                "The store has the study '%s' as it went on elsewhere, on %s, and keeps it so.",
                head.name,
                head.host,
            )
        elif head is None or head.is_open or not head.is_registered:
            self._publish(self._begin_term(opened.id), opened)

    def take_note(self, event: Event) -> None:
        """Publish at once what another machine would decide otherwise, if it did not know of it.

        The store tells it which fits have ended, and not what early stopping knew of them.
        """
        if self._publisher is not None and isinstance(event, RungDecision | TrialEnded):
            self._publisher.hasten()

    @property
    def position(self) -> int:
        """Return up to where, in bytes, the journal is published; a resume has so much of it."""
        return 0 if self._publisher is None else self._publisher.position

    def raise_if_replaced(self) -> None:
        """Refuse to go on with a study that another process goes on with.

        Raises:
            AffectuneError: one does.
        """
        if self._publisher is not None:
            self._publisher.raise_if_replaced()

    def close(self, timeout_s: float) -> None:
        """Publish the rest, within a time."""
        if self._publisher is not None:
            self._publisher.close(timeout_s)

    def _first_event(self) -> StudyOpened:
        opened = self._journal.events[0]
        assert isinstance(opened, StudyOpened)
        return opened

    def _begin_term(self, study: str) -> Term:
        before = (read_record(self._folder / PUBLISHED) or {}).get("driver")
        return begin_term(
            self._objects,
            study,
            self._driver,
            socket.gethostname(),
            # Its process had the lock of the journal, which this one has now.
            ended_driver=before if isinstance(before, str) else None,
            on_wait=print_status,
        )

    def _publish(self, term: Term, opened: StudyOpened) -> None:
        record = {"driver": self._driver, "study": term.study, "store": masked_uri(self._store.uri)}
        write_atomically(self._folder / PUBLISHED, json.dumps(record, indent=1))
        publication = Publication(
            self._objects,
            term,
            (opened.digest, str(opened.study["name"])),
            self._journal.path,
            lambda: self._journal.size,
            results=tuple(self._folder / name for name in (SUMMARY, REPORT)),
            model=self._folder / MODEL_FOLDER,
            command=self._command,
        )
        self._publisher = Publisher(publication)
        self._publisher.start()
