"""The journal of a study: one JSON line per event, appended and synced. What it does not say did not happen."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from pipeline.errors import AffectuneError, InputError
from tuning.journal.events import EVENT, Event

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"


class Journal:
    """Opened by one process at a time; a line that a crash cut short is set aside.

    Args:
        path: of the file; made if it is not there.

    Raises:
        InputError: another process has it open, it cannot be opened, or a line before the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(
                path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise InputError(
                f"Cannot write the journal '{path}': {error.strerror}. Choose another --out."
            ) from error
        try:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"The study in '{path.parent}' is running in another process. Wait for it."
                ) from error
            self.events = _mend(path)
        except (InputError, OSError):
            os.close(self._descriptor)
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
        os.close(self._descriptor)

    def append(self, *events: Event) -> None:
        """Write events, in one piece; when it returns, they survive a crash of the machine.

        Raises:
            AffectuneError: the disk is full; then the events did not happen, and the journal is as it was.
        """
        before = self.path.stat().st_size
        data = b"".join(event.model_dump_json().encode() + b"\n" for event in events)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.truncate(self.path, before)
            raise AffectuneError(
                f"Cannot write the journal '{self.path}': {error.strerror}. Nothing is lost: make room, then --resume."
            ) from error


def read_journal(path: Path, start: int = 0) -> Iterator[tuple[Event, int]]:
    """Events from a position on, each with the position after it; a last line that is not whole yet is left out.

    Raises:
        InputError: a line is damaged.
    """
    with open(path, "rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            try:
                yield EVENT.validate_json(line), start
            except ValidationError as error:
                raise InputError(
                    f"'{path}': the line that ends at byte {start} is damaged ({error.errors()[0]['msg']}). "
                    "Restore the file from a copy, or start anew with another --out; trained stages are in the store."
                ) from error


def _mend(path: Path) -> list[Event]:
    """Read all events; a torn last line, whole or not, goes to a file beside the journal."""
    data = path.read_bytes()
    good = data.rfind(b"\n") + 1
    last = data[data.rfind(b"\n", 0, max(good - 1, 0)) + 1 : good]
    if last:
        try:
            EVENT.validate_json(last)
        except ValidationError:
            good -= len(last)
    if good < len(data):
        aside = path.with_name(f"{path.name}.torn-{good}")
        aside.write_bytes(data[good:])
        os.truncate(path, good)
        log.warning(
            "The last line of '%s' was cut short; it was set aside as '%s'.", path, aside.name
        )
    return [event for event, _ in read_journal(path)]
