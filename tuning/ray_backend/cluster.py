"""Ray, started on this machine or reached on a cluster, quiet and bound to loopback."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from math import floor
from pathlib import Path

import ray
from ray._private import ray_constants

from pipeline import terminal
from pipeline.credentials.masking import masked_uri
from pipeline.environment import set_ray_tune_defaults
from pipeline.errors import AffectuneError, InputError
from pipeline.local_ray.listening import own_listeners, raise_if_reachable
from pipeline.local_ray.session import LocalRay, local_ray
from pipeline.supervisor import own_sigterm
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec

REFRESH_S = 10.0
"""So long what a cluster has is taken for granted."""
MAX_FITS_AT_A_TIME = 10_000


@contextlib.contextmanager
def cluster(address: str | None, workers: int | None) -> Iterator[Cluster]:
    """Use Ray for the time of a study; one that runs in this process already is left as it is.

    Args:
        address: of a running cluster ("auto", "ray-head:6379"); None starts Ray on this machine,
            for this study.
        workers: fits at a time on this machine; None: one per core.

    Raises:
        InputError: nothing answers at the address.
        AffectuneError: Ray cannot be started.
    """
    set_ray_tune_defaults()
    if ray.is_initialized():
        yield Cluster(None)
        return

    folder: Path | None = None
    with contextlib.ExitStack() as stack:
        if address:
            start = partial(_reach, address)
        else:
            local = stack.enter_context(local_ray())
            folder, start = local.folder, partial(_start, local, workers)
        stack.callback(ray.shutdown)
        with own_sigterm():
            start()
        # Ray prints there that a worker was lost; standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            yield Cluster(folder)


class Cluster:
    """How much runs at a time; a cluster grows and shrinks.

    Args:
        folder: Ray's own on this machine, which goes with it; None where that is not known.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._refreshed_at = float("-inf")
        self._resources: dict[str, float] = {}

    def fits_at_a_time(self, study: StudySpec) -> int:
        """Return how many fits of the study's least demanding stage run at once, at least 1."""
        if time.monotonic() - self._refreshed_at > REFRESH_S:
            self._refreshed_at, self._resources = time.monotonic(), ray.cluster_resources()

        tables = [study.table(stage) for stage in STAGES]
        return max(1, *(self._num_fits(table.cpus, table.gpus) for table in tables))

    def raise_if_too_small(self, study: StudySpec) -> None:
        """Refuse a study whose trials could never start.

        Raises:
            InputError: a stage asks for more than the largest node has.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for stage in STAGES:
            table = study.table(stage)
            for name, wanted in (("CPU", table.cpus), ("GPU", table.gpus)):
                largest = max((resources.get(name, 0.0) for resources in nodes), default=0.0)
                if wanted > largest:
                    raise InputError(
                        f"[search.{stage}] asks for {wanted:g} {name}s per trial; no node has more "
                        f"than {largest:g}. Lower {name.lower()}s, or use another cluster."
                    )

    def _num_fits(self, cpus: float, gpus: float) -> int:
        by_cpu = self._resources.get("CPU", 1.0) / cpus if cpus else float("inf")
        by_gpu = self._resources.get("GPU", 0.0) / gpus if gpus else float("inf")
        return floor(min(by_cpu, by_gpu, MAX_FITS_AT_A_TIME))


def _reach(address: str) -> None:
    """Connect to a running cluster."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"No Ray cluster answers at '{masked_uri(address)}': {error}. "
            "Start one with `ray start --head`."
        ) from error
    except Exception as error:  # Ray raises a plain Exception, too
        raise AffectuneError(
            f"The Ray cluster at '{masked_uri(address)}' cannot be used: {error}."
        ) from error


def _start(local: LocalRay, workers: int | None) -> None:
    """Start Ray on this machine, where nobody from elsewhere reaches it."""
    # Where Ray is imported already it has read its variable.
    ray_constants.ENABLE_RAY_CLUSTER = False
    for note in local.notes:
        terminal.Console(stderr=True).print(terminal.note(note), soft_wrap=True)

    before = own_listeners()
    try:
        ray.init(
            address="local",  # any other cluster on this machine is not ours
            num_cpus=workers or os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(local.folder),
        )
    except Exception as error:  # Ray raises a plain Exception where a node does not come up in time
        raise AffectuneError(
            f"Ray cannot be started: {error}. "
            "Is the disk full, the memory short, or the machine overloaded? "
            f"Ray's logs have more: {local.logs}"
        ) from error
    raise_if_reachable(before=before)
