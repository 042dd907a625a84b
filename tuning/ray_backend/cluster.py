"""Ray, started on this machine or reached on a cluster, quiet and bound to loopback."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._raylet import Config  # type: ignore[attr-defined] # in C++

from pipeline import terminal
from pipeline.credentials.masking import masked_uri
from pipeline.environment import set_ray_tune_defaults
from pipeline.errors import AffectuneError, InputError
from pipeline.local_ray.listening import own_listeners, raise_if_reachable
from pipeline.local_ray.session import LocalRay, local_ray
from pipeline.supervisor import go_on_after_loss, own_sigterm
from tuning.ray_backend.abandoned_groups import NAMESPACE, remove_abandoned_groups
from tuning.ray_backend.head_watch import HeadWatch
from tuning.ray_backend.joined_node import node_of
from tuning.ray_backend.nodes_in_use import NodesInUse
from tuning.spec.study_spec import StudySpec

CLEAN_S = 60.0
"""So often what other drivers have left behind is looked for; Ray may still be at it at first."""


@contextlib.contextmanager
def cluster(
    address: str | None,
    workers: int | None,
    *,
    wait_for_nodes_s: float = 0.0,
    is_head_waited_for: bool = False,
) -> Iterator[Cluster]:
    """Use Ray for the time of a study; one that runs in this process already is left as it is.

    Args:
        address: of a running cluster ("ray-head:6379"), which has answered; None starts Ray on this
            machine, for this study.
        workers: fits at a time on this machine; None: one per core.
        wait_for_nodes_s: so long nodes are waited for that have what a trial asks for.
        is_head_waited_for: after the loss of the head, this command is started again.

    Raises:
        InputError: nothing answers at the address.
        AffectuneError: Ray cannot be started.
    """
    set_ray_tune_defaults()
    if ray.is_initialized():
        yield Cluster(None)
        return

    folder: Path | None = None
    watch: HeadWatch | None = None
    with contextlib.ExitStack() as stack:
        if address:
            watch = HeadWatch(address, is_waited_for=is_head_waited_for)
            stack.enter_context(watch.watching())
            # What was agreed on with the head, such as a token, Ray has read before.
            Config.initialize("")
            stack.enter_context(node_of(address))
            start = partial(_reach, address)
        else:
            local = stack.enter_context(local_ray())
            folder, start = local.folder, partial(_start, local, workers)
        stack.callback(_shut_down, watch)
        with own_sigterm():
            start()
        if is_head_waited_for:
            go_on_after_loss()
        # Ray prints there that a worker was lost; standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            yield Cluster(folder, address=address, watch=watch, wait_for_nodes_s=wait_for_nodes_s)


class Cluster:
    """How much runs at a time; a cluster grows, shrinks, and may be lost.

    Args:
        folder: Ray's own on this machine, which goes with it; None where that is not known.
        address: of the head; None where Ray is this process's own.
        watch: over the head; None likewise.
        wait_for_nodes_s: so long nodes are waited for that have what a trial asks for.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        address: str | None = None,
        watch: HeadWatch | None = None,
        wait_for_nodes_s: float = 0.0,
    ) -> None:
        self.folder = folder
        self._address, self._watch = address, watch
        self._cleaned_at = float("-inf")
        self._nodes = NodesInUse(wait_s=wait_for_nodes_s)

    @property
    def fault(self) -> AffectuneError | None:
        """Why the study cannot go on here; None while it can."""
        lost = self._watch.fault if self._watch else None
        return lost or self._nodes.fault

    def loss_behind(self, error: Exception) -> AffectuneError | None:
        """Return the loss of the cluster that an error of Ray comes from; None where it lives."""
        return self.fault or (self._watch.loss_behind(error) if self._watch else None)

    def fits_at_a_time(self, study: StudySpec) -> int:
        """Return how many fits of the study's least demanding stage run at once, at least 1."""
        if self._address and time.monotonic() - self._cleaned_at > CLEAN_S:
            remove_abandoned_groups(self._address)
            self._cleaned_at = time.monotonic()
        return self._nodes.fits_at_a_time(study)

    def raise_if_too_small(self, study: StudySpec) -> None:
        """Refuse a study whose trials could never start, after nodes were waited for.

        Raises:
            InputError: a stage asks for more than the largest node has.
            AffectuneError: the cluster was lost meanwhile.
        """
        self._nodes.wait_for(study, lambda: self.fault)


def _reach(address: str) -> None:
    """Connect to a running cluster."""
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"No Ray cluster answers at '{masked_uri(address)}': {error}. "
            "Start one with `ray start --head`."
        ) from error
    except Exception as error:  # Ray raises a plain Exception, too
        raise AffectuneError(
            f"The Ray cluster at '{masked_uri(address)}' cannot be used: {error}."
        ) from error


def _shut_down(watch: HeadWatch | None) -> None:
    """Let go of Ray, unless its head is lost: that would wait for it."""
    if watch is None or watch.fault is None:
        ray.shutdown()


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
            f"Ray cannot be started: {str(error).rstrip('.')}. "
            "Is the disk full, the memory short, or the machine overloaded? "
            f"Ray's logs have more: {local.logs}"
        ) from error
    raise_if_reachable(before=before)
