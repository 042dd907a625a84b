"""A store in memory that refuses a request now and then, or has an answer lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

from pipeline.errors import InputError, SurroundingsError
from pipeline.storage.object_store import StoredObject


class FaultyObjects:
    """Objects in memory.

    Args:
        seed: of the faults.
        share: of the requests that fail; half of them after they were carried out.

    Attributes:
        content: name -> bytes.
    """

    def __init__(self, seed: int = 0, share: float = 0.0) -> None:
        self.content: dict[str, bytes] = {}
        self._random, self.share = Random(seed), share

    def read(self, name: str, *, max_bytes: int | None = None) -> bytes | None:
        """Return what is under a name."""
        self._fail()
        data = self.content.get(name)
        if data is not None and max_bytes is not None and len(data) > max_bytes:
            raise InputError("too long")
        return data

    def write(self, name: str, data: bytes, *, only_new: bool = False) -> bool:
        """Keep bytes under a name."""
        self._fail()
        if not only_new or name not in self.content:
            self.content[name] = data
            self._fail()
        return self.content[name] == data

    def delete(self, name: str) -> None:
        """Delete what is under a name."""
        self._fail()
        self.content.pop(name, None)
        self._fail()

    def names(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what there is."""
        self._fail()
        for name, data in sorted(self.content.items()):
            if name.startswith(prefix):
                yield StoredObject(name, len(data), datetime.now(UTC))

    def _fail(self) -> None:
        if self._random.random() < self.share:
            raise SurroundingsError("The store is away.", mend="Wait")
