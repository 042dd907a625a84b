"""What keeps the nodes of a cluster from running a study's trials, in sentences that name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline import terminal
from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError
from tuning.ray_backend.node_report import NodeReport, Room
from tuning.ray_backend.nodes import ANSWER_S, NodeAnswer, ask_nodes
from tuning.ray_backend.store_marker import StoreMarker

MB = 2**20
FULL_BYTES, SCARCE_BYTES = 200 * MB, 2048 * MB
"""Of a disk: below the first nothing can be written soon, below the second perhaps."""
SMALL_SHM_BYTES = 256 * MB
SKEW_S = 2.0
"""Clocks that differ by less are set by the network."""
MAX_NAMES = 8
NODES = "{nodes}"
"""In a sentence, where the names of the nodes come."""
SAME = "install the driver's version there, and start Ray there anew"


@dataclass(frozen=True)
class NodeFault:
    """What is wrong with some nodes.

    Attributes:
        said: a sentence without a full stop.
        mend: what to do, without a full stop and in small letters.
        is_error: it is to be mended; else it may be well.
        is_refused: no trial could run there as it should, so no study begins.
    """

    said: str
    mend: str
    is_error: bool = False
    is_refused: bool = False


def check_nodes(marker: StoreMarker) -> None:
    """Ask all nodes of the cluster whether trials can run there; print what is doubtful.

    Args:
        marker: in the driver's store.

    Raises:
        InputError: some nodes have another version or another store.
    """
    faults = node_faults(ask_nodes(marker), marker)
    raise_if_refused(faults)
    for fault in faults:
        note = terminal.note(f"{fault.said}: {fault.mend}.")
        terminal.Console(stderr=True).print(note, soft_wrap=True)


def raise_if_refused(faults: Sequence[NodeFault]) -> None:
    """Refuse a cluster some of whose nodes would spoil, or fail, every trial that they get.

    Raises:
        InputError: it has such nodes.
    """
    refused = [fault for fault in faults if fault.is_refused]
    if refused:
        said = ". ".join(f"{fault.said}: {fault.mend}" for fault in refused)
        raise InputError(f"{said}. Or take these nodes out of the cluster (`ray stop` there).")


def node_faults(
    answers: Sequence[NodeAnswer], marker: StoreMarker | None, own: NodeReport | None = None
) -> list[NodeFault]:
    """Return what is wrong, each kind once, with the names of the nodes that have it.

    Args:
        answers: of all nodes.
        marker: in the driver's store, if they were asked for it.
        own: what the driver says of itself; None: it is asked.
    """
    own = own or _driver_report()
    names: dict[NodeFault, list[str]] = {}
    for answer in answers:
        for fault in _faults_of(answer, own, marker):
            names.setdefault(fault, []).append(answer.node.name)
    return [
        NodeFault(
            fault.said.replace(NODES, _joined(nodes)), fault.mend, fault.is_error, fault.is_refused
        )
        for fault, nodes in names.items()
    ]


def _driver_report() -> NodeReport:
    from tuning.ray_backend.node_report import node_report

    return node_report(None, {}, None)


def _faults_of(
    answer: NodeAnswer, own: NodeReport, marker: StoreMarker | None
) -> Iterator[NodeFault]:
    report = answer.report
    if report is None and not answer.error:
        said = f"{NODES}: no answer within {ANSWER_S:.0f} s"
        yield NodeFault(said, "is it overloaded, or cut off from the driver?", is_error=True)
    elif report is None:
        said = f"{NODES}: Affectune's code cannot run there ({answer.error.rstrip('.')})"
        yield NodeFault(said, SAME, is_error=True, is_refused=True)
    else:
        yield from _version_faults(report, own)
        yield from _store_faults(report, marker)
        yield from _room_faults(report)
        yield from _clock_faults(answer)


def _version_faults(report: NodeReport, own: NodeReport) -> Iterator[NodeFault]:
    def other(name: str, there: str, here: str) -> NodeFault:
        said = f"{NODES}: {name} is {there}, and the driver's is {here}"
        return NodeFault(said, SAME, is_error=True, is_refused=True)

    if _minor(report.python) != _minor(own.python):
        yield other("Python", report.python, own.python)
    for name, here in own.versions.items():
        there = report.versions.get(name)
        if there == here or (there is None and name == "affectune"):
            continue
        if name in ("affectune", "ray"):
            yield other(name.title(), there or "missing", here)
        else:  # the same fit may then learn other weights
            said = f"{NODES}: {name} is {there or 'missing'}, and the driver's is {here}"
            yield NodeFault(said, SAME)
    if report.code != own.code:
        said = f"{NODES}: the code of Affectune is not the driver's, whatever its version says"
        yield NodeFault(said, SAME, is_error=True, is_refused=True)


def _store_faults(report: NodeReport, marker: StoreMarker | None) -> Iterator[NodeFault]:
    if marker is not None and report.store_fault:
        said = f"The store '{masked_uri(marker.uri)}' on {NODES} {report.store_fault}"
        yield NodeFault(said, marker.mend, is_error=True, is_refused=True)


def _room_faults(report: NodeReport) -> Iterator[NodeFault]:
    mend = "make room there"
    for room in _distinct(report.disks):
        said = f"{NODES}: '{room.folder}' has {room.free // MB} MB free"
        if room.free < FULL_BYTES:
            yield NodeFault(f"{said}, and trials there will wait for room", mend, is_error=True)
        elif room.free < SCARCE_BYTES:
            yield NodeFault(said, mend)
    if report.shm is None:
        said = f"{NODES}: there is no '/dev/shm', so Ray uses a disk in its place"
        yield NodeFault(said, "mount a tmpfs there")
    elif report.shm.total < SMALL_SHM_BYTES:
        said = f"{NODES}: '/dev/shm' has {report.shm.total // MB} MB, so Ray uses a disk"
        yield NodeFault(said, "give a container more with --shm-size=1g")


def _clock_faults(answer: NodeAnswer) -> Iterator[NodeFault]:
    clock = answer.clock
    if clock is not None and clock.least_s > SKEW_S:
        direction = "ahead of" if clock.seconds > 0 else "behind"
        said = (
            f"{NODES}: the clock is {abs(clock.seconds):.1f} s {direction} the driver's "
            f"(within {clock.bound_s:.1f} s)"
        )
        mend = "set it by the network (chrony, ntp); a study's own times are the driver's"
        yield NodeFault(said, mend)


def _distinct(rooms: Iterable[Room]) -> list[Room]:
    """Return one room of each disk: two folders on one have the same figures."""
    found: dict[tuple[int, int], Room] = {}
    for room in rooms:
        found.setdefault((room.total, room.free // MB), room)
    return list(found.values())


def _joined(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return shown + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
