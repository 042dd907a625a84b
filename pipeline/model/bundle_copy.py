"""Copies a bundle here, file by file, within bounds of number and size. Knows no place.

No list of what is there is followed: a bundle's files are asked for one by one, by the names in its
manifest, which are checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import InputError
from pipeline.model.bundle_limits import MAX_FILES
from pipeline.names import mistake_in_file_name
from pipeline.storage.atomic_folder import MANIFEST
from pipeline.storage.object_store import Objects

MAX_BYTES = 2**30
"""Of a whole bundle; that of the paper's model with five folds and ten seeds has a twentieth."""
MAX_MANIFEST_BYTES = 2**16

Fetch = Callable[[str, Path, int], None]
"""Copies the file of a name to a path; of more than so many bytes it copies none, or fewer."""


def copy_bundle(fetch: Fetch, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Fetch a bundle's manifest, and the files that it names; whoever reads them verifies them.

    Args:
        fetch: copies one file.
        folder: is there, and empty.
        max_bytes: of all files together.

    Raises:
        InputError: it is no bundle that a study writes: too large, or with too many files.
    """
    manifest = folder / MANIFEST
    fetch(MANIFEST, manifest, min(MAX_MANIFEST_BYTES, max_bytes))
    left = max_bytes - manifest.stat().st_size
    for name in _names(manifest):
        path = folder / name
        try:
            fetch(name, path, left)
        except FileNotFoundError:
            continue  # whoever reads the bundle says that it is missing
        except Exception:  # stores have errors of their own for a file that cannot be written
            if path.is_file() and path.stat().st_size >= left:
                raise too_large(max_bytes) from None
            raise
        left -= path.stat().st_size


def copy_from(objects: Objects, prefix: str, folder: Path) -> None:
    """Copy a bundle out of a store.

    Args:
        objects: of the store.
        prefix: what the names of the bundle's files begin with there.
        folder: is there, and empty.

    Raises:
        FileNotFoundError: there is no manifest.
        InputError: it is no bundle that a study writes.
        SurroundingsError: the store does not let it be read.
    """

    def fetch(name: str, path: Path, max_bytes: int) -> None:
        data = objects.read(f"{prefix}{name}", max_bytes=max_bytes)
        if data is None:
            raise FileNotFoundError(name)
        path.write_bytes(data)

    copy_bundle(fetch, folder)


def too_large(max_bytes: int) -> InputError:
    """Return what is wrong with a bundle of more bytes."""
    return InputError(f"it is larger than a bundle may be, which is {max_bytes} bytes")


def _names(manifest: Path) -> list[str]:
    """Return the names of the files in a manifest, checked: each is one beside the manifest."""
    try:
        names = list(dict(json.loads(manifest.read_bytes())))
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{MANIFEST} is damaged") from None

    for name in names:
        if name == MANIFEST or (mistake := mistake_in_file_name(name)):
            what = "is itself" if name == MANIFEST else mistake
            raise InputError(f"{MANIFEST} names the file {name!a}, and that name {what}")
    if len(names) > MAX_FILES:
        raise InputError(f"{MANIFEST} names {len(names)} files, and a bundle has {MAX_FILES}")
    return names
