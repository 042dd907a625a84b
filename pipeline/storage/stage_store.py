"""The store: trained stages by the hash of all that decides them."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pyarrow import fs
from safetensors import SafetensorError

from pipeline.credentials.known import remember
from pipeline.credentials.masking import masked_uri
from pipeline.errors import AffectuneError, InputError, SurroundingsError
from pipeline.shell_command import raise_if_masked
from pipeline.stages.trained_stage import TrainedStage
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.atomic_folder import (
    MANIFEST,
    manifest_of,
    read_folder,
    remove,
    remove_leftovers,
    verify,
    write_folder,
)
from pipeline.storage.surroundings import as_failure, mend_of

log = logging.getLogger(__name__)

FORMAT = 2
"""Of the entries; raise it when an entry is written otherwise."""
FORMAT_ENTRY, FORMAT_FILE = "format", "format.json"
KEY_LENGTH = 64
KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")
LOOK = """
import sys
from pyarrow import fs
system, path = fs.FileSystem.from_uri(sys.stdin.read())
system.get_file_info(path)
"""
CLAIMS = ".claims"
CLAIM_POLL_S = 0.2
REMOTE_PAUSES_S = (0.5, 1.0, 2.0)
"""After these an object store that refused a request is asked again."""
SERVICE = "Check that its service answers, its quota, and that you may read and write there"
"""What to do where it still refuses."""
MAX_PROBED = 8
"""So many stages are read to find out which format a store has that does not say it."""
ANSWER_S = 10.0
"""So long an object store may take for its first answer, the start of a process included."""

Content = TypeVar("Content")


def raise_if_not_writable(uri: str) -> None:
    """Find out within seconds whether a store could be made or written; a folder is left as it is.

    Raises:
        InputError: it cannot.
    """
    raise_if_masked(uri, "--store")
    if "://" in uri and not uri.startswith("file:"):
        _raise_if_silent(uri)
        return

    try:
        prove_writable(Path(uri.removeprefix("file://")))
    except OSError as error:
        raise InputError(
            f"Cannot use the store '{masked_uri(uri)}': '{error.filename}' cannot be written "
            f"({error.strerror}). {mend_of(error) or 'Correct it'}, or name another folder with "
            "--store."
        ) from error


class StageStore:
    """Keeps each trained stage under its key, and further files by name.

    An entry is complete and verified, or it is not there.

    Args:
        uri: a folder ("runs/store"), or a URI that pyarrow knows ("s3://bucket/prefix",
            "file:///...").

    Raises:
        InputError: no such kind of URI, the folder cannot be made, the store cannot be reached, or
            another version wrote it.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        remember(self.uri)
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
                f"Cannot use the store '{masked_uri(self.uri)}': {error}. Name a folder or "
                "an object-store URI."
            ) from error

        self._has_format = self._find_format()

    def get(self, key: str) -> TrainedStage | None:
        """Return the stage under a key; None where there is none, or a damaged one (logged)."""

        def parse(files: Mapping[str, bytes]) -> TrainedStage:
            stage = TrainedStage.from_files(files)
            if stage.key != key:
                raise ValueError(f"it is the stage {stage.key[:12]}")
            return stage

        return self.read(key, parse)

    def put(self, stage: TrainedStage) -> None:
        """Keep a stage under its key; writing it twice is harmless.

        Raises:
            AffectuneError: it cannot be written.
        """
        self.write(stage.key, stage.to_files())

    def read(self, name: str, parse: Callable[[Mapping[str, bytes]], Content]) -> Content | None:
        """Return what `parse` makes of the files under a name.

        Returns:
            None where there are none, or damaged ones, which is logged.

        Raises:
            SurroundingsError: the disk or the service does not let them be read.
        """
        try:
            files = self._read_files(name)
            return None if files is None else parse(files)
        except (
            AffectuneError, ArithmeticError, AttributeError, LookupError, OSError, RuntimeError,
            SafetensorError, TypeError, ValueError,
        ) as error:  # fmt: skip
            if (fault := as_failure(error)) is not None:
                raise fault from error  # whether they are damaged is not known
            log.warning(
                "The store's entry %s is damaged and will be made anew: %s", name[:12], error
            )
            return None

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Keep files under a name, all or none of them; what was there is replaced.

        Raises:
            AffectuneError: they cannot be written.
        """
        if not self._has_format:
            format_files = {FORMAT_FILE: json.dumps(FORMAT).encode()}
            self._write_files(FORMAT_ENTRY, format_files, keeps_existing=True)
            self._has_format = True
        self._write_files(name, files)

    def remove(self, name: str) -> None:
        """Remove what is under a name, if there is anything."""
        if self._remote is None:
            remove(Path(self._root) / name)
            return
        with contextlib.suppress(OSError):
            self._remote.delete_dir(f"{self._root}/{name}")

    def raise_if_unusable(self) -> None:
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
                f"Cannot use the store '{masked_uri(self.uri)}': {error} "
                "Name a folder or an object store that can be written."
            ) from error
        finally:
            self.remove(name)

    def remove_if_empty(self) -> None:
        """Remove the folder of a store that nothing was put into; an object store has none."""
        root = Path(self._root)
        if self._remote is None and {path.name for path in root.iterdir()} <= {FORMAT_ENTRY}:
            shutil.rmtree(root, ignore_errors=True)

    @contextlib.contextmanager
    def claim(self, key: str, *, timeout_s: float) -> Iterator[None]:
        """Be the only one who trains this key, among all processes that use the same folder.

        A process lets go by ending, also by being killed. After `timeout_s` two may train the same
        key, to the same bytes; likewise where a claim cannot be written. An object store has no
        such locks.
        """
        if self._remote is not None:
            yield
            return

        path = Path(self._root) / CLAIMS / key
        lock = FileLock(path)
        with contextlib.suppress(Timeout, OSError):
            path.parent.mkdir(exist_ok=True)
            lock.acquire(timeout=timeout_s, poll_interval=CLAIM_POLL_S)

        try:
            yield
        finally:
            if lock.is_locked:
                # Before the lock goes: who waits for it sees that the file is another one.
                path.unlink(missing_ok=True)
                lock.release()

    def remove_leftovers(self, keys: Iterable[str]) -> None:
        """Remove what killed processes were writing under keys, and their claims.

        What another process trains now is left alone. In an object store nothing is to be removed:
        an entry without its manifest is none, and is written over.
        """
        if self._remote is not None:
            return

        root = Path(self._root)
        wanted = set(keys)
        names = {path.name[1:].partition(".")[0][:KEY_LENGTH] for path in root.glob(".*")}
        with contextlib.suppress(OSError):
            names |= {path.name for path in (root / CLAIMS).iterdir()}
        for key in names & wanted:
            lock = FileLock(root / CLAIMS / key)
            with contextlib.suppress(Timeout, OSError):
                (root / CLAIMS).mkdir(exist_ok=True)
                with lock.acquire(timeout=0):
                    remove_leftovers(root, partial(_belongs_to, key))
                    (root / CLAIMS / key).unlink(missing_ok=True)

    def _write_files(
        self, name: str, files: Mapping[str, bytes], *, keeps_existing: bool = False
    ) -> None:
        if self._remote is None:
            write_folder(Path(self._root) / name, files, keeps_existing=keeps_existing)
            return

        remote = self._remote

        def write() -> None:
            # One object at a time is atomic there; an entry exists once its manifest does.
            remote.create_dir(f"{self._root}/{name}")
            for file, data in [*files.items(), (MANIFEST, manifest_of(files))]:
                with remote.open_output_stream(f"{self._root}/{name}/{file}") as stream:
                    stream.write(data)

        self._repeated(write, "write to")

    def _find_format(self) -> bool:
        """Return whether the store has a format already; refuse that of another version.

        Where it is missing or damaged, the entries say which it is.
        """
        damage: Exception | None = None
        stored = None
        try:
            stored = self._read_format()
            if stored is None and self._names_of_stages():
                # A process writes the format before its first entry: perhaps it just did.
                stored = self._read_format()
        except (AffectuneError, LookupError, OSError, TypeError, ValueError) as error:
            damage = error

        if stored is None and self._stages_are_readable():
            if damage is not None or self._is_in_the_way(FORMAT_ENTRY):
                log.warning("The format of the store is damaged, and is written anew.")
                self.remove(FORMAT_ENTRY)
            return False
        if damage is not None:
            raise InputError(
                f"Cannot read which format the store '{masked_uri(self.uri)}' has, and it "
                f"holds no stage that tells: {damage} Try again, or name another store."
            ) from damage
        stored = stored or 1
        if stored == FORMAT:
            return True
        version = "a later version" if stored > FORMAT else "an earlier version"
        raise InputError(
            f"The store '{masked_uri(self.uri)}' was written by {version} of Affectune, and "
            "this one does not read its entries. Name another store, or remove that one."
        )

    def _read_format(self) -> int | None:
        files = self._read_files(FORMAT_ENTRY)
        return None if files is None else int(json.loads(files[FORMAT_FILE]))

    def _is_in_the_way(self, name: str) -> bool:
        """Return whether something else is where a folder should be."""
        place = Path(self._root) / name
        is_there = place.is_symlink() or place.exists()
        return self._remote is None and is_there and not place.is_dir()

    def _names_of_stages(self) -> list[str]:
        """Return what is named as a trained stage is, by a hash."""
        if self._remote is None:
            names = [path.name for path in Path(self._root).iterdir()]
        else:
            selector = fs.FileSelector(self._root, allow_not_found=True)
            names = [file.base_name for file in self._remote.get_file_info(selector)]
        return [name for name in names if KEY.match(name)]

    def _stages_are_readable(self) -> bool:
        """Return whether this version reads the stages that are there; of many, some are tried."""
        names = self._names_of_stages()
        stages = [name for name in names if KEY.fullmatch(name)][:MAX_PROBED]
        return not names or any(self.get(name) is not None for name in stages)

    def _read_files(self, name: str) -> dict[str, bytes] | None:
        """Return the verified files under a name; None where there are none."""
        if self._remote is None:
            folder = Path(self._root) / name
            return read_folder(folder) if folder.is_dir() else None

        try:
            manifest = self._read_object(f"{name}/{MANIFEST}")
        except FileNotFoundError:
            return None
        files = {file: self._read_object(f"{name}/{file}") for file in json.loads(manifest)}
        verify(f"{masked_uri(self.uri)}/{name}", files, manifest)
        return files

    def _read_object(self, name: str) -> bytes:
        assert self._remote is not None
        remote = self._remote

        def read() -> bytes:
            with remote.open_input_stream(f"{self._root}/{name}") as stream:
                data: bytes = stream.read()
            return data

        return self._repeated(read, "read")

    def _repeated(self, request: Callable[[], Content], verb: str) -> Content:
        """Return the answer of an object store, which may refuse a request and take the next.

        Raises:
            FileNotFoundError: there is no such object.
            SurroundingsError: it refuses again and again, or is not reached.
        """
        for pause_s in (*REMOTE_PAUSES_S, None):
            try:
                return request()
            except FileNotFoundError:
                raise
            except OSError as error:
                if pause_s is None:
                    cause = " ".join(str(error).split()).rstrip(".")
                    message = f"Cannot {verb} the store '{masked_uri(self.uri)}': {cause}."
                    raise SurroundingsError(f"{message} {SERVICE}.", mend=SERVICE) from error
                time.sleep(pause_s)
        raise AssertionError("the last pause is None")


def _belongs_to(key: str, name: str) -> bool:
    """Return whether a name is a key, or begins with it, as that of a checkpoint."""
    return name.startswith(key)


def _raise_if_silent(uri: str) -> None:
    """Look into an object store from another process: its library would try for minutes.

    What else may be wrong with it is for `StageStore.raise_if_unusable` to say.
    """
    try:
        subprocess.run(
            [sys.executable, "-c", LOOK],
            input=uri.encode(),  # not an argument, which others could read: it may hold a secret
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"The store '{masked_uri(uri)}' gave no answer within {ANSWER_S:.0f} s. Is its "
            "service there, and reached from here? Else name another store with --store."
        ) from error
