"""A folder that is complete or not there: written atomically, and verified on reading."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import AffectuneError, InputError

MANIFEST = "manifest.json"
MODEL = "model.json"
"""What makes such a folder a fused model's bundle."""
REPLACE_ATTEMPTS = 100
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
    try:
        expected = dict(json.loads(manifest))
        names = set(expected)
    except (ValueError, TypeError) as error:
        raise InputError(f"'{where}': {MANIFEST} is damaged. Write the folder anew.") from error
    for name in sorted(names):
        if name not in files:
            raise InputError(f"'{where}': {name} is missing. Write the folder anew.")
        if hashlib.sha256(files[name]).hexdigest() != expected[name]:
            raise InputError(
                f"'{where}': {name} was changed after it was written (sha256 differs), "
                "and is refused."
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
        raise AffectuneError(
            f"Cannot write '{folder}': {error.strerror}. What was there is as it was."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read the files that the manifest names, verified.

    Raises:
        InputError: no manifest, a file missing or changed.
    """
    try:
        manifest = (folder / MANIFEST).read_bytes()
        names = [name for name in dict(json.loads(manifest)) if "/" not in name]
    except (OSError, ValueError, TypeError) as error:
        what = f"has no readable {MANIFEST}" if folder.exists() else "is not there"
        raise InputError(
            f"'{folder}' {what}: it is not a complete bundle. Give the folder that "
            "`affectune train --out` wrote, or models:/<name>@<alias>."
        ) from error
    try:
        files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    except OSError as error:
        raise InputError(f"Cannot read '{folder}': {error.strerror}.") from error
    verify(str(folder), files, manifest)
    return files


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
