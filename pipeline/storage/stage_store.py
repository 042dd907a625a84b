"""Trained stages by content hash, so that nothing is trained twice. A folder, or an object store's URI."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pyarrow import fs
from safetensors import SafetensorError

from pipeline.errors import AffectuneError, InputError
from pipeline.stages.stage import TrainedStage
from pipeline.storage.atomic_folder import MANIFEST, manifest_of, read_folder, verify, write_folder

log = logging.getLogger(__name__)

CLAIMS = ".claims"
Kept = TypeVar("Kept")


class StageStore:
    """Holds each TrainedStage under its task's key, and further files by name. An entry is whole and verified, or it
    is not there.

    Args:
        uri: a folder ("runs/store"), or a URI that pyarrow knows ("s3://bucket/prefix", "gs://...", "file:///...").

    Raises:
        InputError: no such kind of URI, or the folder cannot be made.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        self._remote: fs.FileSystem | None = None
        self._root = self.uri
        try:
            if "://" in self.uri:
                self._remote, self._root = fs.FileSystem.from_uri(self.uri)
                if isinstance(self._remote, fs.LocalFileSystem):
                    self._remote = None
            if self._remote is None:
                Path(self._root).mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise InputError(
                f"Cannot use the store '{self.uri}': {error}. Name a folder or an object-store URI."
            ) from error

    def get(self, key: str) -> TrainedStage | None:
        """The stage under this key; None where there is none, or a damaged one (the log says so)."""
        return self.read(key, TrainedStage.from_files)

    def put(self, stage: TrainedStage) -> None:
        """Keep a stage under its key; writing it twice is harmless.

        Raises:
            AffectuneError: it cannot be written.
        """
        self.write(stage.key, stage.to_files())

    def read(self, name: str, parse: Callable[[Mapping[str, bytes]], Kept]) -> Kept | None:
        """What `parse` makes of the files under a name; None where there are none, or damaged ones (it logs that)."""
        try:
            if self._remote is None:
                folder = Path(self._root) / name
                return parse(read_folder(folder)) if folder.is_dir() else None
            return self._read_remote(name, parse)
        except (AffectuneError, ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            log.warning(
                "The store's entry %s is damaged and will be made anew: %s", name[:12], error
            )
            return None

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Keep files under a name, whole or not at all; what was there is replaced.

        Raises:
            AffectuneError: it cannot be written.
        """
        if self._remote is None:
            write_folder(Path(self._root) / name, files)
            return
        try:
            # One object at a time is atomic there; an entry exists once its manifest does.
            self._remote.create_dir(f"{self._root}/{name}")
            for file, data in [*files.items(), (MANIFEST, manifest_of(files))]:
                with self._remote.open_output_stream(f"{self._root}/{name}/{file}") as stream:
                    stream.write(data)
        except OSError as error:
            raise AffectuneError(f"Cannot write to the store '{self.uri}': {error}") from error

    def remove(self, name: str) -> None:
        """Forget what is under a name, if there is anything."""
        if self._remote is None:
            shutil.rmtree(Path(self._root) / name, ignore_errors=True)
            return
        with contextlib.suppress(OSError):
            self._remote.delete_dir(f"{self._root}/{name}")

    def check(self) -> None:
        """Prove that it can be written and read.

        Raises:
            InputError: it cannot.
        """
        name = f"check-{uuid.uuid4().hex}"
        try:
            self.write(name, {"check": b"written"})
            if self.read(name, lambda files: files["check"]) != b"written":
                raise AffectuneError("what was written is not read back")
        except AffectuneError as error:
            raise InputError(
                f"Cannot use the store '{self.uri}': {error} Name a folder or an object store that can be written."
            ) from error
        finally:
            self.remove(name)

    @contextlib.contextmanager
    def claim(self, key: str, *, timeout_s: float) -> Iterator[None]:
        """Be the only one who trains this key, among all processes that use the same folder.

        Who had it lets go by ending, also by being killed. After `timeout_s` two may train the same, to the same bytes.
        An object store has no such locks.
        """
        if self._remote is not None:
            yield
            return
        path = Path(self._root) / CLAIMS / key
        path.parent.mkdir(exist_ok=True)
        end = time.monotonic() + timeout_s
        while (claimed := _claimed(path)) is None and time.monotonic() < end:
            time.sleep(0.2)
        try:
            yield
        finally:
            if claimed is not None:
                path.unlink(
                    missing_ok=True
                )  # before the lock goes: who waits for it sees that the file is another
                os.close(claimed)

    def _read_remote(self, name: str, parse: Callable[[Mapping[str, bytes]], Kept]) -> Kept | None:
        try:
            manifest = self._read(f"{name}/{MANIFEST}")
        except FileNotFoundError:
            return None
        files = {file: self._read(f"{name}/{file}") for file in json.loads(manifest)}
        verify(f"{self.uri}/{name}", files, manifest)
        return parse(files)

    def _read(self, name: str) -> bytes:
        assert self._remote is not None
        with self._remote.open_input_stream(f"{self._root}/{name}") as stream:
            data: bytes = stream.read()
        return data


def _claimed(path: Path) -> int | None:
    """The descriptor of a lock on this very file; None where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        log.debug("%s is being trained by another process.", path.name)
    os.close(descriptor)
    return None
