"""This machine as a node of a cluster, without processors, for the time of a study.

Ray connects a driver through a node on its own machine. Where none is, such as on a laptop, one is
started that runs no trials.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ray._private.services import find_node_ids
from ray._raylet import GcsClient  # type: ignore[attr-defined] # in C++

from pipeline.cluster_address import parse_address
from pipeline.credentials.masking import masked
from pipeline.errors import AffectuneError, InputError
from pipeline.local_ray.session import ray_folder
from pipeline.local_ray.token import MODE
from pipeline.status_line import print_status

START_S, END_S, ANSWER_S = 60.0, 10.0, 5.0
POLL_S = 0.3
OUTPUT = "start.txt"


@contextlib.contextmanager
def node_of(address: str) -> Iterator[None]:
    """See to it that this machine is a node of a cluster; one that is stays as it is.

    Args:
        address: "host:port" of the head, which answers.

    Raises:
        InputError: it is none, and the cluster asks for no token.
        AffectuneError: it cannot be made one.
    """
    if is_node_of(address):
        yield
        return
    if os.environ.get(MODE, "").lower() != "token":
        raise InputError(
            f"This machine is no node of the Ray cluster at '{address}', and that asks for no "
            "token: as a node, this machine would run programs of whoever reaches it. Start the "
            f"cluster with {MODE}=token, or run the study on one of its machines."
        )
    print_status(f"Joining the cluster at '{address}' as a node that runs no trials")
    with ray_folder([]) as local:
        process = _start(address, local.folder)
        try:
            _wait(process, address, local.folder)
            yield
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_node_of(address: str) -> bool:
    """Return whether a node of a cluster runs on this machine."""
    here: set[str] = find_node_ids()
    if not here:
        return False
    nodes = GcsClient(address=address).get_all_node_info(timeout=ANSWER_S)
    return any(node.hex() in here and info.state == info.ALIVE for node, info in nodes.items())


def _start(address: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start Ray's own processes, which end with the one that is returned."""
    host, port = parse_address(address, "the address")
    options = ["--address", address, "--node-ip-address", _own_address(host, port)]
    options += ["--num-cpus", "0", "--num-gpus", "0", "--temp-dir", str(folder)]
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / OUTPUT, "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "NO_COLOR": "1"},
        )


def _own_address(host: str, port: int) -> str:
    """Return by which address the head reaches this machine; nothing is sent."""
    family, kind, *_, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(there)
        return str(probe.getsockname()[0])


def _wait(process: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    """Wait until the node is known to the head.

    Raises:
        AffectuneError: it ended, or took too long.
    """
    until = time.monotonic() + START_S
    while not is_node_of(address):
        if process.poll() is not None or time.monotonic() > until:
            said = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
            cause = masked(" ".join(line.strip() for line in said[-8:]))
            raise AffectuneError(
                f"This machine cannot join the Ray cluster at '{address}': {cause or 'no answer'}. "
                "Run the study on one of the cluster's machines, or with `ray job submit`."
            )
        time.sleep(POLL_S)
