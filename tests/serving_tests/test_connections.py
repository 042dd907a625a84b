"""Which connection gives way when there are too many."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from serving.proxy.connections import Connections


@dataclass(eq=False)
class Client:
    """A connection that only notes that it was closed."""

    address: str = "127.0.0.1"
    is_closed: bool = False

    def give_way(self) -> None:
        self.is_closed = True


def closed(clients: list[Client]) -> list[int]:
    """Return which of some clients were closed, by their places in the list."""
    return [place for place, client in enumerate(clients) if client.is_closed]


def filled(addresses: list[str], max_connections: int) -> tuple[Connections, list[Client]]:
    connections = Connections(max_connections)
    clients = [Client(address) for address in addresses]
    for client in clients:
        connections.add(client)
    return connections, clients


def test_who_has_waited_longest_gives_way() -> None:
    connections, clients = filled(["127.0.0.1"] * 5, 3)
    assert closed(clients) == [0, 1]
    assert len(connections) == 3


def test_who_is_served_gives_way_to_nobody() -> None:
    connections, clients = filled(["127.0.0.1"] * 3, 3)
    connections.work(clients[0])
    connections.work(clients[1])

    newest = Client()
    connections.add(newest)
    assert closed([*clients, newest]) == [2]


def test_the_newest_gives_way_where_all_others_are_served() -> None:
    connections, clients = filled(["127.0.0.1"] * 3, 3)
    for client in clients:
        connections.work(client)

    newest = Client()
    connections.add(newest)
    assert closed([*clients, newest]) == [3]


def test_a_slow_client_does_not_become_young_by_sending_a_byte() -> None:
    connections, clients = filled(["127.0.0.1"] * 3, 3)
    connections.wait(clients[0])  # a byte came; the request is not whole
    connections.add(Client())
    assert closed(clients) == [0]


def test_who_was_served_waits_anew() -> None:
    connections, clients = filled(["127.0.0.1"] * 3, 3)
    connections.work(clients[0])
    connections.wait(clients[0])
    connections.add(Client())
    assert closed(clients) == [1]


def test_what_was_closed_leaves_room() -> None:
    connections, clients = filled(["127.0.0.1"] * 3, 3)
    connections.remove(clients[1])
    connections.add(Client())
    assert closed(clients) == []


@pytest.mark.parametrize(
    ("crowd", "other"),
    [
        (["10.0.0.1"] * 5, "10.0.0.2"),
        ([f"2001:db8::{number}" for number in range(1, 6)], "2001:db8:0:1::1"),
        ([f"fe80::{number}%eth0" for number in range(1, 6)], "127.0.0.1"),
        ([f"::ffff:10.0.0.{number}" for number in (1, 1, 1, 1, 1)], "::ffff:10.0.0.2"),
    ],
    ids=["IPv4", "one network of IPv6", "link-local", "mapped"],
)
def test_a_crowd_at_one_address_takes_none_from_another(crowd: list[str], other: str) -> None:
    _, clients = filled([other, *crowd, *crowd], 4)
    assert 0 not in closed(clients)
    assert len(closed(clients)) == 7


def test_an_address_that_is_none_is_one_like_any_other() -> None:
    _, clients = filled(["", "no:address", "", ""], 2)
    assert len(closed(clients)) == 2
