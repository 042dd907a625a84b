"""Where a study writes: whether it can, how much room there is, whether paths are short enough."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline import networks
from pipeline.doctor.finding import Finding
from pipeline.local_ray.session import FOLDER, bases, is_open, longest_base
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.surroundings import mend_of

MB, GB = 2**20, 2**30
FULL_BYTES, SCARCE_BYTES = 200 * MB, 2 * GB
"""Below the first a study cannot end, below the second a larger one may not."""
FEW_INODES = 5000
FULL_SHARE = 0.95
"""Ray takes no more objects onto a disk that is fuller."""
ROOM = "Make room there, or choose another place"


def check_disks(places: Mapping[str, Path]) -> Iterator[Finding]:
    """Look whether folders can be written, and how much room is there; leave nothing.

    Args:
        places: what a folder is for -> the folder, which need not be there.
    """
    seen: dict[int, str] = {}
    for use, folder in places.items():
        try:
            prove_writable(folder)
        except OSError as error:
            said = f"{use}: '{folder}' cannot be written ('{error.filename}': {error.strerror})"
            mend = f"{mend_of(error) or 'Correct it'}, or choose another folder"
            yield Finding("disk", "error", said, mend)
            continue
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        device = there.stat().st_dev
        if device in seen:
            continue
        seen[device] = use
        yield room_finding(use, there)


def room_finding(use: str, folder: Path) -> Finding:
    """Return how much room is on the disk of a folder that is there."""
    disk, table = shutil.disk_usage(folder), os.statvfs(folder)
    said = f"{use}: '{folder}' has {disk.free / GB:.1f} GB free of {disk.total / GB:.1f}"
    if table.f_files and table.f_favail < FEW_INODES:
        return Finding("disk", "error", f"{said}, and {table.f_favail} files may be made", ROOM)
    if disk.free < FULL_BYTES:
        return Finding("disk", "error", said, ROOM)
    if disk.free < SCARCE_BYTES:
        return Finding("disk", "warning", said, ROOM)
    return Finding("disk", "ok", said)


def check_ray_folder() -> Iterator[Finding]:
    """Look for a folder in which a Ray of this machine can have its sockets."""
    longest, reasons, usable = longest_base(), [], []
    for base in bases():
        reason = folder_fault(base, longest)
        if reason is None:
            usable.append(base)
        else:
            reasons.append(f"'{base}': {reason}")
    mend = f"Set {FOLDER} to a folder of yours whose path has at most {longest} characters"
    if not usable:
        said = f"Ray has no folder for its sockets and logs: {'; '.join(reasons)}"
        yield Finding("Ray's folder", "error", said, mend)
        return

    place = min(usable, key=is_open)
    if is_open(place):
        said = f"every user may put a folder in the place of Ray's in '{place}'"
        yield Finding("Ray's folder", "warning", said, f"`chmod +t {place}`, or: {mend}")
    else:
        yield Finding("Ray's folder", "ok", f"Ray's sockets fit into '{place}'")
    if _used_share(place) > FULL_SHARE:
        said = f"the disk of '{place}' is fuller than {FULL_SHARE:.0%}: Ray puts no objects there"
        yield Finding("Ray's folder", "warning", said, f"Make room there. Or: {mend}")


def folder_fault(base: Path, longest: int) -> str | None:
    """Return why a folder cannot have Ray's sockets; None where it can.

    Args:
        base: the folder.
        longest: so many characters its path may have.
    """
    length = len(os.fsencode(base))
    if length > longest:
        return f"its path has {length} characters, and a socket's would be too long"
    try:
        with tempfile.TemporaryDirectory(dir=base):
            return None
    except OSError as error:
        return error.strerror or str(error)


def check_home() -> Iterator[Finding]:
    """Look whether what is kept between runs can be kept: Ray's token, compiled code, models."""
    try:
        home = Path.home()
        prove_writable(home)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        said = f"the home folder cannot be written ({reason}): Ray's token is made anew each time"
        mend = "Set HOME to a folder of yours that can be written"
        yield Finding("home", "warning", said, mend)
    else:
        yield Finding("home", "ok", f"'{home}' can be written")

    folder = compiled_folder()
    if folder is None:
        said = "there is no folder for compiled code: each process compiles for some seconds anew"
        mend = "Set NUMBA_CACHE_DIR to a folder that can be written"
        yield Finding("compiled code", "warning", said, mend)
    else:
        yield Finding("compiled code", "ok", f"kept in '{folder}'")


def compiled_folder() -> Path | None:
    """Return where numba keeps compiled code; None where no place can be written."""
    asked_for = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(networks.__path__[0]) / "__pycache__"
    own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "numba"
    for folder in [Path(asked_for)] if asked_for else [beside, own]:
        try:
            prove_writable(folder)
        except OSError:
            continue
        return folder
    return None


def _used_share(folder: Path) -> float:
    disk = shutil.disk_usage(folder)
    return 1 - disk.free / disk.total if disk.total else 0.0
