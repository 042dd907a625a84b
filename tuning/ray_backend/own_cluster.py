"""The Ray cluster that this machine is part of. Imports Ray only when it is asked."""

from __future__ import annotations


def running_cluster() -> str | None:
    """Return the address of the cluster that this machine is part of; None where it is of none."""
    from ray._private.services import canonicalize_bootstrap_address

    address: str | None = canonicalize_bootstrap_address("auto")
    return address
