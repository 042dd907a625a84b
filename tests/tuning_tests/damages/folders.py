"""Damages of the other files in a study's folder, and files of others there."""

from __future__ import annotations

from collections.abc import Mapping

from tests.tuning_tests.damages.files import (
    CONTENT,
    IN_ITS_PLACE,
    FileDamage,
    a_file,
    a_folder,
    cut,
    flip,
    gone,
    lost_bytes,
    zeros,
)
from tests.tuning_tests.damages.place import Damage, Place, Random


def _on(name: str, damage: FileDamage) -> Damage:
    def damaged(place: Place, random: Random) -> None:
        path = place.out / name
        if damage in (flip, cut, zeros, lost_bytes) and not path.is_file():
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
        for kind, damage in {**CONTENT, **IN_ITS_PLACE, "gone": gone}.items()
    },
    "foreign files": _foreign,
    "the model gone": _on("model", gone),
    "the model is a file": _on("model", a_file),
    "a lock that is a folder": _on(".journal.jsonl.lock", a_folder),
    "a lock that is left": _on(".journal.jsonl.lock", a_file),
}
