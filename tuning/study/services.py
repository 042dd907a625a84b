"""What a study needs from outside, asked for an answer before anything is read, made or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.cluster_address import find_cluster
from pipeline.errors import InputError
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.stage_store import raise_if_not_writable
from pipeline.storage.surroundings import mend_of
from tuning.mlflow_backend.tracking.study_runs import raise_if_unknown


def find_services(
    study: str,
    folder: Path,
    address: str | None,
    store: str,
    tracking_uri: str | None,
    *,
    wait_for_cluster_s: float = 0.0,
    on_wait: Callable[[str], None] = lambda reason: None,
) -> str | None:
    """Ask the cluster, the store and the tracking server, each for seconds at most.

    Args:
        study: its name, which is that of its experiment.
        folder: of the study; it need not be there.
        address: of a Ray cluster, as it was given; None: what RAY_ADDRESS says.
        store: a folder or a URI.
        tracking_uri: of the tracking server; None: nothing is tracked.
        wait_for_cluster_s: so long a head that does not answer is waited for.
        on_wait: called once, with why it is waited for.

    Returns:
        The address of the cluster; None for this machine alone.

    Raises:
        InputError: one of them gives no answer, or another one than it should; or the folder
            cannot be written.
    """
    cluster = find_cluster(address, _running_cluster, wait_s=wait_for_cluster_s, on_wait=on_wait)
    try:
        prove_writable(folder)
    except OSError as error:
        raise InputError(
            f"--out '{folder}' cannot be written: '{error.filename}': {error.strerror}. "
            f"{mend_of(error) or 'Correct it'}, or choose another folder."
        ) from error
    raise_if_not_writable(store)
    if tracking_uri is not None:
        raise_if_unknown(tracking_uri, study)
    return cluster


def _running_cluster() -> str | None:
    """Return the address of the cluster that this machine is part of."""
    from ray._private.services import canonicalize_bootstrap_address

    address: str | None = canonicalize_bootstrap_address("auto")
    return address
