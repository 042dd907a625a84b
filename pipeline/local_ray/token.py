"""The token that Ray asks for: it lets a program run as you, so nobody else may read it.

By itself Ray writes it for all to read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from pathlib import Path

from pipeline.errors import InputError

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


def keep_token_private() -> list[str]:
    """See to it that Ray asks for a token that only this user can read; return notes."""
    if "ray" not in sys.modules:
        # Ray would do so by itself, and advise to ask for none. Once imported it has read it.
        os.environ.setdefault(MODE, "token")
    mode = os.environ.get(MODE, "token")
    if mode.lower() in ("", "disabled"):
        return [NO_TOKEN.format(mode=mode)]
    if os.environ.get(TOKEN) or mode.lower() != "token":
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


def find_token() -> tuple[str | None, str]:
    """Return the token that Ray would send from here, and where it is from.

    Returns:
        None where there is none, with the reason.
    """
    if token := os.environ.get(TOKEN, "").strip():
        return token, TOKEN
    given = os.environ.get(TOKEN_FILE)
    try:
        path = Path(given) if given else Path.home() / ".ray" / "auth_token"
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        return None, f"'{error.filename}': {error.strerror}"
    except (RuntimeError, ValueError):  # there is no home, or the file is none of a token
        return None, f"{TOKEN} is not set, and there is no file of one"
    return (token, f"'{path}'") if token else (None, f"'{path}' is empty")


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
