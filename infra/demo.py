"""The end of `make demo`: serve the champion beside MLflow, predict once, print where to look.

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

from tuning.mlflow_backend.links import experiment_link, experiments_link, run_link
from tuning.mlflow_backend.tracking.record import recorded_run

STARTUP_TIMEOUT_S = 180
SHUTDOWN_TIMEOUT_S = 60
BIN = Path(sys.executable).parent


def main() -> None:
    """Run both servers, predict the example session, and end them, or wait for Ctrl-C."""
    database, keep = Path(sys.argv[1]), "--keep" in sys.argv[2:]
    port, mlflow_port = free_port(8000), free_port(5000)
    endpoint, mlflow = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}"
    serve_command, mlflow_command = _commands(f"sqlite:///{database}", port, mlflow_port)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    with (
        running(serve_command, f"{endpoint}/readyz", database.with_name("serve.log")),
        running(mlflow_command, f"{mlflow}/health", database.with_name("mlflow.log")),
    ):
        print_response(predict_example(endpoint))
        print(f"The page:             {endpoint}/")
        for name, link in _mlflow_links(database.parent / "study").items():
            print(f"{name:<22}{mlflow}{link}", flush=True)
        if keep:
            print("Both stay up until Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()

    if not keep:
        print("Both have ended again. To keep them up: make demo KEEP=1; or, with what is there,")
        print(f"  {' '.join(serve_command)}\n  {' '.join(mlflow_command)}")
        print("MLflow then shows the study, and its runs and models, at the addresses above.")


def _commands(uri: str, port: int, mlflow_port: int) -> tuple[list[str], list[str]]:
    """Return the commands of the endpoint and of MLflow's server."""
    serve = [str(BIN / "affectune"), "serve", "--port", str(port), "--tracking-uri", uri]
    mlflow = [str(BIN / "mlflow"), "server", "--backend-store-uri", uri]
    mlflow += ["--port", str(mlflow_port), "--workers", "1"]
    return serve, mlflow


def _mlflow_links(study: Path) -> dict[str, str]:
    """Return what MLflow shows of the study in a folder, and the links to it."""
    ids = recorded_run(study)
    if ids is None:
        return {"Runs and models:": experiments_link()}
    return {
        "The study in MLflow:": run_link(*ids),
        "Its runs and models:": experiment_link(ids[0]),
    }


def free_port(preferred: int) -> int:
    """Return a free port of this machine: the preferred one, if it is."""
    for candidate in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", candidate))
            port: int = probe.getsockname()[1]
            return port
    sys.exit("No port is free on 127.0.0.1.")


@contextlib.contextmanager
def running(
    command: list[str], ready_url: str, log: Path, folder: Path | None = None
) -> Iterator[None]:
    """Run a server in a folder, from when it answers; its output goes to the log."""
    with log.open("wb") as output:
        # A process group of its own: Ctrl-C is for this process, which ends the server politely.
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )

    try:
        deadline = time.monotonic() + STARTUP_TIMEOUT_S
        while not _answers(ready_url):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{' '.join(command)} does not answer at {ready_url}; see {log}.")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


def predict_example(endpoint: str) -> dict[str, Any]:
    """Return what the champion predicts for the example session."""
    with urllib.request.urlopen(f"{endpoint}/v1/example", timeout=60) as http_response:
        example = http_response.read()

    request = urllib.request.Request(
        f"{endpoint}/v1/predictions", example, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as http_response:
        response: dict[str, Any] = json.load(http_response)
    return response


def print_response(response: dict[str, Any]) -> None:
    """Print what the endpoint answered, in a few lines."""
    version, num_frames = response["model"]["version"], len(response["timestamps_ms"])
    means = ", ".join(
        f"{target} {fmean(values):+.2f}" for target, values in response["predictions"].items()
    )
    print(f"Version {version} answered for {num_frames} frames; on average: {means}")

    for warning in response["warnings"]:
        print("  warning:", warning["message"])


if __name__ == "__main__":
    main()
