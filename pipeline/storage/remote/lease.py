"""A lease on a name in an object store: one process at a time has it, and loses it by ending.

Taken, renewed and given back by conditional writes. No clock is compared with another one's: a
lease is over when whoever waits for it has seen it unchanged for as long as it lasts.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType

from pipeline.errors import SurroundingsError
from pipeline.storage.object_store import ObjectStore, Version

log = logging.getLogger(__name__)

FOLDER = "leases"
"""Where the leases are, in a store. One that was not modified for an hour is nobody's."""
LEASE_S = 20.0
"""After so long without a renewal others may take it over."""
RENEWED_S = 5.0
POLL_S = 1.0
"""So often who waits for a lease looks at it."""


class Lease:
    """The right to be the only one who works on a name; use it as a context manager.

    It is renewed by a thread of its own until it is given back.

    Args:
        objects: the store.
        name: what is to be worked on.
        timeout_s: so long another one's lease is waited for; then the work is done without.
        lease_s: how long it lasts without a renewal. All processes of a store use the same.
        renewed_s: after so long each time it is renewed.
        last: how this process gave the same lease back before, if it did.

    Attributes:
        is_held: nobody else has it, as far as is known.
        last: how it was given back; None where it was not.
    """

    def __init__(
        self,
        objects: ObjectStore,
        name: str,
        *,
        timeout_s: float,
        lease_s: float = LEASE_S,
        renewed_s: float = RENEWED_S,
        last: Version | None = None,
    ) -> None:
        self.is_held, self.last = False, last
        self._objects, self._name = objects, f"{FOLDER}/{name}.json"
        self._timeout_s, self._lease_s = timeout_s, lease_s
        self._renewed_s = renewed_s
        self._owner = {"owner": uuid.uuid4().hex, **_process()}
        self._version: Version = {}
        self._is_over = threading.Event()
        self._renewal: threading.Thread | None = None

    def __enter__(self) -> Lease:
        """Take the lease, or wait until it is free.

        Raises:
            SurroundingsError: the service refuses.
            ConditionsUnknown: it does not know conditional writes.
        """
        version, self.last = self._take(), None
        if version is not None:
            self._version, self.is_held = version, True
            self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
            self._renewal.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back; where that fails, it ends by itself."""
        self._is_over.set()
        if self._renewal is not None:
            self._renewal.join()
        if self.is_held:
            self.is_held = False
            try:
                content = self._content(is_free=True)
                self.last = self._objects.replace(self._name, content, self._version)
            except SurroundingsError as fault:
                log.debug("A lease is left to its end: %s", fault)

    def _take(self) -> Version | None:
        """Return the version of the lease once it is ours; None where it is waited for too long."""
        if self.last is None:
            version = self._objects.create(self._name, self._content())
        else:
            version = self._objects.replace(self._name, self._content(), self.last)
        begin, seen_at, seen = time.monotonic(), 0.0, b""
        while version is None:
            found = self._objects.read_version(self._name)
            if found is None:
                version = self._objects.create(self._name, self._content())
                continue
            if found[0] != seen:
                seen, seen_at = found[0], time.monotonic()
            if _is_free(seen) or time.monotonic() - seen_at > self._lease_s:
                version = self._objects.replace(self._name, self._content(), found[1])
                continue
            left_s = self._timeout_s - (time.monotonic() - begin)
            if left_s <= 0:
                return None
            time.sleep(min(POLL_S, left_s))
        return version

    def _renew(self) -> None:
        """Renew the lease until it is over, or another one's."""
        while not self._is_over.wait(self._renewed_s):
            try:
                version = self._objects.replace(self._name, self._content(), self._version)
            except SurroundingsError as fault:  # it may be well before the lease is over
                log.debug("A lease could not be renewed: %s", fault)
                continue
            if version is None:
                self.is_held = False
                log.warning(
                    "Another process has taken over what this one is working on: it could not "
                    "say for %.0f s that it is alive.",
                    self._lease_s,
                )
                return
            self._version = version

    def _content(self, *, is_free: bool = False) -> bytes:
        """Return what is written: new each time, so that a renewal is seen, and our own known."""
        told = {**self._owner, "is_free": is_free, "write": uuid.uuid4().hex}
        return json.dumps(told).encode()


def _process() -> dict[str, object]:
    """Return which process this is among all of its host, for as long as that runs; else {}."""
    try:
        return {"host": _host(), "process": os.getpid(), "started": _started(os.getpid())}
    except (OSError, LookupError):  # no Linux
        return {}


def _host() -> str:
    """Name the running kernel and the processes that are seen from here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(process: int) -> str:
    """Return when a process was started, in the kernel's own count."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def _is_free(content: bytes) -> bool:
    """Return whether a lease was given back, or its process is known to have ended: on this host.

    One that cannot be read is nobody's, too.
    """
    try:
        told = json.loads(content)
        if told["is_free"]:
            return True
        if not told.get("host") or told["host"] != _host():
            return False
        return bool(_started(int(told["process"])) != told["started"])
    except FileNotFoundError:
        return True
    except (OSError, LookupError, TypeError, ValueError):
        return not content.startswith(b"{")
