"""Who keeps a connection where there is not room for all: who waits longest for its client goes."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Protocol

IPV6_HOST_BITS = 64
"""One IPv6 client can have any address of its network's 2**64: they count as one."""


class Connection(Protocol):
    """What is asked of a connection: where its client is, and to be closed."""

    address: str

    def give_way(self) -> None:
        """Close it at once."""


class Connections:
    """The connections of one server.

    A connection waits while its client has to do something: send a request, or read the response.
    It works while the server has. Only one that waits gives way, so a client that sends its
    request at once is served however many others hold connections. It is one of the address that
    has most of them waiting: who comes from another one loses none to it.
    """

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self._all: set[Connection] = set()
        self._waiting: dict[str, dict[Connection, int]] = {}
        self._turn = itertools.count()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """Take a new connection, which waits; where it is one too many, another gives way."""
        self._all.add(connection)
        self.wait(connection)
        if len(self._all) > self.max_connections:
            victim = self._longest_waiting()
            self.remove(victim)
            victim.give_way()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._all.discard(connection)
        self.work(connection)

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for its client from now on, or still does."""
        if connection in self._all:
            at_address = self._waiting.setdefault(_network(connection.address), {})
            at_address.setdefault(connection, next(self._turn))

    def work(self, connection: Connection) -> None:
        """Note that a connection does not wait for its client."""
        network = _network(connection.address)
        at_address = self._waiting.get(network, {})
        at_address.pop(connection, None)
        if not at_address:
            self._waiting.pop(network, None)

    def _longest_waiting(self) -> Connection:
        crowded = max(map(len, self._waiting.values()))
        eldest = [
            next(iter(connections.items()))
            for connections in self._waiting.values()
            if len(connections) == crowded
        ]
        return min(eldest, key=lambda pair: pair[1])[0]


def _network(address: str) -> str:
    """Return what addresses of one client have in common."""
    if ":" not in address:
        return address

    try:
        interface = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if interface.ipv4_mapped:
        return str(interface.ipv4_mapped)
    return str(int(interface) >> IPV6_HOST_BITS)
