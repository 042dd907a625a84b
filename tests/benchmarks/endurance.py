"""What the endpoint endures: `python -m tests.benchmarks.endurance half_open|overload|promotion|killed|memory ...`.

Each prints one line of what was found. They take minutes, so that no test runs them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

import affectune
from tests.benchmarks.served import Load, endpoint, free_port, paper_bundle, request_body

SHORT_FRAMES, LONG_FRAMES = 30, 600


def half_open(bundle: Path, folder: Path) -> str:
    """200 connections that send half a request and no more, for 30 s; one client beside them."""
    port = free_port()
    with endpoint(str(bundle), port, folder / "log"):
        load = Load(port, request_body(affectune.load(bundle), LONG_FRAMES))
        load.closed(2, 5)
        load.seen.clear()
        head = b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
        held = []
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(head if number % 2 else head + b'\r\n{"features":')
            held.append(connection)
        load.closed(1, 30)
        for connection in held:
            connection.close()
        calm = Load(port, load.body)
        calm.closed(1, 5)
    return f"half_open: {load.counts()}, p99 {load.percentile_ms(99):.0f} ms, afterwards {calm.counts()}"


def overload(bundle: Path, folder: Path) -> str:
    """Twice the capacity for two minutes, after half of it for one."""
    port = free_port()
    with endpoint(str(bundle), port, folder / "log"):
        body = request_body(affectune.load(bundle), LONG_FRAMES)
        capacity = Load(port, body).closed(4, 20)
        half, double = Load(port, body), Load(port, body)
        half.open(capacity / 2, 60)
        double.open(capacity * 2, 120)
    return (
        f"overload: capacity {capacity:.1f}/s; half {half.counts()}, p50 {half.percentile_ms(50):.0f}, "
        f"p99 {half.percentile_ms(99):.0f} ms; double {double.counts()}, p50 {double.percentile_ms(50):.0f}, "
        f"p99 {double.percentile_ms(99):.0f} ms, {double.percentile_ms(99) / half.percentile_ms(99):.2f} times"
    )


def promotion(bundle: Path, folder: Path) -> str:
    """Under ten clients: a promotion, a rollback, a promotion of a version that is broken."""
    from tests.serving_tests.registry import ALIAS, NAME, Registry

    registry = Registry(folder)
    for _ in range(2):
        registry.register(bundle)
    broken = folder / "broken"
    broken.mkdir()
    for path in bundle.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "weights.safetensors").write_bytes(b"broken")
    registry.register(broken)
    registry.promote("1")
    port = free_port()
    model = f"models:/{NAME}@{ALIAS}"
    settings = {"tracking_uri": registry.uri, "cache": folder / "cache", "follow_period_s": 1}
    with endpoint(model, port, folder / "log", **settings):
        load = Load(port, request_body(affectune.load(bundle), SHORT_FRAMES))
        clients = Thread(target=load.closed, args=(10, 80))
        clients.start()
        for version in ("2", "1", "3"):
            time.sleep(20)
            registry.promote(version)
        clients.join()
    order = [version for _, _, version in load.seen]
    changes = [new for old, new in zip(["", *order], order, strict=False) if old != new]
    return (
        f"promotion: {load.counts()}, p99 {load.percentile_ms(99):.0f} ms, slowest {load.percentile_ms(100):.0f} ms, "
        f"versions {sorted(set(order))}, last {order[-1]}, {len(changes)} changes as seen by ten clients"
    )


def killed(bundle: Path, folder: Path) -> str:
    """SIGKILL of a replica under ten clients that ask again once."""
    port = free_port()
    with endpoint(str(bundle), port, folder / "log") as parent:
        load = Load(port, request_body(affectune.load(bundle), SHORT_FRAMES), retries=1)
        clients = Thread(target=load.closed, args=(10, 40))
        clients.start()
        time.sleep(8)
        before = replicas(parent)
        os.kill(before[0], signal.SIGKILL)
        begin = time.monotonic()
        while len(set(replicas(parent)) - {before[0]}) < len(before) or not _both_serve(port):
            time.sleep(0.1)
        back_s = time.monotonic() - begin
        clients.join()
    return (
        f"killed: {load.counts()} with one retry, {len(before)} replicas again after {back_s:.1f} s"
    )


def memory(bundle: Path, folder: Path) -> str:
    """Resident memory of the replicas after 2,000 and after 20,000 requests."""
    port = free_port()
    with endpoint(str(bundle), port, folder / "log") as parent:
        load = Load(port, request_body(affectune.load(bundle), SHORT_FRAMES))
        found = []
        for requests in (2_000, 18_000):
            load.closed(4, 0, requests // 4)
            found.append({pid: resident_mb(pid) for pid in replicas(parent)})
    grown = [f"{found[0][pid]:.0f} -> {found[1][pid]:.0f} MB" for pid in found[1]]
    return f"memory: {load.counts()}, {', '.join(grown)}"


def replicas(parent: int) -> list[int]:
    """Process ids of the replicas below a process."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    rows = [
        (int(row[0]), int(row[1]), row[2])
        for line in listed.splitlines()[1:]
        if (row := line.split(None, 2))
    ]
    mine = {parent}
    for _ in range(5):
        mine |= {pid for pid, above, _ in rows if above in mine}
    return sorted(pid for pid, _, args in rows if pid in mine and "ServeReplica:affectune" in args)


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _both_serve(port: int) -> bool:
    """Whether two replicas say that they serve a model."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return any(
        line.startswith("affectune_model_replicas{") and line.endswith(" 2.0") for line in lines
    )


MEASUREMENTS = {
    "half_open": half_open,
    "overload": overload,
    "promotion": promotion,
    "killed": killed,
    "memory": memory,
}


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - set(MEASUREMENTS))
    if unknown:
        sys.exit(f"There is no {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}.")
    with tempfile.TemporaryDirectory() as temporary:
        bundle = paper_bundle(Path(temporary))
        for name in names or MEASUREMENTS:
            folder = Path(temporary) / name
            folder.mkdir()
            try:
                print(MEASUREMENTS[name](bundle, folder), flush=True)
            except Exception:
                log = folder / "log"
                print(
                    json.dumps(log.read_text()[-3000:]) if log.exists() else "no log",
                    file=sys.stderr,
                )
                raise


if __name__ == "__main__":
    main(sys.argv[1:])
