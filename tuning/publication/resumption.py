"""Going on with a study by what is published of it, where its folder has less, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.errors import InputError
from pipeline.storage.object_store import Objects
from tuning.journal.file import Journal
from tuning.publication.head import Head, read_head
from tuning.publication.published import find_heads, read_study
from tuning.publication.transcript import seal_after

log = logging.getLogger(__name__)


def find_unfinished(objects: Objects, digest: str) -> Head | None:
    """Return what is published of the same study, where that is not at its end.

    Of several the one that was heard of last is returned: the same study may have been begun anew.

    Args:
        objects: of the store.
        digest: of the study.

    Raises:
        SurroundingsError: the store cannot be read.
    """
    heads = find_heads(objects)
    return next((h for h in heads if h.digest == digest and not h.is_registered), None)


def fetch(objects: Objects, study: str, journal: Journal) -> None:
    """Put a published journal into an empty one. Nobody else may be writing to either.

    Raises:
        InputError: it is damaged, or another version wrote it.
        AffectuneError: it cannot be read or written.
    """
    published = read_study(objects, study)
    published.history()
    journal.replace(published.journal)


def bring_up_to_date(
    objects: Objects, study: str, journal: Journal, on_fetch: Callable[[str], None]
) -> None:
    """Give a study's journal what another folder has added to it since.

    Args:
        objects: of the store.
        study: its id.
        journal: of the folder, open.
        on_fetch: called with a sentence, where there is more in the store.

    Raises:
        InputError: the study went on elsewhere from an earlier line than the last one here.
        AffectuneError: it cannot be read or written.
    """
    try:
        head = read_head(objects, study)
        if head is None or head.lines == 0:
            return
        lines = len(journal.events)
        published = read_study(objects, study) if head.lines > lines else None
    except InputError as error:
        log.warning("%s It is written anew.", error)
        return

    if published is None:
        is_same = seal_after(journal.events, head.lines) == head.seal
    else:
        is_same = seal_after(published.events(), lines) == seal_after(journal.events, lines)
        if is_same:
            on_fetch(
                f"The study went on elsewhere, on {head.host}: what happened there is taken over "
                "from the store"
            )
            journal.replace(published.journal)
    if not is_same:
        raise InputError(
            f"The study '{head.name}' went on elsewhere, on {head.host}, from an earlier moment "
            f"than the last one in '{journal.path.parent}'. To go on with that one: the same "
            "command with --resume and another --out, an empty folder. What was trained is in the "
            "store."
        )
