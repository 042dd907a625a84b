"""The terms of a study: one process after the other runs it, and never two at a time.

Each begins with the creation of an object that nobody has created before, which every kind of
store can do. Nobody's clock is compared with another's: a driver that has ended is one whose head
does not change while it is watched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.storage.object_store import ConditionsUnknown, Objects
from tuning.publication.head import SILENT_S, Head, head_or_none, place_of

WATCH_S = 1.0
"""Pause between two looks at a head that may change."""
MAX_TERM_BYTES = 2**12


@dataclass(frozen=True)
class Term:
    """A time in which a process runs a study.

    Attributes:
        study: its id.
        number: counts up from 1.
        driver: the process, by a name that was drawn at random.
        host: where it is.
    """

    study: str
    number: int
    driver: str
    host: str


def begin_term(
    objects: Objects,
    study: str,
    driver: str,
    host: str,
    *,
    ended_driver: str | None = None,
    on_wait: Callable[[str], None] = lambda message: None,
    silent_s: float = SILENT_S,
) -> Term:
    """Begin to run a study, once the process that ran it last has ended.

    Args:
        objects: of the store.
        study: its id.
        driver: name of this process.
        host: where it is.
        ended_driver: one that is known to have ended: it held the lock of the same journal.
        on_wait: called with a sentence before a wait.
        silent_s: seconds of silence after which a driver counts as ended.

    Raises:
        InputError: another process runs the study.
        SurroundingsError: the store cannot be read or written.
    """
    seen = _look(objects, study)
    since = time.monotonic()
    has_waited = False
    while True:
        head, latest, runner = seen
        is_silent = time.monotonic() - since >= silent_s
        if is_silent or runner == ended_driver or _has_ended(head, latest):
            if _create(objects, _name(study, latest + 1), driver, host):
                return Term(study, latest + 1, driver, host)
        elif not has_waited:
            has_waited = True
            where = f" on {head.host}" if head is not None else ""
            on_wait(
                f"The driver{where} that ran the study last did not say that it ended. Waiting "
                f"{silent_s:.0f} s for a word of it"
            )

        time.sleep(min(WATCH_S, silent_s / 4))
        before, seen = seen, _look(objects, study)
        if seen == before:
            continue
        since = time.monotonic()
        head = seen[0]
        if head is not None and head != before[0] and head.is_open:
            raise InputError(
                f"The study '{head.name}' is running on {head.host}: {head.ended} of {head.fits} "
                "fits have ended. Follow it with `affectune study status`, or stop it there first."
            )


def is_replaced(objects: Objects, term: Term) -> bool:
    """Return whether another process has begun to run the study after this one.

    Raises:
        SurroundingsError: the store cannot be read.
    """
    return objects.read(_name(term.study, term.number + 1), max_bytes=MAX_TERM_BYTES) is not None


def _create(objects: Objects, name: str, driver: str, host: str) -> bool:
    """Write an object that must not be there; return whether it was not."""
    content = json.dumps({"driver": driver, "host": host}).encode()
    try:
        return objects.write(name, content, only_new=True)
    except ConditionsUnknown:  # then only the head tells one driver of another
        return objects.write(name, content)


def _look(objects: Objects, study: str) -> tuple[Head | None, int, str]:
    """Return the head, the number of the latest term, and its driver; 0 and "" without a term."""
    head = head_or_none(objects, study)
    latest, content = 0 if head is None else head.term, None
    while (found := objects.read(_name(study, latest + 1), max_bytes=MAX_TERM_BYTES)) is not None:
        latest, content = latest + 1, found
    if content is None and head is not None:
        return head, latest, head.driver
    try:
        return head, latest, str(json.loads(content or b"")["driver"])
    except (LookupError, TypeError, ValueError):
        return head, latest, ""


def _has_ended(head: Head | None, latest: int) -> bool:
    if head is None:
        return latest == 0
    # Else another one has begun, and has not written its head yet.
    return latest == head.term and not head.is_open


def _name(study: str, number: int) -> str:
    return place_of(study, f"term-{number:06d}")
