"""A journal as it is published: its events, which hold no credentials, in lines with seals.

A line of an earlier version may hold a credential, and has no seal. So what is published is not
the file's bytes, but what its events are written as now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tuning.journal.events import (
    Event,
    ModelRegistered,
    StudyFinished,
    TrialEnded,
    TrialProposed,
)
from tuning.journal.seal import Chain


class Transcript:
    """Follows a journal's events, and says how they are published.

    Attributes:
        chain: of the seals so far.
        size: of all lines, in bytes.
        fits: trials that were asked for, and `ended` those that ended.
        is_finished, is_registered: likewise.
    """

    def __init__(self) -> None:
        self.chain = Chain()
        self.size = self.fits = self.ended = 0
        self.is_finished = self.is_registered = False
        self._hash = hashlib.sha256()

    def add(self, event: Event) -> bytes:
        """Take one more event into account; return its line."""
        line, self.chain = self.chain.seal(event.model_dump_json().encode())
        self.size += len(line)
        self._hash.update(line)

        match event:
            case TrialProposed():
                self.fits += 1
            case TrialEnded():
                self.ended += 1
            case StudyFinished():
                self.is_finished = True
            case ModelRegistered():
                self.is_registered = True
            case _:
                pass
        return line

    @property
    def sha256(self) -> str:
        """Return the hash of all lines."""
        return self._hash.hexdigest()


def transcribe(events: Iterable[Event]) -> bytes:
    """Return the lines of a whole journal."""
    transcript = Transcript()
    return b"".join([transcript.add(event) for event in events])


def seal_after(events: Iterable[Event], lines: int) -> str:
    """Return the sum in the seal of a line; "" where there are fewer lines, or before the first."""
    transcript = Transcript()
    for event in events:
        if transcript.chain.number == lines:
            break
        transcript.add(event)
    return transcript.chain.sum if transcript.chain.number == lines else ""
