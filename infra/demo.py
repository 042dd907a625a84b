"""The end of `make demo`: serve the champion beside MLflow, ask it for one prediction, say where to look.

Usage: python infra/demo.py DATABASE [--keep]; with --keep both stay up until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

STARTING_S = 180
ENDING_S = 60
BIN = Path(sys.executable).parent


def main() -> None:
    """See the module."""
    database, keep = Path(sys.argv[1]), "--keep" in sys.argv[2:]
    uri, port, mlflow_port = f"sqlite:///{database}", _free_port(8000), _free_port(5000)
    page, runs = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}"
    serve = [str(BIN / "affectune"), "serve", "--port", str(port), "--tracking-uri", uri]
    browse = [
        str(BIN / "mlflow"),
        "server",
        "--backend-store-uri",
        uri,
        "--port",
        str(mlflow_port),
        "--workers",
        "1",
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    with (
        _running(serve, f"{page}/readyz", database.with_name("serve.log")),
        _running(browse, f"{runs}/health", database.with_name("mlflow.log")),
    ):
        said = _ask(page)
        means = ", ".join(
            f"{target} {fmean(values):+.2f}" for target, values in said["predictions"].items()
        )
        print(
            f"Version {said['model']['version']} answered for {len(said['timestamps_ms'])} frames; on average: {means}"
        )
        for warning in said["warnings"]:
            print("  warning:", warning["message"])
        print(f"The page:           {page}/\nRuns and models:    {runs}/", flush=True)
        if keep:
            print("Both stay up until Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    if not keep:
        print("Both have ended again. To keep them up: make demo KEEP=1; or, with what is there,")
        print(f"  {' '.join(serve)}\n  {' '.join(browse)}")


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    sys.exit("No port is free on 127.0.0.1.")


@contextlib.contextmanager
def _running(command: list[str], ready: str, log: Path) -> Iterator[None]:
    """A server, from when it answers; what it says goes to the log."""
    with log.open(
        "wb"
    ) as said:  # a group of its own: Ctrl-C is for this process, which ends it politely
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        end = time.monotonic() + STARTING_S
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{' '.join(command)} does not answer at {ready}; see {log}.")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


def _ask(page: str) -> dict[str, Any]:
    """What the champion says of the example session."""
    with urllib.request.urlopen(f"{page}/v1/example", timeout=60) as response:
        example = response.read()
    request = urllib.request.Request(
        f"{page}/v1/predictions", example, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        said: dict[str, Any] = json.load(response)
    return said


if __name__ == "__main__":
    main()
