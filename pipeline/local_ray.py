"""A Ray of this machine, closed to its other users: loopback, a token, a folder. Imports no Ray.

By itself Ray makes its token readable by all, and its folders, with logs and sockets, writable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.environment import keep_ray_on_loopback
from pipeline.errors import InputError

PREFIX = "affectune-"
RAY = "ray"
"""Ray's own folder below the private one: Ray lets everybody write into what it is given."""
LOGS = "session_latest/logs"
LONGEST = 107 - len("/session_2026-11-26_06-52-23_123456_1234567/sockets/plasma_store")
"""So many bytes the path of Ray's folder may have: a socket's path has at most 107 on Linux."""
ABANDONED_S = 86_400.0
"""So long the folder of a Ray that failed or was killed is kept for its logs."""

FOLDER = "RAY_TMPDIR"
MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
NO_TOKEN = (
    f"{MODE} is '{{mode}}', so this Ray asks for no token: every user of this machine can run "
    f"programs in it as you, though nobody from elsewhere. Unset {MODE}."
)
WAS_OPEN = (
    "The rights of '{path}', Ray's token, let other users of this machine run programs as you; "
    "now only you can use it. Where one may have read it, remove the file: a new one is made."
)
IS_OPEN = (
    "The rights of '{path}', Ray's token, let other users of this machine run programs as you, "
    "and you may not change them. Have its owner make it yours alone, with the rights 600."
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
    notes = _keep_token_private()
    private = _make_folder()

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
            os.utime(private)
        else:
            shutil.rmtree(private, ignore_errors=True)


def _make_folder() -> Path:
    """Make a folder that only this user may enter, where Ray's sockets have short paths."""
    reasons = []
    for base in _bases():
        reason = _unfitness(base)
        if reason is None:
            _remove_abandoned(base)
            try:
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


def _unfitness(base: Path) -> str | None:
    """Return why a folder cannot hold Ray's, or None."""
    if len(os.fsencode(base)) > _longest_base():
        return f"its path is longer than {_longest_base()} characters"
    try:
        rights = [folder.stat() for folder in (base, *base.parents)]
    except OSError as error:
        return error.strerror or str(error)

    # Else another user could put a folder of theirs in the place of ours.
    if any(right.st_mode & stat.S_IWOTH and not right.st_mode & stat.S_ISVTX for right in rights):
        return "everybody may rename what is in it"
    return None


def _longest_base() -> int:
    return LONGEST - len(f"/{PREFIX}12345678/{RAY}")


def _remove_abandoned(base: Path) -> None:
    """Remove this user's folders whose Ray failed or was killed a day ago or longer."""
    pattern = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            right = folder.lstat()
            is_ours = stat.S_ISDIR(right.st_mode) and right.st_uid == os.geteuid()
            is_old = time.time() - right.st_mtime > ABANDONED_S
            if not (is_ours and is_old and pattern.fullmatch(folder.name)):
                continue
            if {path.name for path in folder.iterdir()} <= {RAY} and not _is_held(folder):
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


def _keep_token_private() -> list[str]:
    """See to it that Ray asks for a token that only this user can read; return notes."""
    if "ray" not in sys.modules:
        # Ray would do so by itself, and advise to ask for none. Once imported it has read it.
        os.environ.setdefault(MODE, "token")
    mode = os.environ.get(MODE, "token")
    if mode.lower() != "token":
        return [NO_TOKEN.format(mode=mode)]
    if os.environ.get(TOKEN):
        return []
    if os.environ.get(TOKEN_FILE):
        return _look_at_given_token(Path(os.environ[TOKEN_FILE]))

    try:
        path = Path.home() / ".ray" / "auth_token"
        _make_token(path)
        _close_folder(path.parent)
        return _close(path)
    except (OSError, RuntimeError):
        # Without a home that is this user's alone, this process and Ray's have one of their own.
        os.environ[TOKEN] = secrets.token_hex(32)
        return []


def _look_at_given_token(path: Path) -> list[str]:
    """Close the token file that the user has named, where that can be done; return notes."""
    try:
        path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{TOKEN_FILE} names '{path}', which cannot be read: {error.strerror}. Correct it, or "
            "unset it: then Ray gets a token of its own."
        ) from None

    try:
        return _close(path)
    except OSError:
        return [IS_OPEN.format(path=path)]


def _make_token(path: Path) -> None:
    """Make a token where there is none; of two starts at once the first one's is kept."""
    if path.exists():
        return

    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    # Ray would write it for all to read; mkstemp lets nobody else.
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _close(path: Path) -> list[str]:
    """Take the rights to a token from other users; return notes where they had any.

    Raises:
        OSError: it is another user's, or its rights cannot be changed.
    """
    with open(path, "rb") as file:
        right = os.fstat(file.fileno())
        if right.st_uid != os.geteuid():
            raise PermissionError(f"'{path}' is another user's")
        if not right.st_mode & 0o077:
            return []
        os.fchmod(file.fileno(), 0o600)
    return [WAS_OPEN.format(path=path)]


def _close_folder(folder: Path) -> None:
    """Let nobody else into the folder of tokens, where it is this user's."""
    right = folder.stat()
    if right.st_uid == os.geteuid() and right.st_mode & 0o077:
        folder.chmod(0o700)
