"""`affectune study run` as a process of its own, and the processes that it consists of."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tuning.journal.file import JOURNAL

TIMEOUT_S = 600
SELECTION = ("--modalities", "voice,face", "--targets", "arousal")
MAIN = "import sys; import affectune; sys.argv[0] = 'affectune'; affectune.main()"


class Command:
    """`affectune study run` in a folder of its own, with `out` and `store` in it.

    Args:
        folder: where it runs.
        study: path of the study's file.
        corpus: path of the corpus.
        workers: fits at a time.
        selection: options that choose modalities and targets.
    """

    def __init__(
        self,
        folder: Path,
        study: Path,
        corpus: Path,
        workers: int,
        *,
        selection: Sequence[str] = SELECTION,
    ) -> None:
        self.folder = folder
        paths = ("--corpus", str(corpus), "--out", "out", "--store", "store")
        self._arguments = [str(study), *paths, "--workers", str(workers), *selection]

    def line(self, *options: str) -> list[str]:
        """Return the command, as the system takes it."""
        return [sys.executable, "-c", MAIN, "study", "run", *self._arguments, *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the process; `communicate` gives its output."""
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONWARNINGS": "ignore",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)

        return subprocess.Popen(
            self.line(*options),
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """Run to the end; return the exit status and the output."""
        process = self.start(*options)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def num_ended(self) -> int:
        """Return how many fits have ended."""
        return num_ended_fits(self.folder / "out")


def num_ended_fits(folder: Path) -> int:
    """Return how many fits of the study in a folder have ended."""
    journal = folder / JOURNAL
    return journal.read_bytes().count(b'"event":"trial_ended"') if journal.exists() else 0


def listening_addresses(process: int) -> set[str]:
    """Return the addresses at which a process and its children can be reached."""
    parent = psutil.Process(process)
    addresses: set[str] = set()
    for member in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            addresses.update(_listening_addresses(member))
    return addresses


def fitting_workers(process: int) -> list[psutil.Process]:
    """Return the workers of a process that are in the middle of a trial."""
    workers = []
    for child in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "Trainable" in " ".join(child.cmdline()):
                workers.append(child)
    return workers


def _listening_addresses(process: psutil.Process) -> Iterator[str]:
    for connection in process.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield connection.laddr.ip
