"""Objects under names in an object store: bytes that are whole or not there.

Knows nothing of what is in them. Retries are bounded, and what fails is a fault of the
surroundings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError, SurroundingsError
from pipeline.storage.remote.object_faults import explain, is_missing_bucket, is_unsupported
from pipeline.storage.store_address import ObjectAddress

ANSWER_S = 20.0
"""So long a service may be silent within a request."""
RETRY_S = 30.0
"""After so long a request is not tried again."""
MAX_RETRIES = 8
FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 4.0
CONNECT_S = 5.0
REQUEST_S = 300.0
"""So long one request may take in all, its data included."""
PART_BYTES = 16 * 2**20
"""What is longer is sent in parts of this size, each with its own retries."""

Version = dict[str, Any]
"""Which content of an object is meant: what obstore asks for in a conditional write."""


@dataclass(frozen=True)
class StoredObject:
    """What a listing tells of an object.

    Attributes:
        name: below the store.
        size_bytes: of its content.
        modified: by the clock of the service, or of the disk's machine.
    """

    name: str
    size_bytes: int
    modified: datetime


class Objects(Protocol):
    """Bytes under names, in a folder or an object store; each is whole or not there."""

    def read(self, name: str) -> bytes | None:
        """Return what is under a name; None where nothing is."""

    def write(self, name: str, data: bytes, *, only_new: bool = False) -> bool:
        """Keep bytes under a name; return whether they are there now.

        Args:
            name: with slashes between its parts.
            data: replaces what is there.
            only_new: leave what is there; False is returned where it is something else.
        """

    def delete(self, name: str) -> None:
        """Delete what is under a name, if there is anything."""

    def names(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what there is under names that begin so; no run needs it."""


class ConditionsUnknown(Exception):
    """The service does not know conditional writes."""


