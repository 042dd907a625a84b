"""Files that appear complete or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.storage.surroundings import failure

DEFAULT_MODE = 0o666
"""Permissions of a new file, before the user's umask takes some away."""
PROBE_BYTES = 65536


def write_atomically(path: Path, data: bytes | str, *, mode: int = DEFAULT_MODE) -> None:
    """Write a file in one step; a file that is already there is replaced.

    Several processes may write the same path at the same time: the last one wins, and a reader
    always sees one of the complete files. A killed process may leave its hidden temporary file.

    Args:
        path: the file; its folder must exist.
        data: its content; text is written as UTF-8, line ends as they are.
        mode: permissions of the file, before the umask.

    Raises:
        AffectuneError: the file cannot be written; what was there before is intact.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data

    try:
        with temporary_file(path.parent, mode=mode) as temporary:
            temporary.write_bytes(content)
            flush_and_rename(temporary, path)
    except OSError as error:
        cause = error.strerror or error
        message = f"Cannot write '{path}': {cause}. What was there is intact."
        raise failure(message, error) from error


@contextlib.contextmanager
def temporary_file(folder: Path, *, mode: int = DEFAULT_MODE) -> Iterator[Path]:
    """Make an empty file with a unique, hidden name, and remove it on exit unless it was renamed.

    `write_atomically` is enough for content in memory. Use this for content that is streamed, or
    that decides the file's final name.

    Args:
        folder: where the file is made; it must exist.
        mode: permissions of the file, before the umask.

    Raises:
        OSError: the file cannot be made.
    """
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def flush_and_rename(temporary: Path, path: Path) -> None:
    """Flush a finished file to the disk, then give it its final name in the same file system.

    Raises:
        OSError: the file cannot be flushed or renamed.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())

    os.replace(temporary, path)


def prove_writable(folder: Path) -> None:
    """Prove that files can be written to a folder, which need not be there; leave it as it is.

    Raises:
        OSError: they cannot; `filename` is the folder that is there, or the file in its place.
    """
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(PROBE_BYTES))  # on a full disk a file can be made, and not be written
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
