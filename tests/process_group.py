"""A command in a process group of its own, as a terminal or a service manager runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MARKER = "AFFECTUNE_TESTED_GROUP"
"""Variable that a command and all that it starts have in their environment."""


@dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        status: its exit status.
        output: standard output and standard error.
        seconds: from the call of `wait`.
        left: processes that it started, and that are still there.
    """

    status: int
    output: str
    seconds: float
    left: list[str]


class ProcessGroup:
    """Starts a command; all processes that come of it are found by a mark in their environment."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._mark = uuid.uuid4().hex
        variables = {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
        variables |= {MARKER: self._mark, "TERM": "dumb", **(environment or {})}
        self._output = folder / f"output-{self._mark[:8]}"
        with open(self._output, "wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what was printed until now."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def send(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to every process of the group."""
        os.killpg(self.process.pid, number)

    def send_to_all(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to every process that came of the command, as a service manager may."""
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def members(self) -> list[psutil.Process]:
        """Return the processes that came of the command and are there."""
        members = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_member = process.environ().get(MARKER) == self._mark
                if is_member and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
        return members

    def wait(self, timeout_s: float) -> End:
        """Wait for the end of the command; kill what is left of it.

        Raises:
            subprocess.TimeoutExpired: it does not end.
        """
        begin = time.monotonic()
        try:
            status = self.process.wait(timeout_s)
            seconds = time.monotonic() - begin
            left = [" ".join(process.cmdline()) for process in self.members()]
        finally:
            for process in self.members():
                with contextlib.suppress(psutil.Error):
                    process.kill()
        return End(status, self.output(), seconds, left)
