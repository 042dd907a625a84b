"""The nodes of a cluster as a study sees them: they come, go, and may be waited for."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from math import floor

import ray
from ray.util import placement_group, remove_placement_group

from pipeline.errors import AffectuneError, InputError, SurroundingsError
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec

log = logging.getLogger(__name__)

REFRESH_S = 3.0
"""So long what a cluster has is taken for granted."""
MAX_FITS_AT_A_TIME = 10_000
POLL_S = 1.0
GONE_SAID_S, GONE_S = 15.0, 600.0
"""In mid-study the nodes may all be gone for so long before that is told, and before it ends."""

Demand = dict[str, float]
"""What a trial asks for: "CPU" and "GPU" -> how many."""


class NodesInUse:
    """What the nodes of the cluster that this process is connected to have together, and each.

    Args:
        wait_s: so long nodes are waited for that have what a trial asks for.
        list_nodes: returns Ray's description of all nodes.
        seconds: tells the time.

    Attributes:
        fault: set where no trial could run for too long.
    """

    def __init__(
        self,
        *,
        wait_s: float = 0.0,
        list_nodes: Callable[[], list[dict[str, object]]] = lambda: ray.nodes(),
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: SurroundingsError | None = None
        self._wait_s = wait_s
        self._list_nodes, self._seconds = list_nodes, seconds
        self._refreshed_at = float("-inf")
        self._nodes: list[Demand] = []
        self._usable_at = seconds()
        self._has_said = False

    def fits_at_a_time(self, study: StudySpec) -> int:
        """Return how many fits of the study's least demanding stage run at once, at least 1."""
        if self._seconds() - self._refreshed_at > REFRESH_S:
            self._refresh()
            self._watch(study)

        return max(1, *(self._num_fits(demand) for demand in _demands(study).values()))

    def wait_for(self, study: StudySpec, find_fault: Callable[[], AffectuneError | None]) -> None:
        """Wait until a node has what a trial of each stage asks for.

        Args:
            study: what is to run.
            find_fault: returns why it is no use to wait any longer.

        Raises:
            InputError: no such node has come in time.
            AffectuneError: what `find_fault` returned.
        """
        until = self._seconds() + self._wait_s
        with contextlib.ExitStack() as stack:
            has_said = False
            while lack := self._lack(study):
                if self._seconds() >= until:
                    waited = f" None came within {self._wait_s:.0f} s." if self._wait_s else ""
                    raise InputError(f"{lack}.{waited} {_MEND}")
                if (fault := find_fault()) is not None:
                    raise fault
                if not has_said:
                    has_said = True
                    log.warning("%s. Waiting for one, at most %.0f s.", lack, self._wait_s)
                    stack.enter_context(_asked_for(list(_demands(study).values())))
                time.sleep(POLL_S)
        self._usable_at = self._seconds()

    def _lack(self, study: StudySpec) -> str | None:
        """Return which stage asks for more than any node has."""
        self._refresh()
        for stage, demand in _demands(study).items():
            if any(_fits(demand, node) for node in self._nodes):
                continue
            wanted = " and ".join(f"{number:g} {name}s" for name, number in demand.items())
            largest = {
                name: max((node.get(name, 0.0) for node in self._nodes), default=0.0)
                for name in demand
            }
            most = " and ".join(f"{number:g} {name}s" for name, number in largest.items())
            return f"[search.{stage}] asks for {wanted} per trial; no node has more than {most}"
        return None

    def _refresh(self) -> None:
        # While the head is away the last answer counts.
        with contextlib.suppress(Exception):
            found = self._list_nodes()
            self._nodes = [dict(node["Resources"]) for node in found if node["Alive"]]  # type: ignore[call-overload]
        self._refreshed_at = self._seconds()

    def _watch(self, study: StudySpec) -> None:
        """Take note of a time in which no node can run any trial."""
        demands = _demands(study).values()
        if any(_fits(demand, node) for demand in demands for node in self._nodes):
            if self._has_said:
                log.warning("Nodes are there again; the study goes on.")
            self._usable_at, self._has_said = self._seconds(), False
            return

        gone_s, bound_s = self._seconds() - self._usable_at, max(GONE_S, self._wait_s)
        if gone_s > bound_s:
            self.fault = SurroundingsError(
                f"No node of the cluster could run a trial for {gone_s:.0f} s. What was trained is "
                "kept. Start nodes; the same command with --resume goes on.",
                mend="Start nodes",
            )
        elif gone_s > GONE_SAID_S and not self._has_said:
            self._has_said = True
            log.warning(
                "No node of the cluster can run a trial. The study waits for nodes, at most %.0f "
                "min.",
                bound_s / 60,
            )

    def _num_fits(self, demand: Demand) -> int:
        most = float(MAX_FITS_AT_A_TIME)
        for name, number in demand.items():
            most = min(most, sum(node.get(name, 0.0) for node in self._nodes) / number)
        return floor(most)


_MEND = (
    "Lower it in the study, use another cluster, or let it wait for nodes that are being started "
    "with --wait-for-nodes 10m."
)


def _demands(study: StudySpec) -> dict[str, Demand]:
    """Return what a trial of each stage asks for, zeros left out."""
    tables = {stage: study.table(stage) for stage in STAGES}
    return {
        stage: {
            name: float(number)
            for name, number in (("CPU", table.cpus), ("GPU", table.gpus))
            if number
        }
        for stage, table in tables.items()
    }


def _fits(demand: Demand, node: Demand) -> bool:
    return all(number <= node.get(name, 0.0) for name, number in demand.items())


@contextlib.contextmanager
def _asked_for(demands: list[Demand]) -> Iterator[None]:
    """Let an autoscaler know what is waited for: as a reservation that cannot be made yet."""
    groups = [placement_group([demand]) for demand in demands if demand]
    try:
        yield
    finally:
        for group in groups:
            with contextlib.suppress(Exception):  # the head may be lost
                remove_placement_group(group)
