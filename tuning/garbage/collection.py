"""Goes through a store: says of each entry why it is kept or not, and removes it if asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError
from pipeline.storage.open_objects import open_objects
from pipeline.storage.stage_store import StageStore
from pipeline.storage.store_address import folder_of
from tuning.garbage.needed import (
    needed_by_folder,
    needed_by_published,
    needed_by_whole_study,
)
from tuning.garbage.store_entries import Entries, FolderEntries, ObjectEntries, StoreEntry
from tuning.publication.head import SILENT_S, STUDIES, Head
from tuning.publication.published import choose, find_heads

Why = Literal["needed", "young", "journal", "format", "foreign", "unneeded"]
WHYS: dict[Why, str] = {
    "needed": "a study or a model needs it",
    "journal": "a finished study's journal",
    "format": "the store's format",
    "young": "younger than --older-than",
    "foreign": "not written by Affectune",
    "unneeded": "nothing needs it",
}
"""Why an entry is kept; of the last one, why it is not."""
MAX_NAMED = 1000
"""Names that are told to a program."""


@dataclass
class Total:
    """Entries of one kind."""

    entries: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count one more."""
        self.entries += 1
        self.size_bytes += size_bytes


@dataclass
class Collection:
    """What a store holds.

    Attributes:
        store: its name, without credentials.
        is_removed: what nothing needs was removed, and not only shown.
        totals: (what it is, why it is kept or not) -> how much of it there is.
        names: of entries that nothing needs, the first of them.
        forgotten: ids of the studies whose publication went with them.
    """

    store: str
    is_removed: bool
    totals: dict[tuple[str, Why], Total] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    forgotten: tuple[str, ...] = ()

    def total(self, why: Why) -> Total:
        """Return how much there is of all kinds."""
        totals = [total for (_, reason), total in self.totals.items() if reason == why]
        return Total(sum(t.entries for t in totals), sum(t.size_bytes for t in totals))

    def to_json(self) -> dict[str, Any]:
        """Return what a program is told."""
        return {
            "store": self.store,
            "removed": self.is_removed,
            "unneeded": {
                "entries": self.total("unneeded").entries,
                "bytes": self.total("unneeded").size_bytes,
                "names": self.names,
            },
            "groups": [
                {"kind": kind, "why": why, "entries": t.entries, "bytes": t.size_bytes}
                for (kind, why), t in sorted(self.totals.items())
            ],
            "forgotten": list(self.forgotten),
        }


def collect(
    uri: str,
    *,
    keep: Sequence[Path] = (),
    forget: Sequence[str] = (),
    older_than_s: float,
    remove: bool,
    on_entry: Callable[[int], None] = lambda number: None,
) -> Collection:
    """Go through a store.

    Args:
        uri: of the store.
        keep: folders of studies and models that need what is in it.
        forget: names, ids or digests of published studies that need nothing any more.
        older_than_s: whatever was written since is kept: a study may be about to need it.
        remove: what nothing needs.
        on_entry: called with the number of entries so far.

    Raises:
        InputError: there is no such store, or what a study needs cannot be known.
        SurroundingsError: the store cannot be read, or something in it not removed.
    """
    objects = open_objects(uri)
    folder = folder_of(uri)
    forgotten = _forgotten(find_heads(objects) if forget else [], forget, masked_uri(uri))
    needed = needed_by_published(objects, [head.id for head in forgotten])
    for place in keep:
        needed |= needed_by_folder(place)
    entries: Entries = (
        ObjectEntries(objects, [STUDIES]) if folder is None else FolderEntries(folder, [STUDIES])
    )
    store = StageStore(uri)
    digests = {f"study-{head.digest}" for head in forgotten}
    for entry in entries:
        if entry.kind == "study" and entry.name not in digests:
            needed |= needed_by_whole_study(store, entry.name)

    found = Collection(masked_uri(uri), remove, forgotten=tuple(h.id for h in forgotten))
    latest = time.time() - older_than_s
    for number, entry in enumerate(entries, 1):
        on_entry(number)
        why = _why(entry, needed, digests, latest)
        if why == "unneeded" and not entries.is_whole(entry):
            why = "foreign"
        if why == "unneeded" and remove and not entries.remove(entry):
            why = "young"  # somebody holds it, or has just written it anew
        found.totals.setdefault((_kind(entry), why), Total()).add(entry.size_bytes)
        if why == "unneeded" and len(found.names) < MAX_NAMED:
            found.names.append(entry.name)
    if remove:
        for head in forgotten:
            for each in list(objects.names(f"{STUDIES}/{head.id}/")):
                objects.delete(each.name)
    return found


def _why(entry: StoreEntry, needed: set[str], forgotten: set[str], latest: float) -> Why:
    match entry.kind:
        case "foreign" | "format":
            return entry.kind
        case "study" if entry.name not in forgotten:
            return "journal"
    if entry.name in needed:
        return "needed"
    return "young" if entry.modified > latest else "unneeded"


def _kind(entry: StoreEntry) -> str:
    """Return what an entry is, in a word for people."""
    if entry.kind != "stage":
        return entry.kind
    ending = entry.name.partition("-")[2]
    return ending or "stage"


def _forgotten(heads: Iterable[Head], forget: Sequence[str], store: str) -> list[Head]:
    """Return the studies that are to be forgotten.

    Raises:
        InputError: there is no such study, or it runs.
    """
    every = list(heads)
    chosen = {head.id: head for head in (choose(every, which, store) for which in forget)}
    for head in chosen.values():
        if head.is_open and time.time() - head.at <= SILENT_S:
            raise InputError(
                f"--forget: the study '{head.name}' is running on {head.host}. Stop it first."
            )
    return list(chosen.values())
