"""What a Ray of this machine is started with: a folder of its own, a token, loopback.

By itself Ray lets everybody write into its folder, which has its logs and sockets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.environment import keep_ray_on_loopback
from pipeline.errors import InputError
from pipeline.local_ray.token import keep_token_private

PREFIX = "affectune-"
RAY = "ray"
"""Ray's own folder below the private one: Ray lets everybody write into what it is given."""
LOGS = "session_latest/logs"
LONGEST = 107 - len("/session_2026-11-26_06-52-23_123456_1234567/sockets/plasma_store")
"""So many bytes the path of Ray's folder may have: a socket's path has at most 107 on Linux."""
KEPT = "kept"
"""Beside it where the Ray failed: the folder is kept for its logs."""
KEPT_S = 86_400.0
STARTING_S = 60.0
"""So old is the folder of a killed process at least: a new one may not be locked yet."""

FOLDER = "RAY_TMPDIR"
OPEN = (
    "every user of this machine may rename what is in '{base}', where Ray's folder is, and could "
    "put one of theirs in its place. Where others use the machine: chmod +t '{base}', or set "
    f"{FOLDER} to a folder of yours."
)


@dataclass(frozen=True)
class LocalRay:
    """What a Ray of this machine is started with.

    Attributes:
        folder: its `_temp_dir`: sockets, logs, spilled objects. No other user reaches it.
        notes: what a person should know.
    """

    folder: Path
    notes: list[str]

    @property
    def logs(self) -> Path:
        """The folder of Ray's logs, for messages."""
        return self.folder / LOGS


@contextlib.contextmanager
def local_ray() -> Iterator[LocalRay]:
    """Prepare what a Ray of this machine needs, before it starts; remove its folder when it ended.

    After an error the folder is kept for a day, because its logs may tell why.

    Raises:
        InputError: no folder for temporary files is writable and has a path short enough.
    """
    keep_ray_on_loopback()
    with ray_folder(keep_token_private()) as local:
        yield local


@contextlib.contextmanager
def ray_folder(notes: list[str]) -> Iterator[LocalRay]:
    """Make a folder for a Ray of this machine, and remove it, as `local_ray` does.

    Args:
        notes: what a person should know already; more may follow.

    Raises:
        InputError: no folder for temporary files is writable and has a path short enough.
    """
    private = _make_folder()
    if _is_open(private.parent):
        notes.append(OPEN.format(base=private.parent))

    # Held until this process ends, however it does: who holds none has left its folder.
    lock = os.open(private, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # a network file system may know no locks
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    is_kept = False
    try:
        yield LocalRay(private / RAY, notes)
    except Exception as error:
        is_kept = not isinstance(error, InputError)
        raise
    finally:
        os.close(lock)
        if is_kept:
            (private / KEPT).touch()
        else:
            shutil.rmtree(private, ignore_errors=True)


def _make_folder() -> Path:
    """Make a folder that only this user may enter, where Ray's sockets have short paths."""
    reasons = []
    # An open one is better than none: a container may have no other, and no other user.
    for base in sorted(_bases(), key=_is_open):
        reason = f"its path is longer than {_longest_base()} characters"
        if len(os.fsencode(base)) <= _longest_base():
            try:
                _remove_abandoned(base)
                # mkdtemp lets nobody else enter, and takes no name that is there.
                return Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            except OSError as error:
                reason = error.strerror or str(error)
        reasons.append(f"'{base}': {reason}")

    raise InputError(
        f"Ray needs a folder for its sockets and logs, and none can be used. {'; '.join(reasons)}. "
        f"Set {FOLDER} to a folder of yours whose path has at most {_longest_base()} characters."
    )


def _bases() -> list[Path]:
    """Return the folders to try: the one that was asked for alone, or those for temporary files."""
    if os.environ.get(FOLDER):
        return [Path(os.environ[FOLDER]).absolute()]

    asked_for = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    names = dict.fromkeys([*filter(None, asked_for), "/tmp", "/var/tmp"])
    return [Path(name).absolute() for name in names]


def _is_open(base: Path) -> bool:
    """Return whether any user could put a folder of theirs in the place of one in it."""
    for folder in (base, *base.parents):
        with contextlib.suppress(OSError):
            rights = folder.stat().st_mode
            if rights & stat.S_IWOTH and not rights & stat.S_ISVTX:
                return True
    return False


def _longest_base() -> int:
    return LONGEST - len(f"/{PREFIX}12345678/{RAY}")


def _remove_abandoned(base: Path) -> None:
    """Remove this user's folders whose process was killed, or whose Ray failed a day ago."""
    pattern = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            right = folder.lstat()
            is_ours = stat.S_ISDIR(right.st_mode) and right.st_uid == os.geteuid()
            if not is_ours or not pattern.fullmatch(folder.name):
                continue

            content = {path.name for path in folder.iterdir()}
            age_s = time.time() - right.st_mtime
            is_over = age_s > (KEPT_S if KEPT in content else STARTING_S)
            if is_over and content <= {RAY, KEPT} and not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    """Return whether a process that started a Ray in a folder still runs, in whatever container."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
