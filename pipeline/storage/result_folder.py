"""The folder of a result, which took hours: written whole, and never in the place of another's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_folder import MANIFEST, MODEL, manifest_of, read_folder, write_folder

Files = Mapping[str, bytes]


def what_is_in_the_way(folder: Path, is_own: Callable[[Files], bool]) -> str | None:
    """Say why a folder may not be replaced.

    Args:
        folder: need not be there.
        is_own: whether a bundle, by its files, may be replaced.

    Returns:
        What it does, such as "is a file"; None where there is nothing, or a bundle of one's own.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return "is a link" if folder.is_symlink() else "is a file"
    if not _has_content(folder):
        return None

    try:
        files = read_folder(folder)
    except InputError:
        files = {}
    if MODEL not in files:
        return "is not a model bundle"
    if foreign := sorted({path.name for path in folder.iterdir()} - set(files) - {MANIFEST}):
        return f"holds {foreign[0]!r}, too"
    return None if is_own(files) else "is the bundle of another model"


def write_result(folder: Path, files: Files, is_own: Callable[[Files], bool]) -> None:
    """Write a bundle; where something else came into its place meanwhile, beside that.

    Args:
        folder: of the bundle.
        files: name -> content.
        is_own: see `what_is_in_the_way`.

    Raises:
        AffectuneError: it cannot be written, or was written beside the folder, which is as it was;
            it says where.
    """
    is_new = not _has_content(folder)
    cause = what_is_in_the_way(folder, is_own)
    if cause is None:
        write_folder(folder, files, keeps_existing=is_new)
        if not is_new or _holds(folder, files):
            return
        cause = "was made by another program just now"
    raise AffectuneError(kept_beside(folder, files, f"'{folder}' {cause}"))


def kept_beside(folder: Path, files: Files, cause: str) -> str:
    """Write a bundle beside a folder that may not be replaced; return what to tell a person.

    Raises:
        AffectuneError: it cannot be written.
    """
    digest = hashlib.sha256(manifest_of(files)).hexdigest()[:8]
    place = folder.with_name(f"{folder.name}-{digest}")
    write_folder(place, files, keeps_existing=True)
    return f"{cause}, so it is left as it is. The model is kept as '{place}'."


def _has_content(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _holds(folder: Path, files: Files) -> bool:
    try:
        return read_folder(folder) == files
    except InputError:
        return False
