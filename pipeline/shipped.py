"""Settings files that are installed with the packages: found by name, wherever they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath

from pipeline.errors import InputError

SUFFIX = ".toml"


@dataclass(frozen=True)
class ShippedFiles:
    """The files of one kind that a package brings along.

    Attributes:
        kind: what a file holds, such as "study", for the messages.
        package: that brings them.
        folder: in that package.
    """

    kind: str
    package: str
    folder: str

    def names(self) -> list[str]:
        """Return the names of the files, without their suffix, sorted."""
        names = (PurePath(entry.name) for entry in self._folder().iterdir())
        return sorted(name.stem for name in names if name.suffix == SUFFIX)

    def path(self, name: str) -> Path:
        """Return where a shipped file lies.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.names():
            shipped = f"Shipped: {', '.join(self.names())}."
            raise InputError(
                f"There is no shipped {self.kind} '{name}'. {shipped}{self._nearest(name)}"
            )
        return Path(str(self._folder() / f"{name}{SUFFIX}"))

    def find(self, given: str) -> Path:
        """Return the file that a person means: a shipped one by its name, or one of their own.

        A name without suffix and slash that is shipped means the shipped file; all else is a path.

        Raises:
            InputError: there is no such file.
        """
        if given in self.names():
            return self.path(given)

        path = Path(given)
        if not path.exists():
            raise InputError(f"There is no {self.kind} '{given}'. {self._advice(given)}")
        return path

    def describe(self, given: str) -> str:
        """Say in words which file `find` takes, and which it does not where both are there."""
        if given not in self.names():
            return f"the {self.kind} '{given}'"

        words = f"the shipped {self.kind} '{given}'"
        if Path(given).is_file():
            words += f" (not the file '{given}' of this folder: write ./{given} for that)"
        elif Path(f"{given}{SUFFIX}").is_file():
            words += f" (not the file of this folder: write {given}{SUFFIX} for that)"
        return words

    def about(self, name: str) -> str:
        """Return the first sentence of the comment that a shipped file begins with."""
        comment = []
        for line in self.path(name).read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            comment.append(line.removeprefix("#").strip())
        return re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(comment), maxsplit=1)[0]

    def complete(self, incomplete: str) -> list[str | tuple[str, str]]:
        """Return what completes a word: shipped names with a line on each, TOML files, folders."""
        return [*self.complete_name(incomplete), *_complete_path(incomplete)]

    def complete_name(self, incomplete: str) -> list[tuple[str, str]]:
        """Return the shipped names that complete a word, with a line on each."""
        return [(name, self.about(name)) for name in self.names() if name.startswith(incomplete)]

    def _advice(self, given: str) -> str:
        """Name what there is, and what is nearest to what was given."""
        own_file = Path(f"{given}{SUFFIX}")
        advice = f"Shipped: {', '.join(self.names())}; all else is the path of a TOML file."
        if own_file.is_file():
            return f"{advice} Did you mean '{own_file}'?"
        return f"{advice}{self._nearest(given)}"

    def _nearest(self, given: str) -> str:
        """Return which shipped name may have been meant, with a space before it."""
        typed = PurePath(given).name.removesuffix(SUFFIX).lower()
        near = get_close_matches(typed, self.names(), n=1)
        return f" Did you mean '{near[0]}'?" if near else ""

    def _folder(self) -> Traversable:
        return resources.files(self.package) / self.folder


def _complete_path(incomplete: str) -> Iterator[str]:
    """Yield TOML files, and folders on the way to one, that begin with what was typed."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") or not incomplete else typed.parent
    if not folder.is_dir():
        return

    for path in sorted(folder.iterdir()):
        text = f"{path}/" if path.is_dir() else str(path)
        if text.startswith(incomplete) and (path.is_dir() or path.suffix == SUFFIX):
            yield text


SPECS = ShippedFiles("spec", "pipeline", "specs")
