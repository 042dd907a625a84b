"""The journal of a study: one JSON line per event, appended and synced."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from filelock import FileLock, Timeout

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.surroundings import failure
from tuning.journal.events import Event
from tuning.journal.lines import MAX_LINE_BYTES, JournalError, Line, mended_lines, read_lines
from tuning.journal.seal import Chain

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
LOCK_SUFFIX = ".lock"
MAX_MENDED_BYTES = 1024**3
"""A journal that is larger is not mended: that takes it into memory."""


class Journal:
    """A journal open for writing, by one process at a time.

    A line that a crash cut short is set aside. So is the file as it was, where lines were doubled
    or moved: their seals say how they were written.

    Args:
        path: of the file; made if it is not there.

    Attributes:
        events: those that were there when it was opened.
        is_mended: it was damaged, and is as it was written again.

    Raises:
        InputError: another process has it open, it cannot be opened, a line is damaged, missing or
            changed, or another version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_mended = False
        self.events: list[Event] = []
        self._chain, self._size = Chain(), 0
        self._lock = FileLock(_lock_file(path))

        try:
            self._lock.acquire(timeout=0)
            path.touch()
        except Timeout as error:
            raise InputError(
                f"The study in '{path.parent}' is running in another process. Wait for it."
            ) from error
        except OSError as error:
            self.close()
            raise InputError(
                f"Cannot write the journal '{path}': {error.strerror}. Choose another --out."
            ) from error

        try:
            lines = self._read()
        except OSError as error:
            self.close()
            raise failure(f"Cannot read the journal '{path}': {error.strerror}.", error) from error
        except AffectuneError:
            self.close()
            raise
        self._take(lines)

    @property
    def size(self) -> int:
        """Return how many bytes of the file are written for good; more may be on their way."""
        return self._size

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have it."""
        self._lock.release()

    def discard(self) -> None:
        """Remove the file, and let go of it."""
        self.path.unlink(missing_ok=True)
        _lock_file(self.path).unlink(missing_ok=True)
        self.close()

    def replace(self, data: bytes) -> None:
        """Have the lines of a copy that was kept elsewhere in place of those that are there.

        Raises:
            InputError: a line is damaged, missing or changed, or another version wrote it.
            AffectuneError: they cannot be written.
        """
        list(read_lines(BytesIO(data), str(self.path)))
        write_atomically(self.path, data)
        self._take(_read_whole(self.path))

    def append(self, *events: Event) -> None:
        """Write events, in one piece; when it returns, they survive a crash of the machine.

        Raises:
            AffectuneError: such as of a full disk; then the events did not happen, and the journal
                is as it was.
        """
        data, chain = b"", self._chain
        for event in events:
            line, chain = chain.seal(event.model_dump_json().encode())
            data += line
        size = self._size + len(data)

        try:
            self._raise_if_changed()
            with open(self.path, "ab", buffering=0) as file:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next append does it
                os.truncate(self.path, self._size)
            message = f"Cannot write the journal '{self.path}': {error.strerror}. Nothing is lost."
            raise failure(message, error) from error
        self._chain, self._size = chain, size

    def _take(self, lines: list[Line]) -> None:
        """Go on after the lines that are in the file."""
        self.events = [line.event for line in lines]
        self._chain = lines[-1].chain if lines else Chain()
        self._size = self.path.stat().st_size

    def _raise_if_changed(self) -> None:
        """Cut off what an append that failed has left; refuse to write to a file that was cut."""
        size = self.path.stat().st_size
        if size > self._size:
            os.truncate(self.path, self._size)
        if size < self._size:
            raise AffectuneError(
                f"The journal '{self.path}' was cut short by another program while the study was "
                "running. What was trained is in the store: run the study with --resume."
            )

    def _read(self) -> list[Line]:
        """Read all lines; mend the file, or cut off its end, where that loses nothing."""
        raise_if_no_file(self.path)
        try:
            lines = _read_whole(self.path)
        except JournalError as error:
            data = _mended(self.path, error)
            if data is None:
                raise
            aside = _set_aside(self.path)
            write_atomically(self.path, data)
            log.warning("%s The damaged file is kept as '%s'.", _mending(self.path), aside.name)
            self.is_mended = True
            lines = _read_whole(self.path)
        _cut_off_torn_end(self.path, lines[-1].end if lines else 0)
        return lines


def is_open(path: Path) -> bool:
    """Return whether a process has a journal open for writing."""
    lock = _lock_file(path)
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # it is another person's
        return False


def read_journal(path: Path, start: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield events from a position on, each with the position after it.

    A last line that is not complete yet is left out. Lines that can be mended are read as they were
    written.

    Raises:
        InputError: a line is damaged, or another version wrote the journal.
        OSError: the file is not there, or cannot be read.
    """
    raise_if_no_file(path)
    lines: Iterable[Line]
    if start:
        with open(path, "rb") as file:
            for line in read_lines(_raw_lines(file), str(path), start=start):
                yield line.event, line.end
        return

    try:
        lines = _read_whole(path)
    except JournalError as error:
        data = _mended(path, error)
        if data is None:
            raise
        log.warning("%s `study run --resume` writes it so.", _mending(path))
        lines = read_lines(BytesIO(data), str(path))
    for line in lines:
        yield line.event, line.end


def raise_if_no_file(path: Path) -> None:
    """Refuse what is no file: a folder, or a pipe that nobody writes to.

    Raises:
        InputError: it is none; a path where nothing is passes.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(
                f"'{path}' is no file, and the study's journal has its name. Move it away, or "
                "choose another --out."
            )


def _read_whole(path: Path) -> list[Line]:
    with open(path, "rb") as file:
        return list(read_lines(_raw_lines(file), str(path)))


def _raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; what is too long for one comes in pieces, so that it does not fill memory."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line


def _mended(path: Path, error: JournalError) -> bytes | None:
    """Return what a journal was before it was damaged; None where nothing proves it."""
    if not error.is_damage or path.stat().st_size > MAX_MENDED_BYTES:
        return None
    data = mended_lines(path.read_bytes())
    if data is None:
        return None
    try:
        list(read_lines(BytesIO(data), str(path)))
    except JournalError:
        return None
    return data


def _mending(path: Path) -> str:
    """Say what was damaged, and that it does no harm."""
    return (
        f"Lines of '{path}' were doubled or moved, or something else came between them. Their "
        "seals prove that none is missing or changed, so it is read as it was written."
    )


def _set_aside(path: Path) -> Path:
    """Copy a damaged journal to a new file beside it."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    shutil.copyfile(path, aside)
    return aside


def _cut_off_torn_end(path: Path, end: int) -> None:
    """Move what a crash left of the last line to a file beside the journal; end the line before.

    Args:
        path: of the journal.
        end: of its last line that is one.
    """
    if not end and path.stat().st_size:  # no line at all, and perhaps large
        aside = path.with_name(f"{path.name}.torn-0")
        path.replace(aside)
        path.touch()
        log.warning("Nothing in '%s' can be read; it was set aside as '%s'.", path, aside.name)
        return

    with open(path, "rb+") as file:
        file.seek(max(end - 1, 0))
        is_ended = not end or file.read(1) == b"\n"
        if file.read(MAX_LINE_BYTES).strip() or file.read(1):
            aside = path.with_name(f"{path.name}.torn-{end}")
            file.seek(end)
            with open(aside, "wb") as torn:
                shutil.copyfileobj(file, torn)
            log.warning(
                "The last line of '%s' was cut short; it was set aside as '%s'.", path, aside.name
            )
        file.truncate(end)
        if not is_ended:
            file.seek(end)
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}{LOCK_SUFFIX}")