class ObjectStore:
    """Objects in a bucket of S3, Google Cloud or Azure, or of what speaks as one of them.

    Args:
        address: where they are.
        answer_s: so long the service may be silent within a request.
        retry_s: after so long a request is not tried again.

    Raises:
        InputError: the address has a setting that cannot be used.
    """

    def __init__(
        self, address: ObjectAddress, *, answer_s: float = ANSWER_S, retry_s: float = RETRY_S
    ) -> None:
        self._uri = masked_uri(address.uri)
        try:
            self._store = _open(address, answer_s, retry_s)
        except (BaseError, ValueError, TypeError, OSError) as error:
            cause, mend = explain(error)
            raise InputError(f"Cannot use the store '{self._uri}': {cause}. {mend}.") from error

    def read(self, name: str) -> bytes | None:
        """Return what is under a name; None where nothing is.

        Raises:
            SurroundingsError: the service does not let it be read.
        """
        found = self.read_version(name)
        return None if found is None else found[0]

    def read_version(self, name: str) -> tuple[bytes, Version] | None:
        """Return what is under a name, and which version it is; None where nothing is.

        Raises:
            SurroundingsError: the service does not let it be read.
        """
        with self._told("read"):
            try:
                answer = obstore.get(self._store, name)
                return bytes(answer.bytes()), _version(answer.meta)
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                return None

    def write(self, name: str, data: bytes, *, only_new: bool = False) -> bool:
        """Keep bytes under a name; return whether they are there now: see `Objects.write`.

        Raises:
            SurroundingsError: the service does not let them be written.
            ConditionsUnknown: `only_new`, and the service does not know conditional writes.
        """
        if only_new:
            return self.create(name, data) is not None
        self.put(name, data)
        return True

    def put(self, name: str, data: bytes) -> Version:
        """Write or replace an object in one step; return its version.

        Raises:
            SurroundingsError: the service does not let it be written.
        """
        with self._told("write to"):
            return _version(obstore.put(self._store, name, data, chunk_size=PART_BYTES))

    def version(self, name: str) -> Version | None:
        """Return which version of an object is there; None where none is.

        Raises:
            SurroundingsError: the service does not tell it.
        """
        with self._told("read"):
            try:
                return _version(obstore.head(self._store, name))
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> Version | None:
        """Write what must not be there yet; return its version, None where something else is.

        Raises:
            SurroundingsError: the service does not let it be written.
            ConditionsUnknown: the service does not know conditional writes.
        """
        return self._put_if(name, data, "create")

    def replace(self, name: str, data: bytes, version: Version) -> Version | None:
        """Replace one version; return the new one, None where another is there by now.

        Raises:
            SurroundingsError: the service does not let it be written.
            ConditionsUnknown: the service does not know conditional writes.
        """
        return self._put_if(name, data, version)

    def delete(self, name: str) -> None:
        """Delete what is under a name, if there is anything.

        Raises:
            SurroundingsError: the service does not let it be deleted.
        """
        with self._told("delete from"), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def names(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose names begin so.

        Raises:
            SurroundingsError: the service does not let them be listed.
        """
        folder = prefix.rpartition("/")[0]
        with self._told("list"):
            for found in obstore.list(self._store, folder or None):
                for each in found:
                    if each["path"].startswith(prefix):
                        yield StoredObject(each["path"], each["size"], each["last_modified"])

    def _put_if(self, name: str, data: bytes, mode: Any) -> Version | None:
        """Write under a condition; what its answer does not tell, a look at the object does.

        A request whose answer was lost is not repeated by obstore, or fails by its own first try.
        """
        with self._told("write to"):
            try:
                return _version(obstore.put(self._store, name, data, mode=mode))
            except NotSupportedError as error:
                raise ConditionsUnknown from error
            except (AlreadyExistsError, PreconditionError):
                failed = None
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                failed = None  # the version to replace is gone
            except BaseError as error:
                if is_unsupported(error):
                    raise ConditionsUnknown from error
                failed = error

        there = self.read_version(name)
        if there is not None and there[0] == data:
            return there[1]
        if failed is not None:
            raise self._fault("write to", failed) from failed
        return None

    @contextlib.contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """Raise what obstore raises as a fault of the surroundings.

        Raises:
            SurroundingsError: in place of any error of the service.
        """
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise self._fault(verb, error) from error

    def _fault(self, verb: str, error: BaseException) -> SurroundingsError:
        cause, mend = explain(error)
        end = "" if mend.endswith("?") else "."
        message = f"Cannot {verb} the store '{self._uri}': {cause}. {mend}{end}"
        return SurroundingsError(message, mend=mend)


def _open(
    address: ObjectAddress, answer_s: float, retry_s: float
) -> S3Store | GCSStore | AzureStore:
    """Return obstore's store: it asks nothing of the service yet."""
    options: dict[str, Any] = {
        # Only where the endpoint itself says so is anything sent in the clear.
        "allow_http": (address.endpoint or "").startswith("http://"),
        "connect_timeout": timedelta(seconds=min(CONNECT_S, answer_s)),
        "read_timeout": timedelta(seconds=answer_s),
        "timeout": timedelta(seconds=REQUEST_S),
    }
    if address.ca_file is not None:
        options["root_certificate"] = address.ca_file.read_bytes()
    settings: dict[str, Any] = {
        "prefix": address.prefix or None,
        "config": dict(address.config),
        "client_options": options,
        "retry_config": {
            "max_retries": MAX_RETRIES,
            "retry_timeout": timedelta(seconds=retry_s),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
                "max_backoff": timedelta(seconds=MAX_PAUSE_S),
                "base": 2,
            },
        },
    }
    match address.service:
        case "s3":
            if address.keys is not None:
                settings["credential_provider"] = _Keys(*address.keys)
            return S3Store(address.bucket, **settings)
        case "gs":
            return GCSStore(address.bucket, **settings)
        case "az":
            return AzureStore(address.bucket, **settings)


@dataclass(frozen=True, repr=False)
class _Keys:
    """Gives obstore the keys of a URI or a profile, and no session token that is another key's."""

    key_id: str
    secret: str
    token: str | None

    def __call__(self) -> Any:
        return {
            "access_key_id": self.key_id,
            "secret_access_key": self.secret,
            "token": self.token,
            "expires_at": None,
        }


def _version(answer: Any) -> Version:
    """Return what a conditional write asks for, of what obstore tells of an object."""
    return {name: answer[name] for name in ("e_tag", "version") if answer.get(name) is not None}
