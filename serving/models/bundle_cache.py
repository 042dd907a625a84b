"""Verified bundles on this machine: the last versions of one registered model.

All replicas on a machine share it. It knows no registry: where files come from is passed to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.atomic_folder import write_folder
from serving.settings import Settings

MAX_VERSIONS = 3
CURRENT = "current.json"
DOWNLOAD = ".download-"
ENTRY = re.compile("[1-9][0-9]{0,17}-[0-9]{1,18}")
"""What the folders of versions are called: version, and time of its making in milliseconds."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine.

    Attributes:
        folder: where it is.
        name, version: of the model.
    """

    folder: Path
    name: str
    version: str


class BundleCache:
    """The last versions of one model.

    Args:
        folder: where they are kept; made when the first one is added.
        name: of the model.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def get(self, version: str, created_ms: int, fetch: Callable[[Path], Path]) -> Bundle:
        """Return a version's bundle; fetch it where it is not kept, or was changed.

        Args:
            version: of the model.
            created_ms: when it was registered. A registry that was made anew counts its versions
                from 1 again, so the number alone does not name a version.
            fetch: writes files into the folder that it is given, and returns the folder of the
                verified bundle among them.

        Raises:
            InputError: the version is no number.
            AffectuneError: the cache cannot be written; or what `fetch` raises.
        """
        folder = self._entry(f"{version}-{created_ms}")
        with self._lock():
            if not _is_intact(folder):
                self._add(folder, fetch)
            self._record_current(version, folder)
            self._remove_oldest(folder)
        return Bundle(folder, self.name, version)

    def last_verified(self) -> Bundle | None:
        """Return what any process on this machine got last; None where it is gone or changed."""
        try:
            current = json.loads((self.folder / CURRENT).read_text(encoding="utf-8"))
            version, folder = str(current["version"]), self._entry(str(current["folder"]))
        except (OSError, ValueError, KeyError, TypeError, InputError):
            return None
        return Bundle(folder, self.name, version) if _is_intact(folder) else None

    def _entry(self, name: str) -> Path:
        """Return the folder of an entry: the one place where a name becomes a path of the cache.

        Raises:
            InputError: no entry is called so.
        """
        if not ENTRY.fullmatch(name):
            raise InputError(f"{name!a} is no version of a model with the time of its making.")
        return self.folder / name

    def _add(self, folder: Path, fetch: Callable[[Path], Path]) -> None:
        from pipeline.model.bundle import read_bundle  # here, because importing torch takes seconds

        _remove(folder)
        for left in self.folder.glob(f"{DOWNLOAD}*"):
            _remove(left)  # of a process that was killed: whoever has the lock is alone
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=DOWNLOAD) as temporary:
            files = read_bundle(fetch(Path(temporary)))
            write_folder(folder, files)

    def _record_current(self, version: str, folder: Path) -> None:
        record = {"version": version, "folder": folder.name}
        write_atomically(self.folder / CURRENT, json.dumps(record))

    def _remove_oldest(self, current: Path) -> None:
        """Keep the current version, and those before it that were written last."""
        others = [
            path for path in self.folder.iterdir() if ENTRY.fullmatch(path.name) and path != current
        ]
        others.sort(key=lambda path: path.lstat().st_mtime)
        for oldest in others[: -(MAX_VERSIONS - 1)]:
            _remove(oldest)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one replica fetch and test a version; the others then find it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise AffectuneError(
                f"The cache '{self.folder}' cannot be used: {error.strerror}. Set another."
            ) from error


def cache_folder(settings: Settings) -> Path:
    """Return where verified bundles of all models are kept."""
    if settings.cache is not None:
        return settings.cache

    root = os.environ.get("AFFECTUNE_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "affectune") / "served"


def _remove(entry: Path) -> None:
    """Remove an entry; where it is a link, the link alone."""
    if entry.is_symlink():
        entry.unlink()
    else:
        shutil.rmtree(entry, ignore_errors=True)


def _is_intact(folder: Path) -> bool:
    """Whether a bundle is there and no file of it was changed."""
    from pipeline.model.bundle import read_bundle

    try:
        read_bundle(folder)
    except InputError:
        return False
    return True
