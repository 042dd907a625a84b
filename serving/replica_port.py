"""Serve's port in each replica, at which it unpickles what comes: bound to the node's own address.

By itself Serve opens it to all networks of the machine, and has no setting for that.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import ray
from ray.serve._private import replica

from pipeline.errors import AffectuneError
from pipeline.local_ray.listening import raise_if_reachable

OPENS = "add_port_to_grpc_server"
"""Serve's function that binds a server to an address, such as [::]:0, and returns the port."""


def bind_to_node() -> None:
    """Have Serve open the port of this process, a replica's, only where Ray listens, too.

    On a Ray of one machine that is loopback. To be called before Serve opens it: when the replica's
    object is made.

    Raises:
        AffectuneError: this version of Ray opens it in another way.
    """
    if not hasattr(replica, OPENS):
        raise AffectuneError(
            f"Ray {ray.__version__} opens the port of a replica in a way that is not known here, "
            "perhaps to everybody. Use the pinned version of Ray."
        )
    opens = getattr(replica, OPENS)

    def open_on_node(server: Any, address: str) -> int:
        port: int = opens(server, f"{_node_host()}:{address.rpartition(':')[2]}")
        return port

    setattr(replica, OPENS, open_on_node)


def raise_if_open() -> None:
    """Refuse to serve where this process, a replica's, listens at other addresses than Ray.

    On a Ray of one machine the command looks at all processes, and says it in one sentence.

    Raises:
        AffectuneError: it does.
    """
    address = _node_address()
    if not ipaddress.ip_address(address).is_loopback:
        raise_if_reachable(address=address)


def _node_host() -> str:
    address = _node_address()
    return f"[{address}]" if ":" in address else address


def _node_address() -> str:
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
