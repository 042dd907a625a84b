"""The folder of a corpus as imports add to it: staged beside it, then moved into place together."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pipeline.data.layout import FEATURES, LABELS
from pipeline.errors import AffectuneError, InputError
from pipeline.names import mistake_in_file_name, mistake_in_label
from pipeline.storage.atomic_folder import remove_leftovers
from pipeline.storage.surroundings import failure

LOCK_TIMEOUT_S = 600.0
"""An import waits so long for another one into the same folder."""


class CorpusFolder:
    """A corpus that is being added to.

    Files are written to a hidden folder beside it, and moved when all of them are there. What goes
    wrong before leaves the corpus as it was; what goes wrong while they are moved is undone.

    Args:
        root: the corpus; it need not exist.
        overwrite: whether files that are there may be replaced.
    """

    def __init__(self, root: Path, *, overwrite: bool) -> None:
        self.root = root.resolve()
        self.overwrite = overwrite
        self._staging = self.root.with_name(f".{self.root.name}.{uuid.uuid4().hex}.tmp")
        self._staged: list[str] = []

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Hold the corpus for one import, and leave nothing behind but what was committed.

        Raises:
            InputError: it is no folder of a corpus, or cannot be written.
            AffectuneError: another import does not end.
        """
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root} is a file. Name a folder for the corpus.")
        if self.root.is_dir() and any(self.root.iterdir()) and not self._is_corpus():
            raise InputError(
                f"{self.root} is a folder, but no corpus: it has neither {FEATURES}, {LABELS} nor "
                "metadata. Name a new folder, or the corpus to add to."
            )
        lock = FileLock(self.root.with_name(f".{self.root.name}.import.lock"))
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_TIMEOUT_S)
            remove_leftovers(self.root.parent, lambda name: name == self.root.name)
            self._staging.mkdir()
        except Timeout:
            raise AffectuneError(f"Another import into {self.root} does not end.") from None
        except OSError as error:
            raise InputError(
                f"{self.root} cannot be written: {error.strerror}. Name another folder."
            ) from None

        try:
            yield
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
            lock.release()

    def _is_corpus(self) -> bool:
        return any((self.root / name).is_dir() for name in (FEATURES, LABELS, "metadata"))

    def has(self, name: str) -> bool:
        """Return whether the corpus has a file, or is about to have it."""
        return name in self._staged or (self.root / name).is_file()

    def read(self, name: str) -> bytes | None:
        """Return the content of a file of the corpus; None where there is none."""
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def header_of(self, feature_set: str) -> tuple[str, ...] | None:
        """Return the columns of the first file of a feature set; None where there is none."""
        for folder in (self._staging, self.root):
            files = sorted((folder / FEATURES / feature_set).glob("*.csv"))
            if files:
                with files[0].open(encoding="utf-8-sig", newline="") as file:
                    return tuple(next(csv.reader(file), []))
        return None

    def names_of_sessions(self, feature_set: str) -> list[str]:
        """Return the sessions that have a file in a feature set, staged or in the corpus."""
        names: set[str] = set()
        for folder in (self._staging, self.root):
            names |= {file.stem for file in (folder / FEATURES / feature_set).glob("*.csv")}
        return sorted(names)

    def sessions_in(self, kind: str) -> set[str]:
        """Return the sessions that have a file in any feature set, or in any target."""
        files = [
            file for root in (self._staging, self.root) for file in (root / kind).glob("*/*.csv")
        ]
        return {file.stem for file in files}

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the folders in one, of the corpus and of what is staged."""
        names: set[str] = set()
        for parent in (self.root / folder, self._staging / folder):
            if parent.is_dir():
                names |= {path.name for path in parent.iterdir() if path.is_dir()}
        return sorted(names)

    def raise_if_there(self, name: str) -> None:
        """Raise where a file would be replaced without leave.

        Raises:
            InputError: the file is there, or two files of the source would be written to it.
        """
        if name in self._staged:
            raise InputError(
                f"Two files or recordings of the source would both be {name}. Name the sessions "
                "or sets apart: --pattern, or one import for each with --session or --set."
            )
        if (self.root / name).is_file() and not self.overwrite:
            raise InputError(
                f"{self.root} has {name} already. Pass --overwrite to replace it, or import under "
                "another name."
            )

    def stage_table(
        self, name: str, header: Sequence[str], columns: Sequence[NDArray[np.generic]]
    ) -> None:
        """Write a table of numbers to the staging folder; NaN becomes an empty cell."""
        table = pa.table(
            [pa.array(column, from_pandas=True) for column in columns],
            names=[str(index) for index in range(len(columns))],
        )
        with self._writing(name) as path, path.open("wb") as file:
            file.write(format_rows([header]).encode())
            pyarrow.csv.write_csv(table, file, pyarrow.csv.WriteOptions(include_header=False))

    def stage_text(self, name: str, text: str) -> None:
        """Write a text to the staging folder."""
        with self._writing(name) as path:
            path.write_text(text, encoding="utf-8", newline="")

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """Yield where a file is staged.

        Raises:
            AffectuneError: it cannot be written, such as on a full disk.
        """
        path = self._staging / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
        except OSError as error:
            cause = error.strerror or error
            raise failure(f"Cannot write {self.root}: {cause}. It is as it was.", error) from error
        self._staged.append(name)

    def commit(self) -> None:
        """Move what is staged into the corpus: metadata last, since it lists the rest.

        Raises:
            AffectuneError: it cannot be moved; the corpus is as it was.
        """
        moved: list[tuple[Path, Path | None]] = []
        kept = self._staging / ".replaced"
        try:
            if not self.root.exists():
                os.rename(self._staging, self.root)
                return

            for name in sorted(self._staged, key=lambda name: name.startswith("metadata/")):
                path, backup = self.root / name, None
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    backup = kept / name
                    backup.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, backup)
                os.replace(self._staging / name, path)
                moved.append((path, backup))
        except BaseException as error:
            for path, backup in reversed(moved):
                if backup is None:
                    path.unlink(missing_ok=True)
                else:
                    os.replace(backup, path)
            if isinstance(error, OSError):
                message = f"Cannot write {self.root}: {error.strerror}. It is as it was."
                raise failure(message, error) from error
            raise


def format_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def raise_unless_name(name: str, kind: Literal["session", "feature set", "target"]) -> None:
    """Raise where a session, feature set or target could not be called so when it is trained on.

    Raises:
        InputError: the name has a mistake (see `pipeline.names`).
    """
    mistake = mistake_in_file_name(name) if kind == "session" else mistake_in_label(name)
    if mistake:
        option = {"session": "--session", "feature set": "--set", "target": "--target"}[kind]
        raise InputError(
            f"{name!r} cannot be the name of a {kind}: it {mistake}. Name it with {option}."
        )
