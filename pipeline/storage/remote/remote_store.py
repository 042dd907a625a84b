"""A store in an object store: an entry is one object, replaced in one step; claims are leases.

Nothing is listed but by those who ask for names.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError, SurroundingsError
from pipeline.storage.atomic_folder import MANIFEST, manifest_of, verify
from pipeline.storage.object_store import ConditionsUnknown, ObjectStore, Version
from pipeline.storage.remote.lease import Lease
from pipeline.storage.remote.packed_entry import ENDING, pack, unpack
from pipeline.storage.store_address import ObjectAddress

CHECK = "check-"
"""What the names of objects begin with that are written to see whether they can be."""
CHECK_S = 3.0
"""So long a service is asked again that says that it does not know conditional writes."""
MAX_GIVEN_BACK = 100
"""Of so many leases it is known how they were given back: to have one again is one request."""


class RemoteStore:
    """Entries as objects, each the name of its entry and ".zip".

    Args:
        address: where they are.

    Attributes:
        objects: the objects themselves.
        has_loose_entries: entries may also be as they were once: an object per file, and a
            manifest; they are read, and never written.
    """

    def __init__(self, address: ObjectAddress) -> None:
        self.objects = ObjectStore(address)
        self._impatient = ObjectStore(address, retry_s=CHECK_S)
        self.has_loose_entries = False
        self._uri = masked_uri(address.uri)
        self._has_conditional_writes: bool | None = None
        self._given_back: dict[str, Version] = {}

    def read_entry(self, name: str) -> dict[str, bytes] | None:
        """Return the verified files of an entry; None where there is none.

        Raises:
            InputError: it is damaged.
            SurroundingsError: the service does not let it be read.
        """
        packed = self.objects.read(f"{name}{ENDING}")
        if packed is not None:
            return unpack(f"{self._uri}/{name}{ENDING}", packed)
        return self.read_loose_entry(name) if self.has_loose_entries else None

    def read_loose_entry(self, name: str) -> dict[str, bytes] | None:
        """Return the verified files of an entry that has an object per file: see `read_entry`."""
        manifest = self.objects.read(f"{name}/{MANIFEST}")
        if manifest is None:
            return None
        files = {}
        for file in json.loads(manifest):
            data = None if "/" in file else self.objects.read(f"{name}/{file}")
            if data is not None:
                files[file] = data
        verify(f"{self._uri}/{name}", files, manifest)
        return files

    def write_entry(self, name: str, files: Mapping[str, bytes]) -> str | None:
        """Write an entry in one step; one that is there is replaced.

        Returns:
            Its `version`.

        Raises:
            SurroundingsError: the service does not let it be written.
        """
        return self.objects.put(f"{name}{ENDING}", pack(files)).get("e_tag")

    def version(self, name: str) -> str | None:
        """Return what changes whenever an entry is written otherwise; None where there is none.

        Raises:
            SurroundingsError: the service does not tell it.
        """
        return (self.objects.version(f"{name}{ENDING}") or {}).get("e_tag")

    def write_loose_entry(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write an entry with an object per file, as earlier versions read it.

        Raises:
            SurroundingsError: the service does not let it be written.
        """
        for file, data in [*files.items(), (MANIFEST, manifest_of(files))]:
            self.objects.write(f"{name}/{file}", data)

    def remove_entry(self, name: str) -> None:
        """Remove an entry, as far as that is possible."""
        with contextlib.suppress(InputError, SurroundingsError, ValueError, TypeError):
            if self.has_loose_entries:
                self._remove_loose_entry(name)
            self.objects.delete(f"{name}{ENDING}")

    def _remove_loose_entry(self, name: str) -> None:
        manifest = self.objects.read(f"{name}/{MANIFEST}")
        if manifest is not None:
            self.objects.delete(f"{name}/{MANIFEST}")  # first: without it there is no entry
            for file in json.loads(manifest):
                self.objects.delete(f"{name}/{file}")

    def entry_names(self) -> Iterator[str]:
        """Yield the names of all entries.

        Raises:
            SurroundingsError: the service does not let them be listed.
        """
        for found in self.objects.names():
            if found.name.endswith(ENDING) and "/" not in found.name:
                yield found.name.removesuffix(ENDING)
            elif found.name.endswith(f"/{MANIFEST}") and found.name.count("/") == 1:
                yield found.name.removesuffix(f"/{MANIFEST}")

    @contextlib.contextmanager
    def claim(self, key: str, *, timeout_s: float) -> Iterator[None]:
        """Hold the lease of a key; after `timeout_s`, or where there are none, go without.

        Raises:
            SurroundingsError: the service refuses.
        """
        if not self.has_conditional_writes():
            yield
            return
        lease = Lease(self.objects, key, timeout_s=timeout_s, last=self._given_back.pop(key, None))
        try:
            with lease:
                yield
        finally:
            if lease.last is not None:
                if len(self._given_back) == MAX_GIVEN_BACK:
                    self._given_back.clear()
                self._given_back[key] = lease.last

    def has_conditional_writes(self) -> bool:
        """Return whether the service keeps what must not be replaced; it is tried once.

        Some refuse such writes, and some do as if there were no condition.

        Raises:
            SurroundingsError: the service lets nothing be written.
        """
        if self._has_conditional_writes is None:
            name = f"{CHECK}{uuid.uuid4().hex}"
            try:
                self.objects.write(name, b"first")
                self._has_conditional_writes = self._impatient.create(name, b"second") is None
            except ConditionsUnknown:
                self._has_conditional_writes = False
            finally:
                with contextlib.suppress(SurroundingsError):
                    self.objects.delete(name)
        return self._has_conditional_writes

    def remove_leftovers(self, keys: Iterable[str]) -> None:
        """Do nothing: what was not written whole is not there, and leases end by themselves."""
