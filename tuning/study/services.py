"""What a study needs from outside, asked for an answer before anything is read, made or written."""

from __future__ import annotations

from pipeline.cluster_address import find_cluster
from pipeline.storage.stage_store import raise_if_not_writable
from tuning.mlflow_backend.tracking.study_runs import raise_if_unknown


def find_services(
    study: str, address: str | None, store: str, tracking_uri: str | None
) -> str | None:
    """Ask the cluster, the store and the tracking server, each for seconds at most.

    Args:
        study: its name, which is that of its experiment.
        address: of a Ray cluster, as it was given; None: what RAY_ADDRESS says.
        store: a folder or a URI.
        tracking_uri: of the tracking server; None: nothing is tracked.

    Returns:
        The address of the cluster; None for this machine alone.

    Raises:
        InputError: one of them gives no answer, or another one than it should.
    """
    cluster = find_cluster(address, _running_cluster)
    raise_if_not_writable(store)
    if tracking_uri is not None:
        raise_if_unknown(tracking_uri, study)
    return cluster


def _running_cluster() -> str | None:
    """Return the address of the cluster that this machine is part of."""
    from ray._private.services import canonicalize_bootstrap_address

    address: str | None = canonicalize_bootstrap_address("auto")
    return address
