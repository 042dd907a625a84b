"""Seals: each line of a journal has its number, and a hash over itself and all lines before it.

A line that was lost, doubled, moved or changed breaks the chain, so that no such damage can change
what a study decides without being noticed. Lines of format 3 have no seal; the first sealed line
after them seals them, too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

SEAL = re.compile(rb'(\{.*),"line":(\d{1,18}),"sum":"([0-9a-f]{16})"\}', re.DOTALL)
SUM_DIGITS = 16
"""Of the hash, in hexadecimal: so much finds what happens by accident, and keeps lines short."""


@dataclass(frozen=True)
class Sealed:
    """A line of a journal, taken apart.

    Attributes:
        body: the event as JSON.
        number: of the line, from 1; None where it has no seal.
        sum: of its seal.
    """

    body: bytes
    number: int | None = None
    sum: str = ""

    @classmethod
    def from_line(cls, line: bytes) -> Sealed:
        """Take a line apart; white space around it does not count."""
        line = line.strip()
        match = SEAL.fullmatch(line)
        if match is None:
            return cls(line)
        return cls(match[1] + b"}", int(match[2]), match[3].decode())


@dataclass(frozen=True)
class Chain:
    """How far a journal's chain of seals goes.

    Attributes:
        number: of its last line; 0 for an empty journal.
        sum: over all lines.
        is_sealed: its last line has a seal, so all that follow have one.
    """

    number: int = 0
    sum: str = ""
    is_sealed: bool = False

    def after(self, body: bytes, *, is_sealed: bool = True) -> Chain:
        """Return the chain with one more event."""
        digest = hashlib.sha256(self.sum.encode() + body).hexdigest()[:SUM_DIGITS]
        return Chain(self.number + 1, digest, is_sealed)

    def seal(self, body: bytes) -> tuple[bytes, Chain]:
        """Return the line of an event that follows, and the chain with it."""
        after = self.after(body)
        return body[:-1] + f',"line":{after.number},"sum":"{after.sum}"}}\n'.encode(), after

    def follow(self, line: Sealed) -> Chain:
        """Return the chain with a line that was read.

        Raises:
            ValueError: it does not belong there; the message says what is wrong.
        """
        after = self.after(line.body, is_sealed=line.number is not None)
        if line.number is None:
            if self.is_sealed:
                raise ValueError("has no seal: it was added or changed after it was written")
            return after

        if line.number > after.number:
            lost = f"line {after.number} is"
            if line.number > after.number + 1:
                lost = f"lines {after.number} to {line.number - 1} are"
            raise ValueError(f"was line {line.number} when it was written: {lost} missing")
        if line.number < after.number:
            raise ValueError(
                f"was line {line.number} when it was written: it is doubled, or lines were moved"
            )
        if line.sum != after.sum:
            what = "it" if self.is_sealed or not self.number else "it or a line before it"
            raise ValueError(f"does not fit its seal: {what} was changed after it was written")
        return after


def mended(lines: list[bytes]) -> list[bytes] | None:
    """Return the lines of a journal as they were written, if their seals prove it.

    Doubled lines are left out, and moved ones put back; so is what is no line at all, such as
    zeros, where the seals prove that it took no line's place.

    Args:
        lines: as they are, without those that are blank; `is_event` says which are JSON.

    Returns:
        None where lines are missing or changed, or where nothing can prove that they are not.
    """
    unique = [Sealed.from_line(line) for line in dict.fromkeys(line.strip() for line in lines)]
    bare = [line for line in unique if line.number is None]
    sealed = sorted(
        (line for line in unique if line.number is not None), key=lambda line: line.number or 0
    )

    chain, ordered = Chain(), [*bare, *sealed]
    try:
        for line in ordered:
            chain = chain.follow(line)
    except ValueError:
        return None
    return [_joined(line) for line in ordered]


def _joined(line: Sealed) -> bytes:
    if line.number is None:
        return line.body
    return line.body[:-1] + f',"line":{line.number},"sum":"{line.sum}"}}'.encode()
