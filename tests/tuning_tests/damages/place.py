"""A study and its store, side by side, to be damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuning.journal.file import JOURNAL

Random = np.random.Generator


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
