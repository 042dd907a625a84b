"""The journal of a study: one JSON line per event, appended and synced."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.storage.surroundings import failure
from tuning.journal.events import EVENT, FORMAT, Event

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
LOCK_SUFFIX = ".lock"


class Journal:
    """A journal open for writing, by one process at a time.

    A line that a crash cut short is set aside.

    Args:
        path: of the file; made if it is not there.

    Attributes:
        events: those that were there when it was opened.

    Raises:
        InputError: another process has it open, it cannot be opened, a line before the last is
            damaged, or an earlier version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
            with open(path, "rb") as file:
                _raise_if_other_format(path, file.readline())
            _set_torn_line_aside(path)
            self.events = [event for event, _ in read_journal(path)]
        except (InputError, OSError):
            self.close()
            raise

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

    def append(self, *events: Event) -> None:
        """Write events, in one piece; when it returns, they survive a crash of the machine.

        Raises:
            AffectuneError: such as of a full disk; then the events did not happen, and the journal
                is as it was.
        """
        data = b"".join(event.model_dump_json().encode() + b"\n" for event in events)
        size_before: int | None = None

        try:
            size_before = self.path.stat().st_size
            with open(self.path, "ab", buffering=0) as file:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # what is left is whole events, or a torn line
                if size_before is not None:
                    os.truncate(self.path, size_before)
            message = f"Cannot write the journal '{self.path}': {error.strerror}. Nothing is lost."
            raise failure(message, error) from error


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

    A last line that is not complete yet is left out.

    Raises:
        InputError: a line is damaged, or another version wrote the journal.
    """
    with open(path, "rb") as file:
        _raise_if_other_format(path, file.readline())
        file.seek(start)

        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            try:
                yield EVENT.validate_json(line), start
            except ValidationError as error:
                raise InputError(
                    f"'{path}': the line that ends at byte {start} is damaged "
                    f"({error.errors()[0]['msg']}). Restore the file from a copy, or start anew "
                    "with another --out; trained stages are in the store."
                ) from error


def _raise_if_other_format(path: Path, first_line: bytes) -> None:
    """Refuse a journal of another version; a damaged line is left to its reader."""
    try:
        opened = dict(json.loads(first_line))
    except (ValueError, TypeError):
        return

    journal_format = opened.get("format", 1)
    if journal_format != FORMAT:
        raise InputError(
            f"'{path}' has journal format {journal_format}; this version of Affectune reads "
            f"{FORMAT}. "
            "Use the version that wrote it, or start the study anew with another --out and --store."
        )


def _set_torn_line_aside(path: Path) -> None:
    """Move what a crash left of the last line to a file beside the journal."""
    data = path.read_bytes()
    size = data.rfind(b"\n") + 1
    last_line = data[data.rfind(b"\n", 0, max(size - 1, 0)) + 1 : size]

    if last_line:
        try:
            EVENT.validate_json(last_line)
        except ValidationError:
            size -= len(last_line)

    if size < len(data):
        aside = path.with_name(f"{path.name}.torn-{size}")
        aside.write_bytes(data[size:])
        os.truncate(path, size)
        log.warning(
            "The last line of '%s' was cut short; it was set aside as '%s'.", path, aside.name
        )


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}{LOCK_SUFFIX}")
