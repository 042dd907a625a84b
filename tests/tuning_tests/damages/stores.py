"""Damages of a store: of its entries, its format, its whole studies, and what is left in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.storage.atomic_folder import MANIFEST, manifest_of
from pipeline.storage.folder_store import CLAIMS
from pipeline.storage.stage_store import FORMAT_ENTRY
from tests.tuning_tests.damages.files import (
    CONTENT,
    IN_ITS_PLACE,
    FileDamage,
    a_dangling_link,
    a_file,
    a_folder,
    empty,
    flip,
    gone,
    remove,
)
from tests.tuning_tests.damages.place import Damage, Place, Random
from tuning.journal.file import JOURNAL
from tuning.publication.head import STUDIES


def _entries(place: Place, *, whole: bool = False) -> list[Path]:
    names = sorted(place.store.iterdir())
    return [each for each in names if whole or each.name not in (CLAIMS, FORMAT_ENTRY, STUDIES)]


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


def _on_published_file(damage: FileDamage) -> Damage:
    """Return the damage of a file of what is published of a study."""

    def on_file(place: Place, random: Random) -> None:
        files = sorted(path for path in (place.store / STUDIES).rglob("*") if path.is_file())
        damage(files[int(random.integers(len(files)))], random)

    return on_file


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
    a_file(place.store / CLAIMS, random)


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
    "a file gone": _on_entry_file(gone),
    "a file more": _on_entry(_add_file),
    "an entry gone": _on_entry(gone),
    "an entry is a file": _on_entry(a_file),
    "an entry is a dangling link": _on_entry(a_dangling_link),
    "an entry is an empty folder": _on_entry(a_folder),
    "an entry is a link to another": _link_to_another,
    "bits flipped in many entries": _on_many_entries(flip),
    "files gone in many entries": _on_many_entries(gone),
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
    "a published file flipped": _on_published_file(flip),
    "a published file gone": _on_published_file(gone),
    "what is published gone": lambda place, random: remove(place.store / STUDIES),
    "leftovers": _leftovers,
    "claims are a file": _claims_are_a_file,
    "the format flipped": _format(flip),
    "the format empty": _format(empty),
    "the format gone": _format_entry(gone),
    "the format is a file": _format_entry(a_file),
    "a newer format of the store": _newer_format,
    "the store gone": lambda place, random: remove(place.store),
}
