"""Trained stages by content hash, so that nothing is trained twice. A folder, or an object store's URI."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pyarrow import fs

from pipeline.artefact import MANIFEST, manifest_of, read_folder, verify, write_folder
from pipeline.errors import AffectuneError, InputError
from pipeline.stage import TrainedStage

log = logging.getLogger(__name__)


class Store:
    """Holds each TrainedStage under its task's key. An entry is whole and verified, or it is not there.

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
        try:
            if self._remote is None:
                folder = Path(self._root) / key
                return TrainedStage.from_files(read_folder(folder)) if folder.is_dir() else None
            return self._get_remote(key)
        except (AffectuneError, ValueError, KeyError, TypeError, OSError) as error:
            log.warning("The store's entry %s is damaged and will be trained anew: %s", key[:12], error)
            return None

    def put(self, stage: TrainedStage) -> None:
        """Keep a stage under its key; writing it twice is harmless.

        Raises:
            AffectuneError: it cannot be written.
        """
        files = stage.to_files()
        if self._remote is None:
            write_folder(Path(self._root) / stage.key, files)
            return
        try:
            # One object at a time is atomic there; an entry exists once its manifest does.
            self._remote.create_dir(f"{self._root}/{stage.key}")
            for name, data in [*files.items(), (MANIFEST, manifest_of(files))]:
                with self._remote.open_output_stream(f"{self._root}/{stage.key}/{name}") as stream:
                    stream.write(data)
        except OSError as error:
            raise AffectuneError(f"Cannot write to the store '{self.uri}': {error}") from error

    def _get_remote(self, key: str) -> TrainedStage | None:
        try:
            manifest = self._read(f"{key}/{MANIFEST}")
        except FileNotFoundError:
            return None
        files = {name: self._read(f"{key}/{name}") for name in json.loads(manifest)}
        verify(f"{self.uri}/{key}", files, manifest)
        return TrainedStage.from_files(files)

    def _read(self, name: str) -> bytes:
        assert self._remote is not None
        with self._remote.open_input_stream(f"{self._root}/{name}") as stream:
            data: bytes = stream.read()
        return data
