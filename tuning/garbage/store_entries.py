"""What is in a store, one entry after the other, with its size and age; and its removal.

For those who clean up: a run lists nothing. What has not the name and the files of an entry is
somebody else's: it is told of, and never touched, and no link is followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from pipeline.errors import InputError
from pipeline.storage.atomic_folder import LEFTOVER, MANIFEST, MAX_MANIFEST_BYTES
from pipeline.storage.folder_store import CLAIMS
from pipeline.storage.object_store import Objects, StoredObject
from pipeline.storage.remote.lease import FOLDER as LEASES
from pipeline.storage.remote.packed_entry import ENDING
from pipeline.storage.surroundings import failure

Kind = Literal["stage", "study", "format", "leftover", "claim", "foreign"]
STAGE = re.compile(r"(?P<key>[0-9a-f]{64})(-[a-z]+)*")
"""The name of a trained stage, or of what belongs to one: its checkpoint, its predictions."""
STUDY = re.compile(r"study-[0-9A-Za-z]{1,64}")
CHECK = re.compile(r"check-[0-9a-f]{32}")
FORMAT = "format"
MAX_FILES = 100
"""Of an entry; a bundle of corrupted copies has some ten."""


@dataclass(frozen=True)
class StoreEntry:
    """An entry of a store, or something else there.

    Attributes:
        name: of the entry, or the path of what is none.
        kind: "stage" is a trained stage or what belongs to one; "study" a finished study's journal;
            "leftover" what a killed process left of its writing; "claim" a lock or a lease.
        size_bytes: of its files together.
        modified: when it was written, in seconds since 1970.
        files: the names of its objects, in an object store.
    """

    name: str
    kind: Kind
    size_bytes: int
    modified: float
    files: tuple[str, ...] = ()


class FolderEntries:
    """The entries of a store in a folder.

    Args:
        root: the folder; it may be reached through a link.
        skipped: names of folders in it that hold no entries.
    """

    def __init__(self, root: Path, skipped: Iterable[str] = ()) -> None:
        self._root, self._skipped = root, {*skipped, CLAIMS}

    def __iter__(self) -> Iterator[StoreEntry]:
        """Yield what is there, in no order.

        Raises:
            SurroundingsError: it cannot be listed.
        """
        try:
            with os.scandir(self._root) as found:
                for each in found:
                    if each.name not in self._skipped:
                        with contextlib.suppress(FileNotFoundError):
                            yield self._entry(each)
        except OSError as error:
            message = f"Cannot list the store '{self._root}': {error.strerror}."
            raise failure(message, error) from error
        yield from self._claims()

    def is_whole(self, entry: StoreEntry) -> bool:
        """Return whether all files of an entry are its own: those that its manifest names."""
        if entry.kind in ("leftover", "claim"):
            return True
        with self._opened(entry.name) as folder:
            return folder is not None and self._own_files(folder) is not None

    def remove(self, entry: StoreEntry) -> bool:
        """Remove an entry: at once for whoever reads it; return whether it is gone.

        Raises:
            SurroundingsError: the disk does not let it be removed.
        """
        try:
            if entry.kind == "claim":
                return self._remove_claim(entry)
            return self._remove_folder(entry)
        except OSError as error:
            message = f"Cannot remove '{self._root / entry.name}': {error.strerror}."
            raise failure(message, error) from error

    def _entry(self, found: os.DirEntry[str]) -> StoreEntry:
        status = found.stat(follow_symlinks=False)
        is_folder = stat.S_ISDIR(status.st_mode)
        kind = _kind(found.name) if is_folder else "foreign"
        size, modified = status.st_size, status.st_mtime
        if is_folder and kind != "foreign":
            with os.scandir(found.path) as files:
                statuses = [file.stat(follow_symlinks=False) for file in files]
            size = sum(each.st_size for each in statuses)
            modified = max([modified, *(each.st_mtime for each in statuses)])
        return StoreEntry(found.name, kind, size, modified)

    def _claims(self) -> Iterator[StoreEntry]:
        with contextlib.suppress(OSError), os.scandir(self._root / CLAIMS) as found:
            for each in found:
                status = each.stat(follow_symlinks=False)
                is_claim = STAGE.fullmatch(each.name) and stat.S_ISREG(status.st_mode)
                kind: Kind = "claim" if is_claim else "foreign"
                name = f"{CLAIMS}/{each.name}"
                yield StoreEntry(name, kind, status.st_size, status.st_mtime)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int | None]:
        """Open a folder in the store, which is no link; None where it is gone, or none."""
        try:
            descriptor = os.open(
                self._root / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError:
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _own_files(self, folder: int) -> list[str] | None:
        """Return the files of an entry; None where there are others, or what is no file."""
        there = sorted(_names_in(folder))
        if len(there) > MAX_FILES or not all(_is_plain(folder, name) for name in there):
            return None
        if not there:
            return []
        try:
            with open(MANIFEST, "rb", opener=lambda path, flags: _open_in(folder, path)) as file:
                named = set(json.loads(file.read(MAX_MANIFEST_BYTES)))
        except (OSError, ValueError, TypeError):
            return None
        return there if set(there) <= named | {MANIFEST} else None

    def _remove_folder(self, entry: StoreEntry) -> bool:
        with self._opened(entry.name) as folder:
            if folder is None:
                return False
            there = _names_in(folder)
            own = there if entry.kind == "leftover" else self._own_files(folder)
            if own is None or not all(_is_plain(folder, name) for name in own):
                return False
            aside = self._root / entry.name
            if entry.kind != "leftover":
                # Whoever reads it finds all of it or nothing, and what a kill leaves is known.
                aside = self._root / f".{entry.name[:80]}.{uuid.uuid4().hex}.old"
                os.rename(self._root / entry.name, aside)
            for name in own:
                os.unlink(name, dir_fd=folder)
        aside.rmdir()
        return True

    def _remove_claim(self, entry: StoreEntry) -> bool:
        path = self._root / entry.name
        lock = FileLock(path)
        try:
            with lock.acquire(timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return False  # somebody has it
        return True


class ObjectEntries:
    """The entries of a store in an object store.

    Args:
        objects: what is in it.
        skipped: first parts of names that are no entries.
    """

    def __init__(self, objects: Objects, skipped: Iterable[str] = ()) -> None:
        self._objects, self._skipped = objects, set(skipped)

    def __iter__(self) -> Iterator[StoreEntry]:
        """Yield what is there, in the order of its names.

        Raises:
            SurroundingsError: it cannot be listed.
        """
        for first, found in groupby(self._objects.names(), lambda each: each.name.split("/")[0]):
            if first in self._skipped:
                continue
            kind = _kind(first.removesuffix(ENDING))
            if first == LEASES:
                for each in found:
                    yield _single(each, "claim" if each.name.endswith(".json") else "foreign")
            elif kind == "foreign":
                for each in found:
                    yield _single(each, "foreign")
            else:
                yield from _together(first, kind, found)

    def is_whole(self, entry: StoreEntry) -> bool:
        """Return whether all objects of an entry are its own: those that its manifest names."""
        if entry.kind in ("leftover", "claim") or entry.files == (f"{entry.name}{ENDING}",):
            return True
        try:
            data = self._objects.read(f"{entry.name}/{MANIFEST}", max_bytes=MAX_MANIFEST_BYTES)
            named = {*json.loads(data or b""), MANIFEST}
        except (InputError, ValueError, TypeError):
            return False
        return {file.partition("/")[2] for file in entry.files} <= named

    def remove(self, entry: StoreEntry) -> bool:
        """Remove an entry; return whether it is gone.

        Raises:
            SurroundingsError: the service does not let it be removed.
        """
        manifest = f"{entry.name}/{MANIFEST}"
        for file in sorted(entry.files, key=lambda file: file != manifest):
            self._objects.delete(file)
        return True


Entries = FolderEntries | ObjectEntries


def _kind(name: str) -> Kind:
    """Return what has a name, if it is an entry."""
    if STAGE.fullmatch(name):
        return "stage"
    if STUDY.fullmatch(name):
        return "study"
    if name == FORMAT:
        return "format"
    leftover = LEFTOVER.fullmatch(name)
    if CHECK.fullmatch(name) or (leftover and _kind(leftover["name"] or "") != "foreign"):
        return "leftover"
    return "foreign"


def _single(found: StoredObject, kind: Kind) -> StoreEntry:
    modified = found.modified.timestamp()
    return StoreEntry(found.name, kind, found.size_bytes, modified, (found.name,))


def _together(first: str, kind: Kind, found: Iterable[StoredObject]) -> Iterator[StoreEntry]:
    """Yield the entry that some objects are; those that lie deeper are somebody else's."""
    own: list[StoredObject] = []
    for each in found:
        if each.name.count("/") > 1 or len(own) >= MAX_FILES:
            yield _single(each, "foreign")
        else:
            own.append(each)
    if own:
        yield StoreEntry(
            first.removesuffix(ENDING),
            kind,
            sum(each.size_bytes for each in own),
            max(each.modified.timestamp() for each in own),
            tuple(each.name for each in own),
        )


def _names_in(folder: int) -> list[str]:
    with os.scandir(folder) as found:
        return [each.name for each in found]


def _is_plain(folder: int, name: str) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _open_in(folder: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
