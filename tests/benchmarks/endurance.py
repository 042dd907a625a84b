"""What the endpoint endures: half-open connections, overload, promotions, a killed replica.

`python -m tests.benchmarks.endurance half_open|overload|promotion|killed|memory ...`: each
measurement prints one line. They take minutes, so that no test runs them.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import affectune
from tests.benchmarks.paper_model import request_body, write_paper_bundle
from tests.serving_tests.endpoint_process import Load, free_port, replicas, running_endpoint
from tests.serving_tests.registry import ALIAS, NAME, Registry

SHORT_FRAMES, LONG_FRAMES = 30, 600
NUM_HALF_OPEN = 200
HALF_A_REQUEST = (
    b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100000\r\n"
)
HALF_A_BODY = b'\r\n{"features":'


def half_open(bundle: Path, folder: Path) -> str:
    """Hold 200 connections that send half a request for 30 s, while one client sends whole ones."""
    port = free_port()
    body = request_body(affectune.load(bundle), LONG_FRAMES)

    with running_endpoint(str(bundle), port, folder / "log"):
        Load(port, body).closed(2, 5)

        connections = []
        for number in range(NUM_HALF_OPEN):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(HALF_A_REQUEST + (b"" if number % 2 else HALF_A_BODY))
            connections.append(connection)

        beside = Load(port, body)
        beside.closed(1, 30)
        for connection in connections:
            connection.close()

        afterwards = Load(port, body)
        afterwards.closed(1, 5)

    return (
        f"half_open: {beside.counts()}, p99 {beside.percentile_ms(99):.0f} ms, "
        f"afterwards {afterwards.counts()}"
    )


def overload(bundle: Path, folder: Path) -> str:
    """Send half of what the endpoint can answer for a minute, then twice as much for two."""
    port = free_port()
    body = request_body(affectune.load(bundle), LONG_FRAMES)

    with running_endpoint(str(bundle), port, folder / "log"):
        capacity = Load(port, body).closed(4, 20)
        half, double = Load(port, body), Load(port, body)
        half.open(capacity / 2, 60)
        double.open(capacity * 2, 120)

    slowdown = double.percentile_ms(99) / half.percentile_ms(99)
    return (
        f"overload: capacity {capacity:.1f}/s; half {_summary(half)}; double {_summary(double)}, "
        f"{slowdown:.2f} times"
    )


def _summary(load: Load) -> str:
    p50_ms, p99_ms = load.percentile_ms(50), load.percentile_ms(99)
    return f"{load.counts()}, p50 {p50_ms:.0f}, p99 {p99_ms:.0f} ms"


def promotion(bundle: Path, folder: Path) -> str:
    """Promote, roll back and promote a broken version while ten clients send requests."""
    registry = _registry_with_a_broken_third_version(bundle, folder)
    port = free_port()
    load = Load(port, request_body(affectune.load(bundle), SHORT_FRAMES))
    settings = {"tracking_uri": registry.uri, "cache": folder / "cache", "follow_period_s": 1}

    with running_endpoint(f"models:/{NAME}@{ALIAS}", port, folder / "log", **settings):
        clients = Thread(target=load.closed, args=(10, 80))
        clients.start()
        for version in ("2", "1", "3"):
            time.sleep(20)
            registry.promote(version)
        clients.join()

    versions = [outcome.version for outcome in load.outcomes]
    num_changes = sum(old != new for old, new in zip(["", *versions], versions, strict=False))
    return (
        f"promotion: {load.counts()}, p99 {load.percentile_ms(99):.0f} ms, "
        f"slowest {load.percentile_ms(100):.0f} ms, versions {sorted(set(versions))}, "
        f"last {versions[-1]}, {num_changes} changes as seen by ten clients"
    )


def _registry_with_a_broken_third_version(bundle: Path, folder: Path) -> Registry:
    broken = shutil.copytree(bundle, folder / "broken")
    (broken / "weights.safetensors").write_bytes(b"broken")

    registry = Registry(folder)
    for version in (bundle, bundle, broken):
        registry.register(version)
    registry.promote("1")
    return registry


def killed(bundle: Path, folder: Path) -> str:
    """Kill a replica while ten clients send requests that they repeat once."""
    port = free_port()
    load = Load(port, request_body(affectune.load(bundle), SHORT_FRAMES), retries=1)

    with running_endpoint(str(bundle), port, folder / "log") as process_id:
        clients = Thread(target=load.closed, args=(10, 40))
        clients.start()
        time.sleep(8)

        before = replicas(process_id)
        os.kill(before[0], signal.SIGKILL)
        begin = time.monotonic()
        while (
            len(set(replicas(process_id)) - {before[0]}) < len(before)
            or _num_serving_replicas(port) < 2
        ):
            time.sleep(0.1)
        recovery_s = time.monotonic() - begin
        clients.join()

    return (
        f"killed: {load.counts()} with one retry, "
        f"{len(before)} replicas again after {recovery_s:.1f} s"
    )


def _num_serving_replicas(port: int) -> float:
    """Return how many replicas have a model, as the endpoint's metrics count them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    counts = [line for line in lines if line.startswith("affectune_model_replicas{")]
    return max((float(line.split()[-1]) for line in counts), default=0)


def memory(bundle: Path, folder: Path) -> str:
    """Compare the replicas' memory after 2,000 requests to that after 20,000."""
    port = free_port()
    load = Load(port, request_body(affectune.load(bundle), SHORT_FRAMES))

    with running_endpoint(str(bundle), port, folder / "log") as process_id:
        load.closed(4, 0, 2_000 // 4)
        earlier_mb = {replica: memory_mb(replica) for replica in replicas(process_id)}
        load.closed(4, 0, 18_000 // 4)
        later_mb = {replica: memory_mb(replica) for replica in replicas(process_id)}

    growth = [f"{earlier_mb[replica]:.0f} -> {mb:.0f} MB" for replica, mb in later_mb.items()]
    return f"memory: {load.counts()}, {', '.join(growth)}"


def memory_mb(process_id: int) -> float:
    """Return a process's memory; what it shares with others counts by its share of it."""
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    [kilobytes] = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return kilobytes / 1024


MEASUREMENTS: dict[str, Callable[[Path, Path], str]] = {
    "half_open": half_open,
    "overload": overload,
    "promotion": promotion,
    "killed": killed,
    "memory": memory,
}


def main(names: list[str]) -> None:
    """Run the named measurements, or all; where one fails, print the end of the endpoint's log."""
    unknown = sorted(set(names) - set(MEASUREMENTS))
    if unknown:
        sys.exit(f"There is no {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}.")

    with tempfile.TemporaryDirectory() as temporary:
        bundle = write_paper_bundle(Path(temporary))
        for name in names or MEASUREMENTS:
            folder = Path(temporary) / name
            folder.mkdir()
            try:
                print(MEASUREMENTS[name](bundle, folder), flush=True)
            except Exception:
                log = folder / "log"
                ending = json.dumps(log.read_text()[-3000:]) if log.exists() else "no log"
                print(ending, file=sys.stderr)
                raise


if __name__ == "__main__":
    main(sys.argv[1:])
