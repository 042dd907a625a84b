"""Published studies, as others read them: which there are, and the journal of one."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

from pipeline.errors import InputError
from pipeline.storage.object_store import Objects
from tuning.journal.events import Event
from tuning.journal.history import History, history_of
from tuning.journal.lines import read_lines
from tuning.publication.head import HEAD, PART_BYTES, STUDIES, Head, part_of, read_head

log = logging.getLogger(__name__)

STUDY = re.compile("[0-9a-f]{32}")
NUM_READERS = 8
MAX_ATTEMPTS = 3
"""So often a journal is read whose driver was replaced by another one meanwhile."""
ATTEMPT_PAUSE_S = 0.5
MAX_NAMED = 5


@dataclass(frozen=True)
class PublishedStudy:
    """A published study at one moment: the head, and the whole journal that it tells of."""

    head: Head
    journal: bytes

    def events(self) -> list[Event]:
        """Return what happened in it.

        Raises:
            InputError: another version wrote it.
        """
        where = f"published journal of {self.head.name}"
        return [line.event for line in read_lines(BytesIO(self.journal), where)]

    def history(self) -> History:
        """Return what happened in it, as trials and completed tasks; raises as `events` does."""
        history = history_of(self.events())
        if history.opened is None or history.opened.id != self.head.id:
            raise InputError(
                f"The published journal of {self.head.name!r} is another study's. Read the study's "
                "own folder."
            )
        return history


def find_heads(objects: Objects) -> list[Head]:
    """Return the heads of all studies that are published in a store, the latest first.

    One that cannot be read is left out, which is logged.

    Raises:
        SurroundingsError: the store cannot be read.
    """
    names = (each.name.split("/") for each in objects.names(f"{STUDIES}/"))
    studies = [name[1] for name in names if name[2:] == [HEAD] and STUDY.fullmatch(name[1])]

    def read(study: str) -> Head | None:
        try:
            return read_head(objects, study)
        except InputError as error:
            log.warning("%s It is left out.", error)
            return None

    with ThreadPoolExecutor(NUM_READERS) as readers:  # an object store takes its time
        heads = [head for head in readers.map(read, studies) if head is not None]
    return sorted(heads, key=lambda head: head.at, reverse=True)


def choose(heads: Iterable[Head], which: str, store: str) -> Head:
    """Return the one study that a person means.

    Args:
        heads: of all.
        which: its name, or the beginning of its id or its digest; "" where there is but one.
        store: for the message.

    Raises:
        InputError: none is meant, or several are.
    """
    every = list(heads)
    found = [head for head in every if which in ("", head.name)] or [
        head for head in every if head.id.startswith(which) or head.digest.startswith(which)
    ]
    if len(found) == 1:
        return found[0]
    if not every:
        raise InputError(
            f"No study is published in the store '{store}'. `affectune study run --store` "
            "publishes there what it does."
        )
    shown = found or every
    names = ", ".join(f"{head.id[:12]} ({head.name})" for head in shown[:MAX_NAMED])
    more = f" and {len(shown) - MAX_NAMED} more" if len(shown) > MAX_NAMED else ""
    what = f"{len(found)} studies are" if found else "No study is"
    meant = f"called '{which}'" if which else "there"
    raise InputError(
        f"{what} {meant} in the store '{store}'. Pass --study with one of {names}{more}."
    )


def read_study(objects: Objects, study: str) -> PublishedStudy:
    """Read a published study, whose driver may be writing.

    Raises:
        InputError: it is not there, or it is damaged.
        SurroundingsError: the store cannot be read.
    """
    for _ in range(MAX_ATTEMPTS):
        head = read_head(objects, study)
        if head is None:
            raise InputError(f"The study {study[:12]} is not published in the store.")
        journal = _read_journal(objects, head)
        if journal is not None:
            return PublishedStudy(head, journal)
        time.sleep(ATTEMPT_PAUSE_S)  # another driver has gone on, and written it anew
    raise InputError(
        f"The published journal of the study {study[:12]} is damaged: parts of it are missing, or "
        "were changed. Read the study's own folder, or run the study with another --out and the "
        "same --store: what was trained to its end is reused."
    )


def _read_journal(objects: Objects, head: Head) -> bytes | None:
    """Return the journal that a head tells of; None where it is not there, or is another one."""
    numbers = range(-(-head.journal_bytes // PART_BYTES))

    def read(number: int) -> bytes | None:
        return objects.read(part_of(head.id, head.driver, number), max_bytes=PART_BYTES)

    with ThreadPoolExecutor(NUM_READERS) as readers:
        parts = list(readers.map(read, numbers))
    # The last part may have grown since the head was written.
    journal = b"".join(part or b"" for part in parts)[: head.journal_bytes]
    is_whole = hashlib.sha256(journal).hexdigest() == head.journal_sha256
    return journal if is_whole and len(journal) == head.journal_bytes else None
