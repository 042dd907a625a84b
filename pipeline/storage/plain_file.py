"""Reads a file that may come from others: a plain file, whole, once, and no longer than allowed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import InputError

_OTHER_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_plain_file(path: Path, max_bytes: int) -> bytes:
    """Read a file; nothing that could hang, be endless or lead elsewhere is opened.

    Args:
        path: of the file itself: a link is not followed.
        max_bytes: a longer file is not read at all.

    Raises:
        OSError: it is not there, or cannot be read.
        InputError: it is no plain file, too long, or changed while it was read.
    """
    _raise_unless_plain(path, os.lstat(path), max_bytes)

    # Between the two looks it may have been replaced: what was opened is what counts.
    with open(path, "rb", opener=_open_plain, buffering=0) as file:
        status = os.fstat(file.fileno())
        _raise_unless_plain(path, status, max_bytes)
        data = _read_all(file.fileno(), status.st_size)

    if data is None:
        raise InputError(f"'{path}' changed while it was read. Try again when it is at rest.")
    return data


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _raise_unless_plain(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _OTHER_KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        advice = " Copy what it leads to, with cp -L." if stat.S_ISLNK(status.st_mode) else ""
        raise InputError(f"'{path}' is {kind}, and must be a plain file.{advice}")
    if status.st_size > max_bytes:
        raise InputError(
            f"'{path}' has {status.st_size:,} bytes, more than the {max_bytes:,} that it may have."
        )


def _read_all(descriptor: int, num_bytes: int) -> bytes | None:
    """Return the bytes of an open file; None where it has fewer or more of them."""
    parts, missing = [], num_bytes
    while missing and (part := os.read(descriptor, missing)):
        parts.append(part)
        missing -= len(part)
    if missing or os.read(descriptor, 1):
        return None
    return parts[0] if len(parts) == 1 else b"".join(parts)
