"""Objects under names in a folder: files that are whole or not there, as in an object store."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.object_store import Objects, ObjectStore, StoredObject
from pipeline.storage.plain_file import read_plain_file
from pipeline.storage.store_address import folder_of, object_address
from pipeline.storage.surroundings import failure

MAX_OBJECT_BYTES = 8 * 2**30
"""Of what is read where nobody says less."""


class FolderObjects:
    """Objects as files below a folder, which need not be there; below it no link is followed.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str, *, max_bytes: int | None = None) -> bytes | None:
        """Return what is under a name; None where nothing is.

        Raises:
            InputError: it is longer than `max_bytes`, or no plain file.
            AffectuneError: it cannot be read.
        """
        path = self._root / name
        try:
            return read_plain_file(path, max_bytes or MAX_OBJECT_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise failure(f"Cannot read '{path}': {error.strerror}.", error) from error

    def write(self, name: str, data: bytes, *, only_new: bool = False) -> bool:
        """Keep bytes under a name; return whether they are there now: see `Objects.write`.

        Raises:
            AffectuneError: they cannot be written.
        """
        path = self._root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if only_new:
                return self._create(path, data)
        except OSError as error:
            raise failure(f"Cannot write '{path}': {error.strerror}.", error) from error
        write_atomically(path, data)
        return True

    def delete(self, name: str) -> None:
        """Delete what is under a name, if there is anything; and its folder, if that is empty."""
        path = self._root / name
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()

    def names(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the files whose names begin so; hidden ones are being written, or foreign.

        Raises:
            AffectuneError: they cannot be listed.
        """
        folder = prefix.rpartition("/")[0]
        for each in self._files(folder):
            if each.name.startswith(prefix):
                yield each

    def _files(self, folder: str) -> Iterator[StoredObject]:
        try:
            with os.scandir(self._root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            place = self._root / folder
            raise failure(f"Cannot list '{place}': {error.strerror}.", error) from error

        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir():
                yield from self._files(name)
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield StoredObject(name, status.st_size, modified)

    def _create(self, path: Path, data: bytes) -> bool:
        try:
            with open(path, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return False
        return True


def open_objects(uri: str) -> Objects:
    """Return the objects of a store, wherever it is: a folder, or a URI.

    Raises:
        InputError: no such kind of URI.
    """
    folder = folder_of(uri)
    return ObjectStore(object_address(uri)) if folder is None else FolderObjects(folder)
