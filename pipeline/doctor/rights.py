"""Which files and folders other users of this machine can read or write, and must not."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.credentials.patterns import is_secret_name
from pipeline.doctor.finding import Finding, Status
from pipeline.local_ray.token import MODE, TOKEN_FILE

SECRETS = (
    "~/.ray/auth_token",
    "~/.aws/credentials",
    "~/.netrc",
    "~/.pgpass",
    "~/.mlflow/credentials",
    "~/.config/gcloud/application_default_credentials.json",
)
"""Files with passwords, keys or tokens that Affectune's libraries read by themselves."""
VARIABLES = (
    TOKEN_FILE,
    "AWS_SHARED_CREDENTIALS_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "NETRC",
    "PGPASSFILE",
)
"""Variables that name such a file, and whose own names do not say so."""
PLACES = ("_FILE", "_PATH")
"""How the names of others end: what stands before is that of a secret."""
OTHERS_READ, GROUP_READS = stat.S_IROTH, stat.S_IRGRP
OTHERS_WRITE = stat.S_IWOTH


def check_secrets(variables: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look who can read the files of passwords, keys and tokens, and whether Ray asks for its own.

    Args:
        variables: of the environment.
    """
    paths = [path for path in secret_files(variables) if path.is_file()]
    findings = [finding for path in paths if (finding := secret_finding(path))]
    yield from findings
    if not findings:
        count = f"{len(paths)} files with secrets" if len(paths) != 1 else "1 file with a secret"
        yield Finding("secrets", "ok", f"{count}, for you alone" if paths else "no files with any")

    mode = variables.get(MODE)
    if mode is not None and mode.lower() in ("", "disabled"):
        said = f"{MODE} is {mode!r}: a Ray started here lets everybody who reaches it run programs"
        yield Finding("secrets", "error", said, f"`export {MODE}=token` on every node")


def secret_files(variables: Mapping[str, str]) -> list[Path]:
    """Return the files that may hold a secret: of libraries, and those that variables name."""
    paths = [Path(name).expanduser() for name in SECRETS if _has_home()]
    for name, value in variables.items():
        ending = next((place for place in PLACES if name.endswith(place)), None)
        is_secret = ending is not None and is_secret_name(name.removesuffix(ending))
        if value and (is_secret or name in VARIABLES):
            paths.append(Path(value))
    return list(dict.fromkeys(paths))


def secret_finding(path: Path) -> Finding | None:
    """Return what is wrong with the rights of a file with a secret; None where nothing is."""
    try:
        right = path.stat()
    except OSError:
        return None
    if not right.st_mode & (OTHERS_READ | GROUP_READS):
        return None

    who = "every user of this machine" if right.st_mode & OTHERS_READ else "its group"
    said = f"{who} can read '{path}', which holds a secret"
    if right.st_uid != os.geteuid():
        # Such as one that a container is given: its owner says who may read it.
        mend = "Have its owner take the right from others, where others are on this machine"
        return Finding("secrets", "warning", said, mend)
    status: Status = "error" if right.st_mode & OTHERS_READ else "warning"
    return Finding("secrets", status, said, f"`chmod 600 {shlex.quote(str(path))}`")


def check_writable_by_others(places: Iterable[Path]) -> Iterator[Finding]:
    """Look whether other users could change what Affectune wrote, and will read.

    Args:
        places: files and folders, which need not be there.
    """
    open_ones = []
    for path in dict.fromkeys(places):
        try:
            right = path.stat()
        except OSError:
            continue
        is_sticky = stat.S_ISDIR(right.st_mode) and right.st_mode & stat.S_ISVTX
        if right.st_mode & OTHERS_WRITE and not is_sticky:
            open_ones.append(path)
    for path in open_ones:
        said = f"every user of this machine can change '{path}', from which models are read"
        yield Finding("rights", "error", said, f"`chmod -R o-w {shlex.quote(str(path))}`")
    if not open_ones:
        yield Finding("rights", "ok", "nobody else can write what is read here")


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True
