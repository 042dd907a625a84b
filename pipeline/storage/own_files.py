"""Files in a folder of a person's: only those are replaced that were written here before.

A hidden list in the folder keeps what was written, with its hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_file import write_atomically

LIST = ".affectune-files.json"
"""name -> the hashes that its content may have: before and after it was written last."""


def raise_if_others(folder: Path, names: Iterable[str], option: str) -> None:
    """Refuse to write files where something else is, before they are computed.

    Args:
        folder: of the files; it need not be there.
        names: paths of the files from the folder.
        option: by which the folder was named.

    Raises:
        InputError: one of them is there, and was not written by `write_own_files` as it is now; or
            the way to it leaves the folder by a link.
    """
    if foreign := _foreign(folder, names):
        raise InputError(
            f"{option} '{folder}' holds '{foreign}', which was not written here, or was changed "
            f"since. Choose another {option}, or move it away."
        )


def write_own_files(
    folder: Path, files: Mapping[str, bytes | str], *, has_name_of_its_own: bool = False
) -> None:
    """Write files, in subfolders where their names have one; replace those that were written here.

    Args:
        folder: is made where it is not there.
        files: path from the folder -> content.
        has_name_of_its_own: no person named the folder, so that whatever is there was written here,
            if by a version that kept no list.

    Raises:
        AffectuneError: one cannot be written, or something else came into its place meanwhile.
    """
    contents = {
        name: content.encode() if isinstance(content, str) else content
        for name, content in files.items()
    }
    known = _read_list(folder)
    for name, content in contents.items():
        before = {_hash(folder / name)} & set(known.get(name, ()))
        known[name] = sorted({*before, hashlib.sha256(content).hexdigest()})

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for parent in {(folder / name).parent for name in files}:
            parent.mkdir(exist_ok=True)
    except OSError as error:
        raise AffectuneError(
            f"Cannot make the folder '{error.filename}': {error.strerror}. Choose another one."
        ) from error
    if not has_name_of_its_own and (foreign := _foreign(folder, files)):
        raise AffectuneError(
            f"'{folder / foreign}' was written by another program meanwhile, and is left as it is. "
            "Choose another folder."
        )
    # First the list: killed in between, this process can write the same files again.
    write_atomically(folder / LIST, json.dumps(known, indent=1))
    for name, content in contents.items():
        write_atomically(folder / name, content)


def _foreign(folder: Path, names: Iterable[str]) -> str | None:
    """Return the first of some files that would replace what was not written here."""
    known = _read_list(folder)
    for name in names:
        path = folder / name
        way = [path, *(parent for parent in path.parents if parent.is_relative_to(folder))]
        if any(each.is_symlink() for each in way if each != folder):
            return name
        if path.exists() and _hash(path) not in known.get(name, ()):
            return name
    return None


def _read_list(folder: Path) -> dict[str, list[str]]:
    try:
        listed = json.loads((folder / LIST).read_bytes())
        return {str(name): [str(each) for each in hashes] for name, hashes in listed.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _hash(path: Path) -> str:
    """Return the hash of a plain file; "" where there is none, or something else."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError:
        return ""
