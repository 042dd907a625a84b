"""Copies the bundle of a registered version here, within bounds of number, size and time.

A registry says where a version's files are, and another machine which there are and how long they
are. No list of theirs is followed: a bundle's files are asked for one by one, by the names in its
manifest, which are checked. What lies on other machines is fetched by a process of its own,
`python -m serving.models.bundle_download`, because the libraries of object stores know no bounds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from pipeline.environment import forbid_mlflow_retries, set_mlflow_defaults
from pipeline.errors import InputError
from pipeline.model.bundle_copy import MAX_BYTES, Fetch, copy_bundle, too_large
from pipeline.storage.atomic_folder import MANIFEST

PLACE = "artifacts/bundle"
"""Where a bundle lies among the files of a registered version."""
TIMEOUT_S = 600.0
CHUNK_BYTES = 2**20
BROKEN = 2
"""Exit status of the process where the bundle is at fault, and not its place."""


def download_bundle(
    uri: str,
    tracking_uri: str,
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Copy the files of a bundle into a folder; nothing else is written, whatever they are called.

    Args:
        uri: of the version's files, as the registry says it.
        tracking_uri: of the registry.
        folder: is there, and empty.
        max_bytes: of all files together.
        timeout_s: for files of other machines.

    Raises:
        InputError: there is no bundle, or one that no study writes: too large, or with too many
            files.
        OSError: the files cannot be read now.
    """
    if (root := _local_folder(uri)) is not None:
        copy_bundle(_fetch_locally(root), folder, max_bytes)
        return

    request = {"uri": uri, "tracking_uri": tracking_uri, "folder": str(folder)}
    request |= {"max_bytes": str(max_bytes), "timeout_s": str(timeout_s)}
    search_path = os.pathsep.join(path for path in sys.path if path)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "serving.models.bundle_download"],
            input=json.dumps(request),  # not as arguments, which others can read
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=os.environ | {"PYTHONPATH": search_path},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it took more than {timeout_s:g} s") from None
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        cause = lines[-1] if lines else f"its process ended with status {process.returncode}"
        raise InputError(cause) if process.returncode == BROKEN else OSError(cause)


def main() -> int:
    """Fetch what standard input asks for; return the exit status, after a line on what failed."""
    request: dict[str, str] = json.load(sys.stdin)
    # The parent may be killed before it can end this process.
    signal.alarm(int(float(request["timeout_s"])) + 1)
    set_mlflow_defaults()
    forbid_mlflow_retries()
    import mlflow
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        mlflow.set_tracking_uri(request["tracking_uri"])
        mlflow.set_registry_uri(request["tracking_uri"])
        files: Any = get_artifact_repository(request["uri"])

        def fetch(name: str, path: Path, max_bytes: int) -> None:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
            # Its public functions first ask which files there are, and follow the answer.
            files._download_file(f"{PLACE}/{name}", str(path))

        copy_bundle(fetch, Path(request["folder"]), int(request["max_bytes"]))
    except InputError as error:
        print(error, file=sys.stderr)
        return BROKEN
    except Exception as error:  # MLflow, its stores and the network raise errors of many kinds
        lines = str(error).strip().splitlines()
        print(lines[0] if lines else type(error).__name__, file=sys.stderr)
        return 1
    return 0


def _local_folder(uri: str) -> Path | None:
    """Return the folder that a URI is; None where the files are elsewhere."""
    place = urlparse(uri)
    if place.scheme == "file":
        return Path(url2pathname(place.path))
    return None if place.scheme else Path(uri)


def _fetch_locally(root: Path) -> Fetch:
    """Return what copies files of a folder of this machine; never one that is no plain file."""

    def fetch(name: str, path: Path, max_bytes: int) -> None:
        source = root / PLACE / name
        found = source.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{name} is no plain file")
        if found.st_size > max_bytes:
            raise too_large(max_bytes)
        # Not blocking: a pipe may have come into its place, and would be waited for.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file, open(path, "xb") as copy:
            while found.st_size > copy.tell() and (data := file.read(CHUNK_BYTES)):
                copy.write(data)

    if root.is_dir() and not (root / PLACE / MANIFEST).exists():
        raise InputError(f"it has no {PLACE}/{MANIFEST}")
    return fetch


if __name__ == "__main__":
    sys.exit(main())
