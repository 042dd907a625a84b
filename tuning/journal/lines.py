"""The lines of a journal: read, checked against their seals and each other, and mended."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from pipeline.errors import InputError
from tuning.journal.events import EVENT, FORMAT, READABLE_FORMATS, Event
from tuning.journal.seal import Chain, Sealed, mended
from tuning.journal.sequence import Sequence

MAX_LINE_BYTES = 64 * 1024**2
"""No event is longer; what is, are zeros or another kind of file."""
NEWER = {"union_tag_invalid", "extra_forbidden"}
"""What pydantic calls an event, or a field of one, that it does not know."""
BLANK = codecs.BOM_UTF8 + b"\0 \t\r\n"
"""Bytes that may stand between lines: an editor's, and those of a file system after a power cut."""
MAX_SHOWN = 60


class JournalError(InputError):
    """A journal's lines are not what was written, or another version wrote them.

    Attributes:
        is_damage: they can perhaps be mended: see `mended_lines`.
    """

    def __init__(self, message: str, *, is_damage: bool) -> None:
        super().__init__(message)
        self.is_damage = is_damage


class Line(NamedTuple):
    """A line that was read.

    Attributes:
        event: that it tells.
        end: the position after it, in bytes.
        chain: of seals, with it.
    """

    event: Event
    end: int
    chain: Chain


def read_lines(lines: Iterable[bytes], where: str, *, start: int = 0) -> Iterator[Line]:
    """Read the lines of a journal: each must fit its seal or, without one, those before it.

    Blank lines count for nothing. What is at the end and is no JSON is left out: a crash cut it
    short, or another process is writing it.

    Args:
        lines: from the first, with their line feeds; none longer than `MAX_LINE_BYTES` is whole.
        where: the file, for messages.
        start: the position from which on they are yielded; of those before, seals are checked.

    Raises:
        JournalError: a line is damaged, missing, doubled or moved, or another version wrote it.
    """
    chain, sequence, end = Chain(), Sequence(), 0
    unreadable = 0

    for number, raw in enumerate(lines, 1):
        end += len(raw)
        text = raw.strip(BLANK) if number == 1 else raw.strip()
        if not text:
            continue
        if end <= start:
            chain = _followed(chain, Sealed.from_line(text), where, number)
            continue
        if (record := _record(text)) is None:
            unreadable = unreadable or number
            continue
        if unreadable:
            raise _damaged(where, unreadable, "is no JSON, and lines follow it")

        if not chain.number:
            _raise_if_other_format(where, record)
        line = Sealed.from_line(text)
        event = _event(where, number, line, record)
        chain = _followed(chain, line, where, number)
        if line.number is None and not start:
            try:
                sequence.follow(event)
            except ValueError as error:
                raise _damaged(where, number, str(error)) from error
        yield Line(event, end, chain)


def mended_lines(data: bytes) -> bytes | None:
    """Return a journal as it was written, where what is there proves it: see `seal.mended`."""
    lines, has_other = [], False
    for raw in data.split(b"\n"):
        text = raw.strip(BLANK)
        if text and _record(text) is not None:
            lines.append(text)
        else:
            has_other = has_other or bool(raw.strip())

    whole = mended(lines)
    if not whole or (has_other and Sealed.from_line(whole[-1]).number is None):
        return None
    return b"\n".join(whole) + b"\n"


def _followed(chain: Chain, line: Sealed, where: str, number: int) -> Chain:
    try:
        return chain.follow(line)
    except ValueError as error:
        raise _damaged(where, number, str(error)) from error


def _record(text: bytes) -> dict[str, Any] | None:
    """Return a line as JSON; None where it is none."""
    if not text.startswith(b"{") or len(text) > MAX_LINE_BYTES:
        return None
    try:
        record = from_json(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _event(where: str, number: int, line: Sealed, record: dict[str, Any]) -> Event:
    try:
        return EVENT.validate_json(line.body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        if record.keys() & {"line", "sum"} and line.number is None:
            what = "was changed after it was written: its seal is not at its end"
            raise _damaged(where, number, what) from error
        if problems[0]["type"] == "union_tag_not_found":
            raise _damaged(where, number, "is no event of a study") from error
        if {problem["type"] for problem in problems} <= NEWER:
            raise JournalError(
                f"'{where}', line {number}: this version of Affectune does not know "
                f"{_unknown(problems[0], record)}. A newer version wrote it: use that one, or run "
                "the study with another --out and the same --store, and what is trained is reused.",
                is_damage=False,
            ) from error
        place = ".".join(str(part) for part in problems[0]["loc"][1:])
        said = f"{place}: {problems[0]['msg']}" if place else problems[0]["msg"]
        raise _damaged(where, number, f"is no event of a study ({_shown(said)})") from error


def _unknown(problem: Any, record: dict[str, Any]) -> str:
    """Return what is unknown: an event, or a field of one."""
    if problem["type"] == "union_tag_invalid":
        return f"the event '{_shown(str(record.get('event')))}'"
    field = _shown(".".join(str(part) for part in problem["loc"][1:]))
    return f"the field '{field}' of the event '{_shown(str(record.get('event')))}'"


def _shown(text: str) -> str:
    """Return what a file says, as part of a sentence: printable, and not long."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= MAX_SHOWN else plain[:MAX_SHOWN] + "..."


def _damaged(where: str, number: int, what: str) -> JournalError:
    return JournalError(
        f"'{where}' is damaged: line {number} {what}. Put back a copy of the file, or run the "
        "study with another --out and the same --store: what was trained to its end is reused.",
        is_damage=True,
    )


def _raise_if_other_format(where: str, record: dict[str, Any]) -> None:
    """Refuse a journal of another version."""
    if "digest" not in record or "study" not in record:
        return  # it is no opening, which `Sequence` says
    stored = record.get("format", 1)
    if isinstance(stored, int) and stored not in READABLE_FORMATS:
        raise JournalError(
            f"'{where}' has journal format {stored}; this version of Affectune reads "
            f"{READABLE_FORMATS[0]} and {FORMAT}. Use the version that wrote it, or start the "
            "study anew with another --out and --store.",
            is_damage=False,
        )
