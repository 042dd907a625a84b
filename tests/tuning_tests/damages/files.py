"""What can happen to any file: bits and bytes of it, or something else in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.tuning_tests.damages.place import Random

FileDamage = Callable[[Path, Random], None]
DEEP = "[" * 100_000


def flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    path.write_bytes(data)


def cut(path: Path, random: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(random.integers(len(data) + 1))])


def zeros(path: Path, random: Random) -> None:
    """Set a part of a file to zeros, as a file system does after a power cut."""
    data = bytearray(path.read_bytes())
    first, last = sorted(int(place) for place in random.integers(len(data) + 1, size=2))
    path.write_bytes(data[:first] + bytes(last - first) + data[last:])


def lost_bytes(path: Path, random: Random) -> None:
    data = path.read_bytes()
    first = int(random.integers(len(data) + 1))
    path.write_bytes(data[:first] + data[first + int(random.integers(1, 200)) :])


def noise(path: Path, random: Random) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 3000))))


def empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def gone(path: Path, random: Random) -> None:
    remove(path)


def a_folder(path: Path, random: Random) -> None:
    remove(path)
    path.mkdir()
    (path / "of somebody").write_text("mine")


def a_file(path: Path, random: Random) -> None:
    remove(path)
    path.write_text("in the way")


def a_pipe(path: Path, random: Random) -> None:
    remove(path)
    os.mkfifo(path)


def a_dangling_link(path: Path, random: Random) -> None:
    remove(path)
    path.symlink_to(path.with_name("nowhere"))


def text(text: str) -> Callable[[Path, Random], None]:
    def write(path: Path, random: Random) -> None:
        path.write_text(text)

    return write


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


CONTENT: Mapping[str, FileDamage] = {
    "a bit flipped": flip,
    "cut short": cut,
    "zeros": zeros,
    "bytes lost": lost_bytes,
    "noise": noise,
    "empty": empty,
    "deep": text(DEEP),
    "a list": text("[1, 2]\n"),
    "null": text("null\n"),
}
IN_ITS_PLACE: Mapping[str, FileDamage] = {
    "a folder": a_folder,
    "a pipe": a_pipe,
    "a dangling link": a_dangling_link,
}
