"""A store in a folder: an entry is a folder, complete or not there; claims are file locks."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.storage.atomic_file import temporary_file, write_atomically
from pipeline.storage.atomic_folder import (
    LEFTOVER,
    MANIFEST,
    MAX_FILE_BYTES,
    read_folder,
    remove,
    remove_leftovers,
    write_folder,
)
from pipeline.storage.object_store import StoredObject
from pipeline.storage.plain_file import read_plain_file
from pipeline.storage.surroundings import failure

CLAIMS = ".claims"
CLAIM_POLL_S = 0.2
KEY_LENGTH = 64


class FolderStore:
    """Entries, and files by name, below a folder.

    Args:
        root: the folder; it is made.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def read_entry(self, name: str) -> dict[str, bytes] | None:
        """Return the verified files of an entry; None where there is none.

        Raises:
            InputError: it is damaged.
        """
        folder = self.root / name
        return read_folder(folder) if folder.is_dir() else None

    def write_entry(
        self, name: str, files: Mapping[str, bytes], *, keeps_existing: bool = False
    ) -> str | None:
        """Write an entry in one step; one that is there is replaced, unless it is to be kept.

        Returns:
            Its `version`.

        Raises:
            AffectuneError: it cannot be written.
        """
        write_folder(self.root / name, files, keeps_existing=keeps_existing)
        return self.version(name)

    def remove_entry(self, name: str) -> None:
        """Remove an entry, or what is in its place, as far as that is possible."""
        remove(self.root / name)

    def entry_names(self) -> Iterator[str]:
        """Yield the names of all entries."""
        for path in sorted(self.root.iterdir()):
            if (path / MANIFEST).is_file() and not path.name.startswith("."):
                yield path.name

    def is_in_the_way(self, name: str) -> bool:
        """Return whether something else is where an entry should be."""
        place = self.root / name
        return (place.is_symlink() or place.exists()) and not place.is_dir()

    def version(self, name: str) -> str | None:
        """Return what changes whenever an entry is written; None where there is none."""
        try:
            status = (self.root / name).stat()
        except OSError:
            return None
        return f"{status.st_ino} {status.st_mtime_ns}"

    @contextlib.contextmanager
    def claim(self, key: str, *, timeout_s: float) -> Iterator[None]:
        """Hold the file lock of a key; after `timeout_s`, or where none can be had, go without."""
        path = self.root / CLAIMS / key
        lock = FileLock(path)
        with contextlib.suppress(Timeout, OSError):
            path.parent.mkdir(exist_ok=True)
            lock.acquire(timeout=timeout_s, poll_interval=CLAIM_POLL_S)

        try:
            yield
        finally:
            if lock.is_locked:
                # Before the lock goes: who waits for it sees that the file is another one.
                path.unlink(missing_ok=True)
                lock.release()

    def remove_leftovers(self, keys: Iterable[str]) -> None:
        """Remove what killed processes were writing under keys, and their claims."""
        wanted = set(keys)
        names = {path.name[1:].partition(".")[0][:KEY_LENGTH] for path in self.root.glob(".*")}
        with contextlib.suppress(OSError):
            names |= {path.name for path in (self.root / CLAIMS).iterdir()}
        for key in names & wanted:
            lock = FileLock(self.root / CLAIMS / key)
            with contextlib.suppress(Timeout, OSError):
                (self.root / CLAIMS).mkdir(exist_ok=True)
                with lock.acquire(timeout=0):
                    remove_leftovers(self.root, partial(_belongs_to, key))
                    (self.root / CLAIMS / key).unlink(missing_ok=True)

    def remove_if_only(self, names: Iterable[str]) -> None:
        """Remove the folder if it holds nothing but entries of these names."""
        if {path.name for path in self.root.iterdir()} <= set(names):
            shutil.rmtree(self.root, ignore_errors=True)

    def has_locks(self) -> bool:
        """Return whether this disk, perhaps of a network, can lock a file."""
        path = self.root / CLAIMS / "check"
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            path.parent.mkdir(exist_ok=True)
            with FileLock(path).acquire(timeout=0):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others have claims there
                path.parent.rmdir()
            return True
        return False

    def read(self, name: str, *, max_bytes: int | None = None) -> bytes | None:
        """Return what is in a file; None where there is none.

        Raises:
            AffectuneError: it cannot be read, is longer than `max_bytes`, or is no plain file.
        """
        try:
            return read_plain_file(self.root / name, max_bytes or MAX_FILE_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            message = f"Cannot read '{self.root / name}': {error.strerror}."
            raise failure(message, error) from error

    def write(self, name: str, data: bytes, *, only_new: bool = False) -> bool:
        """Write a file in one step; return whether it holds that now.

        Raises:
            AffectuneError: it cannot be written.
        """
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not only_new:
                write_atomically(path, data)
                return True
            with temporary_file(path.parent) as temporary:
                temporary.write_bytes(data)
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                os.link(temporary, path)
            return True
        except FileExistsError:
            return self.read(name) == data
        except OSError as error:
            message = f"Cannot write '{path}': {error.strerror}."
            raise failure(message, error) from error

    def delete(self, name: str) -> None:
        """Delete a file, if it is there, and the folder that is empty then.

        Raises:
            AffectuneError: it cannot be deleted.
        """
        path = self.root / name
        try:
            path.unlink(missing_ok=True)
            if path.parent != self.root:
                with contextlib.suppress(OSError):
                    path.parent.rmdir()
        except NotADirectoryError:
            return
        except OSError as error:
            message = f"Cannot delete '{path}': {error.strerror}."
            raise failure(message, error) from error

    def names(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the files whose names below the folder begin so; not those being written."""
        for folder, _, files in os.walk(self.root / prefix.rpartition("/")[0]):
            for file in sorted(files):
                path = Path(folder) / file
                name = path.relative_to(self.root)
                if any(LEFTOVER.fullmatch(part) for part in name.parts):
                    continue
                if name.as_posix().startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):
                        status = path.lstat()
                        modified = datetime.fromtimestamp(status.st_mtime, UTC)
                        yield StoredObject(name.as_posix(), status.st_size, modified)


def _belongs_to(key: str, name: str) -> bool:
    """Return whether a name is a key, or begins with it, as that of a checkpoint."""
    return name.startswith(key)
