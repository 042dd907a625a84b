"""Damages of a study's journal, store and folder, drawn from a seed; and whether a study gets over.

A damage is what a disk, a crash, an editor, a copy that broke off or another version can do. After
each of them, every command must say a sentence or work, and the study must come to the winner that
it has undamaged: by --resume, or by what the sentence says is to be done.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from pipeline.errors import AffectuneError
from pipeline.storage.atomic_folder import MANIFEST, manifest_of
from pipeline.storage.stage_store import CLAIMS, FORMAT_ENTRY
from tests.tuning_tests.in_process import InProcess
from tuning.cli.study import study_app
from tuning.journal.file import JOURNAL

Random = np.random.Generator
SEALED = re.compile(rb',"line":\d+,"sum":"[0-9a-f]{16}"\}$')
KEPT = ("targets", "judgement", "inference", "out_of_fold")
"""Of summary.json: the winner and its scores, without times and counts of fits."""


@dataclass(frozen=True)
class Place:
    """A study's folder `out` and its `store`, beside each other."""

    folder: Path

    @property
    def out(self) -> Path:
        """The study's folder."""
        return self.folder / "out"

    @property
    def store(self) -> Path:
        """Its store."""
        return self.folder / "store"

    @property
    def journal(self) -> Path:
        """Its journal."""
        return self.out / JOURNAL

    def copy(self, folder: Path) -> Place:
        """Copy both to another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Place(folder)


Damage = Callable[[Place, Random], None]


# Lines of the journal


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


# Bytes of any file


def _flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    path.write_bytes(data)


def _cut(path: Path, random: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(random.integers(len(data) + 1))])


def _zeros(path: Path, random: Random) -> None:
    """Set a part of a file to zeros, as a file system does after a power cut."""
    data = bytearray(path.read_bytes())
    first, last = sorted(int(place) for place in random.integers(len(data) + 1, size=2))
    path.write_bytes(data[:first] + bytes(last - first) + data[last:])


def _lost_bytes(path: Path, random: Random) -> None:
    data = path.read_bytes()
    first = int(random.integers(len(data) + 1))
    path.write_bytes(data[:first] + data[first + int(random.integers(1, 200)) :])


def _noise(path: Path, random: Random) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 3000))))


def _empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def _gone(path: Path, random: Random) -> None:
    _remove(path)


def _a_folder(path: Path, random: Random) -> None:
    _remove(path)
    path.mkdir()
    (path / "of somebody").write_text("mine")


def _a_file(path: Path, random: Random) -> None:
    _remove(path)
    path.write_text("in the way")


def _a_pipe(path: Path, random: Random) -> None:
    _remove(path)
    os.mkfifo(path)


def _a_dangling_link(path: Path, random: Random) -> None:
    _remove(path)
    path.symlink_to(path.with_name("nowhere"))


def _text(text: str) -> Callable[[Path, Random], None]:
    return lambda path, random: path.write_bytes(text.encode()) and None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


FileDamage = Callable[[Path, Random], None]
DEEP = "[" * 100_000
CONTENT: Mapping[str, FileDamage] = {
    "a bit flipped": _flip,
    "cut short": _cut,
    "zeros": _zeros,
    "bytes lost": _lost_bytes,
    "noise": _noise,
    "empty": _empty,
    "deep": _text(DEEP),
    "a list": _text("[1, 2]\n"),
    "null": _text("null\n"),
}
IN_ITS_PLACE: Mapping[str, FileDamage] = {
    "a folder": _a_folder,
    "a pipe": _a_pipe,
    "a dangling link": _a_dangling_link,
}


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


# The store


def _entries(place: Place, *, whole: bool = False) -> list[Path]:
    names = sorted(place.store.iterdir())
    return [each for each in names if whole or each.name not in (CLAIMS, FORMAT_ENTRY)]


def _entry(place: Place, random: Random, ending: str = "") -> Path:
    """Draw an entry, or one whose name ends so."""
    entries = [each for each in _entries(place) if each.name.endswith(ending)]
    return entries[int(random.integers(len(entries)))]


def _on_entry_file(damage: FileDamage) -> Damage:
    def on_file(place: Place, random: Random) -> None:
        files = sorted(path for path in _entry(place, random).iterdir() if path.is_file())
        damage(files[int(random.integers(len(files)))], random)

    return on_file


def _on_entry(damage: FileDamage) -> Damage:
    return lambda place, random: damage(_entry(place, random), random)


def _on_many_entries(damage: FileDamage) -> Damage:
    def on_many(place: Place, random: Random) -> None:
        for entry in _entries(place):
            if random.random() < 0.3:
                files = sorted(path for path in entry.iterdir() if path.is_file())
                damage(files[int(random.integers(len(files)))], random)

    return on_many


def _swap_entries(ending: str) -> Damage:
    def swap(place: Place, random: Random) -> None:
        entries = [
            each for each in _entries(place) if re.fullmatch(rf"[0-9a-f]{{64}}{ending}", each.name)
        ]
        one, other = random.choice(len(entries), size=2, replace=False)
        aside = place.store / "aside"
        entries[one].rename(aside)
        entries[other].rename(entries[one])
        aside.rename(entries[other])

    return swap


def _link_to_another(place: Place, random: Random) -> None:
    one, other = _entry(place, random, "held-out"), _entry(place, random, "held-out")
    if one != other:
        shutil.rmtree(one)
        one.symlink_to(other.name)


def _add_file(entry: Path, random: Random) -> None:
    (entry / ".DS_Store").write_bytes(b"\0\1")
    (entry / "weights.safetensors~").write_bytes(b"old")


def _rewrite_journal(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Return the damage of a whole study in the store that another version wrote, consistently."""

    def rewrite(place: Place, random: Random) -> None:
        for entry in place.store.glob("study-*"):
            lines = (entry / JOURNAL).read_bytes().splitlines(keepends=True)
            data = b"".join(change(lines))
            (entry / JOURNAL).write_bytes(data)
            (entry / MANIFEST).write_bytes(manifest_of({JOURNAL: data}))

    return rewrite


