"""`mlflow server` as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

START_TIMEOUT_S = 180.0
POLL_S = 0.1


class Server:
    """`mlflow server` on loopback, with its data in a folder.

    Args:
        folder: holds `server.db`.
        port: where it listens.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self.uri = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        options = {
            "--host": "127.0.0.1",
            "--port": str(self._port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{self._folder / 'server.db'}",
            "--artifacts-destination": str(self._folder / "kept"),
        }
        arguments = [part for option in options.items() for part in option]
        environment = os.environ | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
                start_new_session=True,
            )

        if not self._accepts_connections():
            self.stop()
            raise AssertionError((self._folder / "server.log").read_text())

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def _accepts_connections(self) -> bool:
        for _ in range(round(START_TIMEOUT_S / POLL_S)):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return True
            if self._process.poll() is not None:
                return False
            threading.Event().wait(POLL_S)
        return False


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
