"""Ray, started on this machine or reached on a cluster, quiet and bound to loopback."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from math import floor

import ray

from pipeline.errors import AffectuneError, InputError
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # what Tune writes is never read: the journal is the memory
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # Tune would start the trial again, and so does the agenda
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
ASKED_EVERY_S = 10.0


@contextlib.contextmanager
def cluster(address: str | None, workers: int | None) -> Iterator[Cluster]:
    """Ray for the time of a study; one that runs in this process already is used and left as it is.

    Args:
        address: of a running cluster ("auto", "ray-head:6379"); None starts Ray on this machine, for this study.
        workers: fits at a time on this machine; None: one per core.

    Raises:
        InputError: nothing answers at the address.
        AffectuneError: Ray cannot be started.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if ray.is_initialized():
        yield Cluster()
        return
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",  # whatever other cluster runs on this machine is not ours
                num_cpus=workers or os.cpu_count(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # Ray raises a plain Exception where a node does not come up in time
        if address and isinstance(error, ConnectionError | ValueError):
            raise InputError(
                f"No Ray cluster answers at '{address}': {error}. Start one with `ray start --head`."
            ) from error
        raise AffectuneError(
            f"Ray cannot be started: {error}. Is the disk full, the memory short, or the machine overloaded?"
        ) from error
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # where Ray says that a worker was lost; stdout is for results
            yield Cluster()
    finally:
        ray.shutdown()


class Cluster:
    """How much runs at a time; a cluster grows and shrinks."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._resources: dict[str, float] = {}

    def fits_at_a_time(self, study: StudySpec) -> int:
        """Fits of the study's least demanding stage that run at once, at least 1."""
        if time.monotonic() - self._asked_at > ASKED_EVERY_S:
            self._asked_at, self._resources = time.monotonic(), ray.cluster_resources()
        return max(
            1, *(self._room(study.table(stage).cpus, study.table(stage).gpus) for stage in STAGES)
        )

    def check(self, study: StudySpec) -> None:
        """Refuse a study whose trials could never start.

        Raises:
            InputError: a stage asks for more than the largest node has.
        """
        for stage in STAGES:
            for name, wanted in (
                ("CPU", study.table(stage).cpus),
                ("GPU", study.table(stage).gpus),
            ):
                most = max(
                    (node["Resources"].get(name, 0.0) for node in ray.nodes() if node["Alive"]),
                    default=0.0,
                )
                if wanted > most:
                    raise InputError(
                        f"[search.{stage}] asks for {wanted:g} {name}s per trial; no node has more than {most:g}. "
                        f"Lower {name.lower()}s, or use another cluster."
                    )

    def _room(self, cpus: float, gpus: float) -> int:
        by_cpu = self._resources.get("CPU", 1.0) / cpus if cpus else float("inf")
        by_gpu = self._resources.get("GPU", 0.0) / gpus if gpus else float("inf")
        return floor(min(by_cpu, by_gpu, 10_000))
