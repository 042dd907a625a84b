"""A marker in a store: who reads it there uses the same store as the driver, who wrote it.

A folder may have the same path on two machines, and be two folders.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.credentials.masking import masked_uri
from pipeline.errors import AffectuneError, SurroundingsError
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.store_address import folder_of, object_address

PREFIX = ".marker-"
OBJECT_PREFIX = "marker-"
ANSWER_S, RETRY_S = 3.0, 5.0
"""So long an object store may take."""
KEPT_S = 30 * 86_400.0
"""So old a marker is left by a process that was killed."""
SHARE = "mount the driver's folder there at the same path, or name an object store with --store"
REACH = "see to it that this node reaches the store with the same settings and keys as the driver"


@dataclass(frozen=True)
class StoreMarker:
    """What the driver left in a store.

    Attributes:
        uri: of the store: a folder from the root, or a URI.
        name: of the file or the entry.
        word: what is in it, which nobody can guess.
    """

    uri: str = field(repr=False)
    name: str
    word: str = field(repr=False)

    @property
    def mend(self) -> str:
        """What to do on a node that does not have it, without a full stop."""
        return SHARE if folder_of(self.uri) is not None else REACH

    def find_fault(self) -> str | None:
        """Return what is wrong with the store on this machine; None where it is the driver's.

        Returns:
            The end of a sentence that begins with the store and the node: "is not the driver's".
        """
        folder = folder_of(self.uri)
        if folder is not None:
            # No folder is made here: a store of its own would hide what is wrong.
            place = _nearest(folder) / self.name
            try:
                return None if place.read_text(encoding="ascii") == self.word else _OTHER
            except OSError as error:
                is_missing = isinstance(error, FileNotFoundError)
                return _OTHER if is_missing else f"cannot be read ({error.strerror})"
            except ValueError:
                return _OTHER

        try:
            found = _objects(self.uri).read(self.name)
        except AffectuneError as error:
            return f"cannot be read ({str(error).rstrip('.')})"
        return None if found == self.word.encode() else _OTHER

    def raise_if_not_here(self) -> None:
        """Refuse to work on a machine whose store is not the driver's.

        Raises:
            SurroundingsError: it is not.
        """
        if fault := self.find_fault():
            said = f"The store '{masked_uri(self.uri)}' {fault}."
            mend = self.mend[0].upper() + self.mend[1:]
            raise SurroundingsError(f"{said} {mend}.", mend=mend)


_OTHER = "is not the driver's"


@contextlib.contextmanager
def marked_store(uri: str) -> Iterator[StoreMarker]:
    """Mark a store as the one that this process uses, for as long.

    Args:
        uri: a folder, which need not be there, or a URI.

    Raises:
        AffectuneError: the store cannot be written.
    """
    folder = folder_of(uri)
    word = secrets.token_hex(16)
    if folder is not None:
        place = _nearest(folder)
        marker = StoreMarker(uri, f"{PREFIX}{secrets.token_hex(8)}", word)
        _remove_old(place)
        write_atomically(place / marker.name, word)
        try:
            yield marker
        finally:
            with contextlib.suppress(OSError):
                (place / marker.name).unlink(missing_ok=True)
        return

    objects = _objects(uri)
    marker = StoreMarker(uri, f"{OBJECT_PREFIX}{secrets.token_hex(8)}", word)
    objects.write(marker.name, word.encode())
    try:
        yield marker
    finally:
        with contextlib.suppress(AffectuneError):
            objects.delete(marker.name)


def _objects(uri: str) -> ObjectStore:
    return ObjectStore(object_address(uri), answer_s=ANSWER_S, retry_s=RETRY_S)


def _nearest(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there."""
    return next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), folder)


def _remove_old(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink()
