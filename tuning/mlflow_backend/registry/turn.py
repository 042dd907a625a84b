"""One at a time: whoever changes the aliases of a registered model waits for a turn.

MLflow sets an alias whatever it is, so two that look first and then set it both believe that they
were alone. A turn is taken by Lamport's bakery algorithm, for which it is enough that tags are
written and read: each process has a tag of its own on the registered model.

Lamport, L. (1974): A new solution of Dijkstra's concurrent programming problem. CACM 17 (8).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.errors import AffectuneError

if TYPE_CHECKING:
    from mlflow import MlflowClient

TURN_TAG = "affectune.turn."
"""What the key of such a tag begins with; its value is the number of the turn."""
DRAWING = "0"
"""The value while a number is being drawn: before it is known, nobody has a turn."""
MAX_DIGITS = 9
POLL_S = 0.2
TURN_S = 20.0
"""So long a turn lasts: after it nothing is changed any more."""
ABANDONED_S = 60.0
"""A first in line that stays so for so long belongs to a process that is no more. It is longer than
a turn, a request that was sent at its end (see `connect`), and the last look before it."""
PATIENCE_S = 240.0


class Turn:
    """The turn of this process, which is over after a while."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._end = time.monotonic() + TURN_S

    def raise_if_over(self) -> None:
        """Ask this before every change.

        Raises:
            AffectuneError: the registry is so slow that the turn of another may have begun.
        """
        if time.monotonic() > self._end:
            raise AffectuneError(
                f"The registry took more than {TURN_S:.0f} s to change '{self._name}', so it was "
                "given up half way. Look at `affectune registry show`, and run the command again."
            )


@contextmanager
def turn(client: MlflowClient, name: str, identity: str | None = None) -> Iterator[Turn]:
    """Wait for a turn to change the aliases of a registered model; nobody else has one meanwhile.

    Args:
        client: of the registry.
        name: of the model.
        identity: of who waits, for one who may come again; default: a new one.

    Raises:
        AffectuneError: others had all turns for minutes, or took this process for dead.
    """
    own = TURN_TAG + (identity or uuid.uuid4().hex)
    try:
        client.set_registered_model_tag(name, own, DRAWING)
        number = 1 + max(_turns(client, name).values(), default=0)
        client.set_registered_model_tag(name, own, str(number))
        _wait(client, name, (number, own))
        yield Turn(name)
    finally:
        _remove(client, name, own)


def _wait(client: MlflowClient, name: str, own: tuple[int, str]) -> None:
    """Wait until nobody is before this one."""
    begin = first_since = time.monotonic()
    first: tuple[int, str] | None = None
    while True:
        in_line = {(number, key) for key, number in _turns(client, name).items()}
        before = min(in_line, default=own)
        if before == own and own in in_line:
            return

        now = time.monotonic()
        if own not in in_line or now - begin > PATIENCE_S:
            raise AffectuneError(
                f"Others are changing which version of '{name}' is the champion. Wait for them, "
                "and run the command again."
            )
        if before != first:
            first, first_since = before, now
        elif now - first_since > ABANDONED_S:
            _remove(client, name, before[1])
        time.sleep(POLL_S)


def _turns(client: MlflowClient, name: str) -> dict[str, int]:
    """Return key -> number of every turn that is had or wanted; 0 where it is being drawn."""
    tags = client.get_registered_model(name).tags
    return {key: _number(value) for key, value in tags.items() if key.startswith(TURN_TAG)}


def _number(value: str) -> int:
    is_number = value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS
    return int(value) if is_number else int(DRAWING)


def _remove(client: MlflowClient, name: str, key: str) -> None:
    """Remove a tag; where that fails twice, it is left behind, and counts as abandoned in time."""
    for _ in range(2):
        with suppress(Exception):  # MLflow and the network raise errors of many kinds
            client.delete_registered_model_tag(name, key)
            return
