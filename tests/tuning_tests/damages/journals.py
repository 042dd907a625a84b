"""Damages of a journal: of its lines, of its bytes, and by other versions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.tuning_tests.damages.files import CONTENT, DEEP, IN_ITS_PLACE, FileDamage, gone
from tests.tuning_tests.damages.place import Damage, Place, Random

SEALED = re.compile(rb',"line":\d+,"sum":"[0-9a-f]{16}"\}$')


def _on_lines(change: Callable[[list[bytes], Random], list[bytes]]) -> Damage:
    def damage(place: Place, random: Random) -> None:
        lines = place.journal.read_bytes().splitlines(keepends=True)
        place.journal.write_bytes(b"".join(change(lines, random)))

    return damage


def _at(lines: list[bytes], random: Random, event: bytes = b"") -> int:
    """Draw the place of a line, of an event if one is named."""
    places = [i for i, line in enumerate(lines) if b'"event":"' + event in line]
    return int(random.choice(places)) if places else 0


def _without(event: bytes) -> Damage:
    def change(lines: list[bytes], random: Random) -> list[bytes]:
        del lines[_at(lines, random, event)]
        return lines

    return _on_lines(change)


def _lose_block(lines: list[bytes], random: Random) -> list[bytes]:
    first = _at(lines, random)
    return lines[:first] + lines[first + int(random.integers(2, 6)) :]


def _double(lines: list[bytes], random: Random) -> list[bytes]:
    place = _at(lines, random)
    return [*lines[: place + 1], *lines[place:]]


def _double_block(lines: list[bytes], random: Random) -> list[bytes]:
    first, last = sorted((_at(lines, random), _at(lines, random)))
    return lines[: last + 1] + lines[first:]


def _double_elsewhere(lines: list[bytes], random: Random) -> list[bytes]:
    lines.insert(_at(lines, random), lines[_at(lines, random)])
    return lines


def _swap(lines: list[bytes], random: Random) -> list[bytes]:
    one, other = _at(lines, random), _at(lines, random)
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def _shuffle(lines: list[bytes], random: Random) -> list[bytes]:
    return [lines[place] for place in random.permutation(len(lines))]


def _between(text: bytes) -> Damage:
    def change(lines: list[bytes], random: Random) -> list[bytes]:
        lines.insert(_at(lines, random), text)
        return lines

    return _on_lines(change)


def _overwritten(text: bytes) -> Damage:
    def change(lines: list[bytes], random: Random) -> list[bytes]:
        lines[_at(lines, random)] = text
        return lines

    return _on_lines(change)


def _changed(key: str, value: object, event: bytes = b"") -> Damage:
    """Return the damage of a line whose field has another value, the rest as it is."""

    def change(lines: list[bytes], random: Random) -> list[bytes]:
        pattern = b'"' + key.encode() + rb'":("[^"]*"|[-\w.+]+)'
        places = [
            i for i, line in enumerate(lines) if re.search(pattern, line) and b'"' + event in line
        ]
        if places:
            place = int(random.choice(places))
            text = b'"' + key.encode() + b'":' + json.dumps(value).encode()
            lines[place] = re.sub(pattern, lambda _: text, lines[place], count=1)
        return lines

    return _on_lines(change)


def _newer_event(lines: list[bytes], random: Random) -> list[bytes]:
    lines.insert(1 + _at(lines, random), b'{"at":1.0,"event":"a_newer_one","more":[1]}\n')
    return lines


def _newer_last_event(lines: list[bytes], random: Random) -> list[bytes]:
    return [*lines, b'{"at":1.0,"event":"a_newer_one","more":[1]}\n']


def _newer_field(lines: list[bytes], random: Random) -> list[bytes]:
    place = _at(lines, random)
    lines[place] = b'{"newer":1,' + lines[place][1:]
    return lines


def _newer_last_field(lines: list[bytes], random: Random) -> list[bytes]:
    lines[-1] = b'{"newer":1,' + lines[-1][1:]
    return lines


def _reformatted(lines: list[bytes], random: Random) -> list[bytes]:
    return [json.dumps(json.loads(line)).encode() + b"\n" for line in lines]


def _twice(lines: list[bytes], random: Random) -> list[bytes]:
    return lines * 2


def _beginning_again(lines: list[bytes], random: Random) -> list[bytes]:
    return lines + lines[: _at(lines, random) + 1]


def _on_journal(damage: FileDamage) -> Damage:
    return lambda place, random: damage(place.journal, random)


def _crlf(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _mark(path: Path, random: Random) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _without_last_line_feed(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _zeros_behind(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes() + bytes(int(random.integers(1, 5000))))


LOST: Mapping[str, Damage] = {
    "a line lost": _without(b""),
    "the opening lost": _without(b"study_opened"),
    "a proposal lost": _without(b"trial_proposed"),
    "progress lost": _without(b"trial_progressed"),
    "an end lost": _without(b"trial_ended"),
    "finalists lost": _without(b"finalists_chosen"),
    "a winner lost": _without(b"task_completed"),
    "lines lost": _on_lines(_lose_block),
}
MOVED: Mapping[str, Damage] = {
    "a line doubled": _on_lines(_double),
    "lines doubled": _on_lines(_double_block),
    "a line doubled elsewhere": _on_lines(_double_elsewhere),
    "two lines swapped": _on_lines(_swap),
    "shuffled": _on_lines(_shuffle),
    "twice": _on_lines(_twice),
    "beginning again": _on_lines(_beginning_again),
}
BETWEEN: Mapping[str, Damage] = {
    "a blank line": _between(b"\n"),
    "blanks": _between(b" \t \r\n"),
    "a word": _between(b"hello\n"),
    "zeros between": _between(bytes(512) + b"\n"),
    "no UTF-8": _between(b'{"at":1.0,"event":"\xff\xfe"}\n'),
    "a list between": _between(b"[]\n"),
    "a number between": _between(b"1\n"),
    "deep between": _between(DEEP.encode() + b"\n"),
    "a conflict": _between(b"<<<<<<< HEAD\n"),
    "a line of zeros": _overwritten(bytes(300) + b"\n"),
    "a line of noise": _overwritten(b"\x93\xff\x00{\n"),
    "an empty object": _between(b"{}\n"),
    "carriage returns": _on_journal(_crlf),
    "a byte order mark": _on_journal(_mark),
    "no last line feed": _on_journal(_without_last_line_feed),
    "zeros behind": _on_journal(_zeros_behind),
}
NEWER: Mapping[str, Damage] = {
    "a newer event": _on_lines(_newer_event),
    "a newer last event": _on_lines(_newer_last_event),
    "a newer field": _on_lines(_newer_field),
    "a newer last field": _on_lines(_newer_last_field),
    "a newer format": _changed("format", 99),
}
CHANGED: Mapping[str, Damage] = {
    "a score": _changed("devel", 0.99),
    "a deciding score": _changed("deciding", 0.99),
    "a score of NaN": _changed("devel", float("nan")),
    "infinite": _changed("wall_s", float("inf")),
    "a time of the far future": _changed("at", 1e300),
    "a time before all": _changed("at", -1e18),
    "a text for a number": _changed("at", "yesterday"),
    "null for a number": _changed("epochs", None, b"trial_ended"),
    "a huge number": _changed("best_epoch", 10**400),
    "another trial": _changed("trial", "9999"),
    "a trial with escapes": _changed("trial", "\x1b[31m[bold]" + "x" * 9999),
    "another key": _changed("key", "0" * 64),
    "another task": _changed("task", "unimodal/nose/arousal"),
    "no task": _changed("task", "/"),
    "another fold": _changed("fold", 99),
    "another seed": _changed("seed", -1),
    "continues": _changed("continues", False),
    "another digest": _changed("digest", "0" * 64),
    "another number of line": _changed("line", 3),
    "another seal": _changed("sum", "0" * 16),
    "no seal": _on_lines(lambda lines, random: [SEALED.sub(b"}", line) for line in lines]),
    "written by another program": _on_lines(_reformatted),
}
JOURNALS: Mapping[str, Damage] = {
    **LOST,
    **MOVED,
    **BETWEEN,
    **NEWER,
    **CHANGED,
    **{f"the journal {name}": _on_journal(damage) for name, damage in CONTENT.items()},
    **{f"the journal is {name}": _on_journal(damage) for name, damage in IN_ITS_PLACE.items()},
    "the journal gone": _on_journal(gone),
}
EARLIER: Mapping[str, Damage] = {
    **LOST, **MOVED, **NEWER,
    "a blank line": BETWEEN["a blank line"],
    "a word": BETWEEN["a word"],
    "carriage returns": BETWEEN["carriage returns"],
    "zeros behind": BETWEEN["zeros behind"],
    "a text for a number": CHANGED["a text for a number"],
    "a time of the far future": CHANGED["a time of the far future"],
    "another trial": CHANGED["another trial"],
    "another task": CHANGED["another task"],
    "another fold": CHANGED["another fold"],
}  # fmt: skip
"""Damages that are found in a journal of format 3, whose lines have no seals."""


def as_earlier_version(place: Place) -> None:
    """Write a journal as version 0.1 did: format 3, and no seals."""
    lines = place.journal.read_bytes().splitlines()
    bare = [SEALED.sub(b"}", line) for line in lines]
    bare[0] = bare[0].replace(b'"format":4', b'"format":3')
    place.journal.write_bytes(b"\n".join(bare) + b"\n")
