"""The nodes of a cluster, each asked what it has: by a tiny task that needs no core.

The task's own code travels to the node, so that one without Affectune can answer, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.storage.store_address import worker_variables
from tuning.ray_backend.node_report import NodeReport
from tuning.ray_backend.store_marker import StoreMarker

ANSWER_S = 25.0
"""So long all nodes together may take: each starts a process, which is slow on a busy one."""
CLOCK_ANSWER_S = 2.0
CLOCK_TRIALS = 3


@dataclass(frozen=True)
class Node:
    """A node that is alive, as the head knows it.

    Attributes:
        id: Ray's.
        name: of its machine.
        resources: such as CPU and GPU, and how many.
    """

    id: str
    name: str
    resources: Mapping[str, float]


@dataclass(frozen=True)
class ClockOffset:
    """How far a node's clock is ahead of the driver's.

    Attributes:
        seconds: ahead; behind where negative.
        bound_s: it may be so much more or less, because the question took so long.
    """

    seconds: float
    bound_s: float

    @property
    def least_s(self) -> float:
        """How much it differs at least."""
        return max(0.0, abs(self.seconds) - self.bound_s)


@dataclass(frozen=True)
class NodeAnswer:
    """What a node answered.

    Attributes:
        node: which one.
        report: None where it gave none.
        error: why not: "" where it gave no answer in time.
        clock: None where it was not asked.
    """

    node: Node
    report: NodeReport | None = None
    error: str = ""
    clock: ClockOffset | None = None


def alive_nodes() -> list[Node]:
    """Return the nodes that the head believes to be alive."""
    return [
        Node(
            id=node["NodeID"],
            name=node["NodeManagerHostname"] or node["NodeManagerAddress"],
            resources=node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def ask_nodes(marker: StoreMarker | None, *, timeout_s: float = ANSWER_S) -> list[NodeAnswer]:
    """Ask every node that is alive, all at the same time.

    Args:
        marker: in the driver's store; None: nodes are not asked for the store.
        timeout_s: so long the answers are waited for.
    """
    nodes = alive_nodes()
    look = ray.remote(_task())
    variables = {} if marker is None else worker_variables(marker.uri)
    tasks = {node.id: look.options(**_on(node)).remote(marker, variables) for node in nodes}
    done, _ = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)

    answers = []
    for node in nodes:
        task = tasks[node.id]
        if task in done:
            answers.append(_answer(node, task))
        else:
            ray.cancel(task, force=True)
            answers.append(NodeAnswer(node))
    return answers


def _answer(node: Node, task: Any) -> NodeAnswer:
    try:
        answered = ray.get(task)
    except Exception as error:  # the node may end meanwhile, or not run the task
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        return NodeAnswer(node, error=f"{type(error).__name__}: {lines[0]}")
    if isinstance(answered, str):
        return NodeAnswer(node, error=answered)
    return NodeAnswer(node, NodeReport.model_validate(answered), clock=_clock_offset(node))


def _clock_offset(node: Node) -> ClockOffset | None:
    """Ask a node for the time; the process that answered before is there still."""
    tell = ray.remote(_clock_task()).options(**_on(node))

    def ask() -> float:
        return float(ray.get(tell.remote(), timeout=CLOCK_ANSWER_S))

    try:
        return clock_offset(ask)
    except Exception:  # it has just answered, and may have ended since
        return None


def clock_offset(ask: Callable[[], float], now: Callable[[], float] = time.time) -> ClockOffset:
    """Return how far another clock is ahead of this one; of some questions the fastest counts.

    Args:
        ask: returns what the other clock says.
        now: returns what this one says.
    """
    offsets = []
    for _ in range(CLOCK_TRIALS):
        before = now()
        there = ask()
        after = now()
        offsets.append(ClockOffset(there - (before + after) / 2, abs(after - before) / 2))
    return min(offsets, key=lambda offset: offset.bound_s)


def _on(node: Node) -> dict[str, Any]:
    """Return the options of a task that runs on one node, also on one without cores."""
    return {
        "num_cpus": 0,
        "max_retries": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
    }


def _task() -> Callable[[StoreMarker | None, Mapping[str, str]], dict[str, Any] | str]:
    """Return what runs on a node; Ray sends the code of an inner function with it."""

    def look(marker: Any, variables: Mapping[str, str]) -> dict[str, Any] | str:
        try:
            from tuning.ray_backend.node_report import node_report
        except Exception as error:  # another version may raise anything
            return f"{type(error).__name__}: {error}"

        import ray as node_ray

        node = node_ray._private.worker._global_node
        folder = Path(node.get_session_dir_path()) if node is not None else None
        return node_report(marker, variables, folder).model_dump()

    return look


def _clock_task() -> Callable[[], float]:
    def tell() -> float:
        return time.time()

    return tell
