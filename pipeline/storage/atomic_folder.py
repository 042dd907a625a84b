"""A folder that is complete or not there: written atomically, and verified on reading."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import InputError
from pipeline.storage.plain_file import read_plain_file
from pipeline.storage.strict_json import parse_json
from pipeline.storage.surroundings import failure

MANIFEST = "manifest.json"
MODEL = "model.json"
"""What makes such a folder a fused model's bundle."""
MAX_MANIFEST_BYTES = 2**20
"""Some 10,000 files."""
MAX_FILE_BYTES = 8 * 2**30
"""Of what `read_folder` takes into memory: four times the largest network that a spec can ask for
on 8192 columns with 1024 units per layer."""
REPLACE_ATTEMPTS = 100
LEFTOVER = re.compile(r"\.((?P<name>.*)\.)?[0-9a-f]{32}\.(tmp|old)", re.DOTALL)
"""The temporary names of this module and of `atomic_file`."""
MAX_START_BYTES = 100
"""Of a folder's name, in the name of a temporary one beside it."""


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """The manifest: the sha256 of every file, as JSON."""
    return json.dumps(
        {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}, indent=1
    ).encode()


def verify(where: str, files: Mapping[str, bytes], manifest: bytes) -> None:
    """Check files against their manifest.

    Raises:
        InputError: a hash differs, or a file is missing.
    """
    for name, digest in sorted(_digests(where, manifest).items()):
        if name not in files:
            raise _missing(where, name)
        _raise_if_changed(where, name, files[name], digest)


def _digests(where: str, manifest: bytes) -> dict[str, str]:
    """Return file -> its sha256, in hexadecimal digits."""
    try:
        digests = parse_json(manifest)
    except ValueError:
        digests = None
    if not isinstance(digests, dict):
        raise InputError(f"'{where}': {MANIFEST} is damaged. Write the folder anew.")

    for name, digest in digests.items():
        if not name.isprintable() or "/" in name or name in ("", ".", "..", MANIFEST):
            raise InputError(
                f"'{where}': {MANIFEST} names {name[:100]!r}, which is no file of the folder."
            )
        if not isinstance(digest, str):
            raise InputError(f"'{where}': {MANIFEST} has no sha256 of {name!r}.")
    return digests


def _missing(where: str, name: str) -> InputError:
    return InputError(f"'{where}': {name} is missing. Write the folder anew.")


def _raise_if_changed(where: str, name: str, data: bytes, digest: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(
            f"'{where}': {name} was changed after it was written (sha256 differs), and is refused."
        )


def write_folder(folder: Path, files: Mapping[str, bytes], *, keeps_existing: bool = False) -> None:
    """Write a folder in one step; one that is there already is replaced whole.

    Killed in the instant between the two renames of a replacement, it leaves the old folder as
    `.<name>.*.old`.

    Args:
        folder: to write.
        files: name -> content.
        keeps_existing: leave a folder that is there already as it is. Then no reader ever misses
            it, as it might between the two renames.

    Raises:
        AffectuneError: it cannot be written; what was there is intact.
    """
    temporary = _beside(folder, "tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in [*files.items(), (MANIFEST, manifest_of(files))]:
            with open(temporary / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(temporary)
        if keeps_existing:
            _rename_unless_there(temporary, folder)
        else:
            _replace(temporary, folder)
    except OSError as error:
        message = f"Cannot write '{folder}': {error.strerror}. What was there is as it was."
        raise failure(message, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class VerifiedFolder:
    """The files of a folder by its manifest: each is read once, and is what the manifest says.

    Args:
        folder: with a manifest.

    Raises:
        InputError: there is no manifest, or it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            manifest = read_plain_file(folder / MANIFEST, MAX_MANIFEST_BYTES)
        except (OSError, ValueError) as error:  # a name may be too long, or none that a file has
            what = f"has no readable {MANIFEST}" if _exists(folder) else "is not there"
            raise InputError(
                f"'{folder}' {what}: it is not a complete bundle. Give the folder that "
                "`affectune train --out` wrote, or models:/<name>@<alias>."
            ) from error
        self._digests = _digests(str(folder), manifest)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its files, in order."""
        return tuple(sorted(self._digests))

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Read a file, verified.

        Raises:
            InputError: the manifest does not name it, it is missing, no plain file, too long, or it
                was changed.
        """
        try:
            data = read_plain_file(self.folder / name, max_bytes)
        except FileNotFoundError as error:
            raise _missing(str(self.folder), name) from error
        except OSError as error:
            raise InputError(f"Cannot read '{self.folder / name}': {error.strerror}.") from error

        digest = self._digests.get(name)
        if digest is None:
            raise InputError(f"'{self.folder}': {MANIFEST} does not name {name}.")
        _raise_if_changed(str(self.folder), name, data, digest)
        return data


def _exists(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:  # its name is longer than any can be
        return False


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read the files that the manifest names, verified.

    Raises:
        InputError: no manifest, a file missing, changed, or no plain file.
    """
    verified = VerifiedFolder(folder)
    return {name: verified.read(name) for name in verified.names}


def remove_leftovers(parent: Path, is_ours: Callable[[str], bool] = lambda name: True) -> None:
    """Remove what killed processes left in a folder of what they were writing to it.

    Args:
        parent: nobody else writes there, or to what is ours in it.
        is_ours: takes the name that a folder was to get, cut as temporary names are; files written
            atomically have none ("").
    """
    for path in parent.glob(".*"):
        if (match := LEFTOVER.fullmatch(path.name)) and is_ours(match["name"] or ""):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def remove(path: Path) -> None:
    """Remove a folder, or a file or link in its place, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _beside(folder: Path, ending: str) -> Path:
    """Return a new hidden name beside a folder, whose own name may be as long as names can be."""
    start = os.fsdecode(os.fsencode(folder.name)[:MAX_START_BYTES])
    return folder.with_name(f".{start}.{uuid.uuid4().hex}.{ending}")


def _rename_unless_there(temporary: Path, folder: Path) -> None:
    """Rename into place; the folder of another writer, who was faster, stays."""
    try:
        os.rename(temporary, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    _sync(folder.parent)


def _replace(temporary: Path, folder: Path) -> None:
    """Rename into place. Of several writers of one folder the last one stays."""
    retired = _beside(folder, "old")
    for attempt in range(REPLACE_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, retired)
        try:
            os.rename(temporary, folder)
            break
        except OSError as error:
            # Another writer came between the two renames: the next attempt retires its folder.
            if (
                error.errno not in (errno.ENOTEMPTY, errno.EEXIST)
                or attempt + 1 == REPLACE_ATTEMPTS
            ):
                if retired.exists() and not folder.exists():
                    os.rename(retired, folder)
                raise
        finally:
            remove(retired)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