def _leftovers(place: Place, random: Random) -> None:
    """Leave what killed processes leave: halves of entries, and claims."""
    name = _entry(place, random).name
    for ending in ("tmp", "old"):
        (place.store / f".{name}.0123.{ending}").mkdir()
        (place.store / f".{name}.0123.{ending}" / "weights.safetensors").write_bytes(b"half")
    (place.store / CLAIMS).mkdir(exist_ok=True)
    (place.store / CLAIMS / name).write_text("4711")
    (place.store / f"{name}-checkpoint").mkdir(exist_ok=True)
    (place.store / "lost+found").mkdir()
    (place.store / ".nfs0001").write_text("")


def _claims_are_a_file(place: Place, random: Random) -> None:
    _a_file(place.store / CLAIMS, random)


def _format(damage: FileDamage) -> Damage:
    return lambda place, random: damage(place.store / FORMAT_ENTRY / "format.json", random)


def _format_entry(damage: FileDamage) -> Damage:
    return lambda place, random: damage(place.store / FORMAT_ENTRY, random)


def _newer_format(place: Place, random: Random) -> None:
    entry = place.store / FORMAT_ENTRY
    (entry / "format.json").write_bytes(b"99")
    (entry / MANIFEST).write_bytes(manifest_of({"format.json": b"99"}))


STORE: Mapping[str, Damage] = {
    **{f"a file {name}": _on_entry_file(damage) for name, damage in CONTENT.items()},
    **{f"a file is {name}": _on_entry_file(damage) for name, damage in IN_ITS_PLACE.items()},
    "a file gone": _on_entry_file(_gone),
    "a file more": _on_entry(_add_file),
    "an entry gone": _on_entry(_gone),
    "an entry is a file": _on_entry(_a_file),
    "an entry is a dangling link": _on_entry(_a_dangling_link),
    "an entry is an empty folder": _on_entry(_a_folder),
    "an entry is a link to another": _link_to_another,
    "bits flipped in many entries": _on_many_entries(_flip),
    "files gone in many entries": _on_many_entries(_gone),
    "stages swapped": _swap_entries(""),
    "outputs swapped": _swap_entries("-held-out"),
    "a newer event in a whole study": _rewrite_journal(
        lambda lines: [*lines, b'{"at":1,"event":"newer"}\n']
    ),
    "a newer field in a whole study": _rewrite_journal(
        lambda lines: [b'{"newer":1,' + line[1:] for line in lines]
    ),
    "a line lost in a whole study": _rewrite_journal(lambda lines: lines[:5] + lines[6:]),
    "no opening in a whole study": _rewrite_journal(lambda lines: lines[1:]),
    "noise in a whole study": _rewrite_journal(lambda lines: [b"\xff\0", *lines]),
    "leftovers": _leftovers,
    "claims are a file": _claims_are_a_file,
    "the format flipped": _format(_flip),
    "the format empty": _format(_empty),
    "the format gone": _format_entry(_gone),
    "the format is a file": _format_entry(_a_file),
    "a newer format of the store": _newer_format,
    "the store gone": lambda place, random: _remove(place.store),
}


