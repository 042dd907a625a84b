"""The store: trained stages by the hash of all that decides them."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from pipeline.credentials.known import remember
from pipeline.credentials.masking import masked_uri
from pipeline.errors import AffectuneError, InputError, SurroundingsError, naming_doctor
from pipeline.shell_command import raise_if_masked
from pipeline.stages.trained_stage import TrainedStage
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.folder_store import KEY_LENGTH, FolderStore
from pipeline.storage.object_store import Objects, ObjectStore
from pipeline.storage.remote.remote_store import RemoteStore
from pipeline.storage.store_address import folder_of, object_address
from pipeline.storage.surroundings import as_failure, mend_of

log = logging.getLogger(__name__)

FORMAT = 2
"""Of the entries of a folder; raise it when an entry is written otherwise."""
REMOTE_FORMAT = 3
"""Of those of an object store, each one object. In format 2 they had an object per file."""
FORMAT_ENTRY, FORMAT_FILE = "format", "format.json"
KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")
MAX_PROBED = 8
"""So many stages are read to find out which format a store has that does not say it."""
ANSWER_S, RETRY_S = 4.0, 5.0
"""So long an object store may take for its first answer."""

Content = TypeVar("Content")


@dataclass(frozen=True)
class StoreProbe:
    """How a store answered.

    Attributes:
        write_s: seconds until a small entry was written.
        read_s: likewise read.
        delete_s: likewise deleted.
        has_conditional_writes: of several processes, one trains a key, and the others wait: the
            service knows conditional writes, or the folder file locks.
    """

    write_s: float
    read_s: float
    delete_s: float
    has_conditional_writes: bool

    @property
    def latency_s(self) -> float:
        """Return the seconds that the slowest of its answers took."""
        return max(self.write_s, self.read_s, self.delete_s)


@naming_doctor()
def raise_if_not_writable(uri: str) -> None:
    """Find out within seconds whether a store could be made or written; it is left as it is.

    Raises:
        InputError: it cannot.
    """
    raise_if_masked(uri, "--store")
    folder = folder_of(uri)
    if folder is None:
        _raise_if_silent(uri)
        return

    try:
        prove_writable(folder)
    except OSError as error:
        raise InputError(
            f"Cannot use the store '{masked_uri(uri)}': '{error.filename}' cannot be written "
            f"({error.strerror}). {mend_of(error) or 'Correct it'}, or name another folder with "
            "--store."
        ) from error


class StageStore:
    """Keeps each trained stage under its key, and further files by name.

    An entry is complete and verified, or it is not there; one that is replaced is never missing.

    Args:
        uri: a folder ("runs/store", "file:///..."), or a place in an object store
            ("s3://bucket/prefix", "gs://...", "az://...").

    Attributes:
        objects: bytes by name in the same place, beside the entries.

    Raises:
        InputError: no such kind of URI, the folder cannot be made, or another version wrote it.
        SurroundingsError: the service does not answer, or lets nothing be read.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        remember(self.uri)
        folder = folder_of(self.uri)
        if folder is None:
            self._place: FolderStore | RemoteStore = RemoteStore(object_address(self.uri))
            self.objects: Objects = self._place.objects
            self._has_format = self._find_remote_format(self._place)
            return

        try:
            self._place = FolderStore(folder)
        except (OSError, ValueError) as error:
            raise InputError(
                f"Cannot use the store '{masked_uri(self.uri)}': {error}. Name a folder or "
                "an object-store URI."
            ) from error
        self.objects = self._place
        self._has_format = self._find_format(self._place)

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
            files = self._place.read_entry(name)
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

    def write(self, name: str, files: Mapping[str, bytes]) -> str | None:
        """Keep files under a name, all or none of them; what was there is replaced.

        Returns:
            The `version` of what is there now.

        Raises:
            AffectuneError: they cannot be written.
        """
        if not self._has_format:
            self._write_format()
            self._has_format = True
        return self._place.write_entry(name, files)

    def version(self, name: str) -> str | None:
        """Return what changes when something else is written under a name; None: nothing is there.

        Raises:
            SurroundingsError: the service does not tell it.
        """
        return self._place.version(name)

    def remove(self, name: str) -> None:
        """Remove what is under a name, if there is anything."""
        self._place.remove_entry(name)

    def names(self) -> Iterator[str]:
        """Yield the names of all entries, those of stages among them; no run needs it.

        Raises:
            SurroundingsError: the service does not let them be listed.
        """
        return (name for name in self._place.entry_names() if name != FORMAT_ENTRY)

    def raise_if_unusable(self) -> None:
        """Prove that it can be written and read; say so where several studies may train the same.

        Raises:
            InputError: it cannot.
        """
        if not self.probe().has_conditional_writes:
            log.warning(
                "The store '%s' has no conditional writes or locks: studies that use it at the "
                "same time may train the same stage twice, to the same bytes.",
                masked_uri(self.uri),
            )

    def probe(self) -> StoreProbe:
        """Write an entry, read it and delete it, and find out whether claims hold here.

        Raises:
            InputError: one of them fails.
        """
        name = f"check-{uuid.uuid4().hex}"
        begin = time.monotonic()
        try:
            try:
                self.write(name, {"check": b"written"})
                written = time.monotonic()
                if self.read(name, lambda files: files["check"]) != b"written":
                    raise AffectuneError("what was written is not read back")
                read = time.monotonic()
            finally:
                self.remove(name)
            deleted = time.monotonic()
            has_conditions = self._has_conditions()
        except AffectuneError as error:
            raise InputError(
                f"Cannot use the store '{masked_uri(self.uri)}': {error} "
                "Name a folder or an object store that can be written."
            ) from error
        return StoreProbe(written - begin, read - written, deleted - read, has_conditions)

    def remove_if_empty(self) -> None:
        """Remove the folder of a store that nothing was put into; an object store has none."""
        if isinstance(self._place, FolderStore):
            self._place.remove_if_only({FORMAT_ENTRY})

    @contextlib.contextmanager
    def claim(self, key: str, *, timeout_s: float) -> Iterator[None]:
        """Be the only one who trains this key, among all processes that use the same store.

        A process lets go by ending, also by being killed; in an object store the others find that
        out within `lease.LEASE_S`. After `timeout_s` two may train the same key, to the same
        bytes; likewise where a claim cannot be written.

        Raises:
            SurroundingsError: the service refuses.
        """
        with self._place.claim(key, timeout_s=timeout_s):
            yield

    def remove_leftovers(self, keys: Iterable[str]) -> None:
        """Remove what killed processes were writing under keys, and their claims.

        What another process trains now is left alone.
        """
        self._place.remove_leftovers(keys)

    def _has_conditions(self) -> bool:
        if isinstance(self._place, FolderStore):
            return self._place.has_locks()
        return self._place.has_conditional_writes()

    def _write_format(self) -> None:
        if isinstance(self._place, FolderStore):
            files = {FORMAT_FILE: json.dumps(FORMAT).encode()}
            self._place.write_entry(FORMAT_ENTRY, files, keeps_existing=True)
        else:
            files = {FORMAT_FILE: json.dumps(REMOTE_FORMAT).encode()}
            self._place.write_loose_entry(FORMAT_ENTRY, files)

    def _find_remote_format(self, place: RemoteStore) -> bool:
        """Return whether the store has a format already; refuse that of a later version.

        It is written so that earlier versions understand it, too. Entries of other formats have
        other names: what says no format is taken for new.
        """
        try:
            files = place.read_loose_entry(FORMAT_ENTRY)
            stored = None if files is None else int(json.loads(files[FORMAT_FILE]))
        except SurroundingsError:
            raise
        except (AffectuneError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"Cannot read which format the store '{masked_uri(self.uri)}' has: {error} "
                f"Remove what is below '{FORMAT_ENTRY}/' there if no other version wrote it, or "
                "name another store."
            ) from error
        if stored is not None and stored > REMOTE_FORMAT:
            raise self._other_version(stored, REMOTE_FORMAT)
        place.has_loose_entries = stored is not None and stored < REMOTE_FORMAT
        return stored is not None

    def _find_format(self, place: FolderStore) -> bool:
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
            if damage is not None or place.is_in_the_way(FORMAT_ENTRY):
                log.warning("The format of the store is damaged, and is written anew.")
                self.remove(FORMAT_ENTRY)
            return False
        if damage is not None:
            raise InputError(
                f"Cannot read which format the store '{masked_uri(self.uri)}' has, and it "
                f"holds no stage that tells: {damage} Try again, or name another store."
            ) from damage
        if stored == FORMAT:
            return True
        raise self._other_version(stored or 1, FORMAT)

    def _other_version(self, stored: int, known: int) -> InputError:
        version = "a later version" if stored > known else "an earlier version"
        return InputError(
            f"The store '{masked_uri(self.uri)}' was written by {version} of Affectune, and "
            "this one does not read its entries. Name another store, or remove that one."
        )

    def _read_format(self) -> int | None:
        files = self._place.read_entry(FORMAT_ENTRY)
        return None if files is None else int(json.loads(files[FORMAT_FILE]))

    def _names_of_stages(self) -> list[str]:
        """Return what is named as a trained stage is, by a hash."""
        assert isinstance(self._place, FolderStore)
        return [path.name for path in self._place.root.iterdir() if KEY.match(path.name)]

    def _stages_are_readable(self) -> bool:
        """Return whether this version reads the stages that are there; of many, some are tried."""
        names = self._names_of_stages()
        stages = [name for name in names if KEY.fullmatch(name)][:MAX_PROBED]
        return not names or any(self.get(name) is not None for name in stages)


def _raise_if_silent(uri: str) -> None:
    """Look into an object store, and do not wait long for its answer.

    What else may be wrong with it is for `StageStore.raise_if_unusable` to say.
    """
    objects = ObjectStore(object_address(uri), answer_s=ANSWER_S, retry_s=RETRY_S)
    try:
        objects.read(f"{FORMAT_ENTRY}/{FORMAT_FILE}")
    except SurroundingsError as error:
        raise InputError(f"{error} Or name another store with --store.") from error
