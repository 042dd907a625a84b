"""Serve's port in each replica, at which it unpickles what comes: bound to the node's own address.

By itself Serve opens it to all networks of the machine, and has no setting for that.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import ray
from ray.serve._private import replica

from pipeline.errors import AffectuneError
from pipeline.local_ray.listening import own_listeners

OPENS = "add_port_to_grpc_server"
"""Serve's function that binds a server to an address, such as [::]:0, and returns the port."""
UNKNOWN_WAY = (
    f"Ray {ray.__version__} opens the port of a replica in a way that is not known here, perhaps "
    "to everybody. Use the pinned version of Ray."
)


class ReplicaPort:
    """The port of this process, a replica's, which Serve opens only where Ray listens, too.

    On a Ray of one machine that is loopback. To be made before Serve opens it: with the replica's
    object.

    Raises:
        AffectuneError: this version of Ray opens it in another way.
    """

    def __init__(self) -> None:
        opens = getattr(replica, OPENS, None)
        if opens is None:
            raise AffectuneError(UNKNOWN_WAY)
        self._ports: set[int] = set()

        def open_on_node(server: Any, address: str) -> int:
            port: int = opens(server, f"{_node_host()}:{address.rpartition(':')[2]}")
            self._ports.add(port)
            return port

        setattr(replica, OPENS, open_on_node)

    def raise_if_open(self) -> None:
        """Refuse to serve where Serve has opened its port in another way.

        On a Ray of one machine the command looks at all processes, and says it in one sentence.
        Elsewhere Ray itself may listen at all addresses, at other ports.

        Raises:
            AffectuneError: it has.
        """
        node = _node_address()
        if ipaddress.ip_address(node).is_loopback:
            return
        at_port = [one.address for one in own_listeners() if one.port in self._ports]
        if not self._ports or any(address != node for address in at_port):
            raise AffectuneError(UNKNOWN_WAY)


def _node_host() -> str:
    address = _node_address()
    return f"[{address}]" if ":" in address else address


def _node_address() -> str:
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