# Other files in the study's folder


def _on(name: str, damage: FileDamage) -> Damage:
    def damaged(place: Place, random: Random) -> None:
        path = place.out / name
        if damage in (_flip, _cut, _zeros, _lost_bytes) and not path.is_file():
            path.write_bytes(b'{"uri": "x", "position": 12}')
        damage(path, random)

    return damaged


def _foreign(place: Place, random: Random) -> None:
    for name in ("README.txt", ".DS_Store", "journal.jsonl~", ".nfs000012", "journal.jsonl.torn-0"):
        (place.out / name).write_text("mine")
    (place.out / "nested" / "deep").mkdir(parents=True)
    (place.out / "model (copy)").mkdir()


FOLDER: Mapping[str, Damage] = {
    **{
        f"{name} {kind}": _on(name, damage)
        for name in ("command.json", "tracking.json", "summary.json")
        for kind, damage in {**CONTENT, **IN_ITS_PLACE, "gone": _gone}.items()
    },
    "foreign files": _foreign,
    "the model gone": _on("model", _gone),
    "the model is a file": _on("model", _a_file),
    "a lock that is a folder": _on(".journal.jsonl.lock", _a_folder),
    "a lock that is left": _on(".journal.jsonl.lock", _a_file),
}
JOURNALS: Mapping[str, Damage] = {
    **LOST,
    **MOVED,
    **BETWEEN,
    **NEWER,
    **CHANGED,
    **{f"the journal {name}": _on_journal(damage) for name, damage in CONTENT.items()},
    **{f"the journal is {name}": _on_journal(damage) for name, damage in IN_ITS_PLACE.items()},
    "the journal gone": _on_journal(_gone),
}
DAMAGES: Mapping[str, Damage] = {**JOURNALS, **STORE, **FOLDER}
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


# Whether a study gets over it


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged study.

    Attributes:
        refusals: what was said before it had its winner, in order.
        num_trained: fits that it took then.
        winner: and its scores.
    """

    refusals: tuple[str, ...]
    num_trained: int
    winner: Mapping[str, Any]


def winner_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the winner and its scores."""
    return {name: summary[name] for name in KEPT}


def look(place: Place) -> None:
    """Ask for the status; whatever is wrong, the answer is a table or a sentence."""
    for options in ([], ["--json"]):
        result = CliRunner().invoke(study_app, ["status", str(place.out), *options])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert_sentence(result.exception)


def recover(place: Place, process: InProcess) -> Outcome:
    """Resume a study; where that is refused, do what the sentence says, at most three times."""
    out, store, refusals = place.out, place.store, []
    while True:
        try:
            summary = process.run(out, store)
            break
        except AffectuneError as error:
            assert_sentence(error)
            refusals.append(str(error))
            assert len(refusals) <= 3, refusals
            out, store = _as_advised(str(error), place, out, store)
    assert summary is not None, refusals
    return Outcome(tuple(refusals), len(process.trained), winner_of(summary))


def assert_sentence(error: BaseException) -> None:
    """Check that an error is one line for people, and not a traceback."""
    assert isinstance(error, AffectuneError), repr(error)
    text = str(error)
    assert text.isprintable(), text
    assert text.endswith((".", "?")), text
    assert "Error:" not in text, text
    assert len(text) < 1500, text


def _as_advised(advice: str, place: Place, out: Path, store: Path) -> tuple[Path, Path]:
    """Do what a sentence says; return the study's folder and its store from then on."""
    moved = re.search(r"(?:Move|Remove) '([^']+)'", advice)
    if moved and os.path.lexists(moved[1]):
        Path(moved[1]).rename(place.folder / f"moved-{Path(moved[1]).name}")
        return out, store
    if re.search(r"another --out\b", advice):
        out = place.folder / "another out"
    if re.search(r"another (folder with )?(--)?store|and --store", advice) and "same" not in advice:
        store = place.folder / "another store"
    assert (out, store) != (place.out, place.store), f"No advice: {advice}"
    return out, store
