"""What a Ray cluster answers: whether it lives, whether it takes this token, what its nodes have.

Ray may wait for minutes, or end the process that asks: another process is that one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from pipeline.cluster_address import find_cluster
from pipeline.credentials.outlets import mask_outlets
from pipeline.doctor.finding import Finding, Status, finding_of
from pipeline.errors import AffectuneError
from pipeline.local_ray.head import asks_for_token
from tuning.ray_backend.own_cluster import running_cluster

CHECK, TOKEN, NODES = "Ray cluster", "Ray token", "nodes"
OPEN = (
    "On every node: `export RAY_AUTH_MODE=token` and the same ~/.ray/auth_token (`ray "
    "get-auth-token --generate` makes one), then start Ray there anew"
)
CONNECT_S = 90.0
"""So long Ray may take for a connection and the answers of its nodes."""
CODE = "from tuning.doctor.cluster import main; main()"
NO_ANSWER = "Is a firewall between this machine and the nodes? All ports of Ray must be open to it"
GB = 2**30


def check_cluster(address: str | None, store: str | None) -> Iterator[Finding]:
    """Ask the cluster that a study would use.

    Args:
        address: as a person gave it; None: what RAY_ADDRESS says.
        store: of the study, which all nodes have to share; None: they are not asked for it.
    """
    try:
        found = find_cluster(address, running_cluster)
    except AffectuneError as error:
        yield finding_of(CHECK, error)
        return
    if found is None:
        yield Finding(CHECK, "ok", "none is asked for: studies run on this machine alone")
        return

    yield _token_finding(found)
    yield from _ask_in_other_process(found, store)


def _token_finding(address: str) -> Finding:
    """Say whether a head that has let us in lets everybody in."""
    if asks_for_token(address):
        return Finding(TOKEN, "ok", f"'{address}' asks for a token, and takes ours")
    said = f"'{address}' asks for no token: everybody who reaches it can run programs there"
    return Finding(TOKEN, "error", said, OPEN)


def _ask_in_other_process(address: str, store: str | None) -> Iterator[Finding]:
    question = json.dumps({"address": address, "store": store})
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", CODE],
            input=question,  # not an argument, which others could read
            capture_output=True,
            text=True,
            timeout=CONNECT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"'{address}' took no connection within {CONNECT_S:.0f} s, though its head answers"
        yield Finding(CHECK, "error", said, NO_ANSWER)
        return
    try:
        findings = [Finding(**finding) for finding in json.loads(ended.stdout.splitlines()[-1])]
    except (ValueError, IndexError, TypeError):
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        yield Finding(CHECK, "error", f"'{address}': Ray ended the connection: {lines[-1]}")
        return
    yield from findings


def main() -> None:
    """Answer the question on standard input: one JSON line with the findings."""
    mask_outlets()
    question = json.load(sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    try:
        findings = [*_connected_findings(question["address"], question["store"])]
    except Exception as error:  # Ray raises plain errors of many kinds
        findings = [finding_of(CHECK, error)]
    print(json.dumps([finding.to_json() for finding in findings]), file=output, flush=True)


def _connected_findings(address: str, store: str | None) -> Iterator[Finding]:
    from tuning.ray_backend.cluster import cluster
    from tuning.ray_backend.node_faults import node_faults
    from tuning.ray_backend.nodes import ask_nodes
    from tuning.ray_backend.store_marker import marked_store

    with ExitStack() as stack:
        stack.enter_context(cluster(address, None))
        marker = None
        if store is not None:
            try:
                marker = stack.enter_context(marked_store(store))
            except AffectuneError as error:
                yield finding_of(NODES, error)
        answers = ask_nodes(marker)
        yield Finding(CHECK, "ok", f"'{address}' has {len(answers)} nodes, and takes this driver")
        for answer in answers:
            report = answer.report
            resources = resource_text(answer.node.resources)
            versions = (
                ""
                if report is None
                else f"; Python {report.python}, "
                + ", ".join(f"{name} {version}" for name, version in report.versions.items())
            )
            yield Finding(NODES, "ok", f"{answer.node.name}: {resources}{versions}")
        for fault in node_faults(answers, marker):
            status: Status = "error" if fault.is_error else "warning"
            mend = fault.mend[0].upper() + fault.mend[1:]
            yield Finding(NODES, status, fault.said, mend)


def resource_text(resources: Mapping[str, float]) -> str:
    """Return what a node gives to trials: cores, GPUs, and room for objects."""
    cores, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    objects = resources.get("object_store_memory", 0.0)
    return f"{cores:g} CPUs, {gpus:g} GPUs, {objects / GB:.1f} GB for objects"
