"""Tells a fault of the surroundings from one of what was asked for: of a disk, a right, a service.

After the mend of such a fault the same work succeeds, so nothing that failed by it is to blame.
Whoever catches an error and is to say whose it is asks here. Imports no library that may raise one.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator

from pipeline.errors import AffectuneError, InputError, SurroundingsError

LABELS = re.compile(r"\(sqlite3\.\w+\) |\[Errno \d+\] ")
"""What libraries put before the words of an error."""
MAX_CHAIN = 50
"""So many causes of one error are looked at."""
_ROOM = "Make room there, or raise the quota"
_RIGHT = "Give yourself the right to write there"
_DISK = "Check that disk, or the network drive"
_FILES = "Raise the limit of open files (`ulimit -n`), or use fewer --workers"
_MEMORY = "Free memory, or use fewer --workers"
_NETWORK = "Is the service there, and reached from here?"
_BUSY = "Wait for what else uses it, or end that"

MENDS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`)",
    errno.EROFS: _RIGHT,
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.EIO: _DISK,
    errno.ENXIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ESTALE: _DISK,
    errno.ENOLCK: _DISK,
    errno.EREMOTEIO: _DISK,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "Raise the limit on processes (`ulimit -u`), or use fewer --workers",
    errno.ENOBUFS: _MEMORY,
    errno.EBUSY: _BUSY,
    errno.ETXTBSY: _BUSY,
    errno.ETIMEDOUT: _NETWORK,
    errno.ECONNREFUSED: _NETWORK,
    errno.ECONNRESET: _NETWORK,
    errno.ECONNABORTED: _NETWORK,
    errno.ENOTCONN: _NETWORK,
    errno.ENETDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.EHOSTDOWN: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
}
"""Number of a system's error -> what to do about it. Others say that a file is not what it should
be, or is not there, which no mend of a disk changes."""
SQLITE_MENDS = {
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_READONLY: _RIGHT,
    sqlite3.SQLITE_PERM: _RIGHT,
    sqlite3.SQLITE_CANTOPEN: "Give yourself the right to write it and its folder, or make room",
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_NOMEM: _MEMORY,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
}
TEXTS = {
    "No usable temporary directory": "Make room in one of them, or set TMPDIR to another",
    "database or disk is full": _ROOM,
    "readonly database": _RIGHT,
    "unable to open database file": SQLITE_MENDS[sqlite3.SQLITE_CANTOPEN],
    "disk I/O error": _DISK,
    "database is locked": _BUSY,
}
"""The same of an error that says it in words alone: it has come through another program."""
SYSTEM_TEXT = re.compile(r"\[Errno (\d+)\]")
"""How Python writes a system's error."""
OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory")
"""How torch says that memory is short."""


def mend_of(error: BaseException) -> str | None:
    """Return what to do about the surroundings' fault that an error comes from.

    Args:
        error: what was caught; what it came from is looked at, too.

    Returns:
        An advice without a full stop; None where the surroundings are not to blame.
    """
    for each in causes(error):
        if isinstance(each, SurroundingsError):
            return each.mend
        if (mend := _mend(each)) is not None:
            return mend
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was short: for this work, which may ask for too much, or for any."""
    return any(
        isinstance(each, MemoryError)
        or type(each).__name__ == "OutOfMemoryError"
        or (isinstance(each, RuntimeError) and any(text in str(each) for text in OUT_OF_MEMORY))
        for each in causes(error)
    )


def failure(message: str, error: BaseException) -> AffectuneError:
    """Return the error to raise from another one, of the kind that the other one's cause has.

    Args:
        message: what could not be done, where, and why; whole sentences.
        error: what it comes from.
    """
    mend = mend_of(error)
    if mend is None:
        return AffectuneError(message)
    return SurroundingsError(_with_mend(message, mend), mend=mend)


def as_failure(error: BaseException) -> SurroundingsError | None:
    """Return any error as that of the surroundings which it comes from; None where it does not."""
    mend = mend_of(error)
    if mend is None:
        return None
    # What an InputError advises is for a mistake in what was asked for.
    is_told = isinstance(error, AffectuneError) and not isinstance(error, InputError)
    said = error if is_told else _blamed(error)
    if isinstance(said, SurroundingsError):
        return said
    message = _sentence(said)
    return SurroundingsError(_with_mend(message, mend), mend=mend)


def _with_mend(message: str, mend: str) -> str:
    return f"{message} {mend}" if mend.endswith("?") else f"{message} {mend}."


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it comes from, whichever way a library has attached them."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < MAX_CHAIN:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        attached = [each.__cause__]
        if not each.__suppress_context__:
            attached.append(each.__context__)
        # Ray's and SQLAlchemy's, and errors whose message is another error.
        attached += [getattr(each, "cause", None), getattr(each, "orig", None), *each.args[:1]]
        waiting += [other for other in attached if isinstance(other, BaseException)]


def _mend(error: BaseException) -> str | None:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in SQLITE_MENDS:  # the rest says more of the same
            return SQLITE_MENDS[code & 0xFF]
    if isinstance(error, OSError) and error.errno in MENDS:
        return MENDS[error.errno]
    if isinstance(error, InputError):
        return None
    text = str(error)
    if (number := SYSTEM_TEXT.search(text)) and int(number[1]) in MENDS:
        return MENDS[int(number[1])]
    return next((mend for known, mend in TEXTS.items() if known in text), None)


def _blamed(error: BaseException) -> BaseException:
    return next(
        each
        for each in causes(error)
        if isinstance(each, SurroundingsError) or _mend(each) is not None
    )


def _sentence(error: BaseException) -> str:
    """Return what an error says, in one line that ends with a full stop."""
    if isinstance(error, OSError) and error.strerror:
        where = f"'{error.filename}': " if error.filename is not None else ""
        return f"{where}{error.strerror}."
    text = LABELS.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."
