"""`affectune study run` as a process of its own, and what that process is made of."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil

from tuning.journal.file import JOURNAL

TIMEOUT_S = 600


class Command:
    """`affectune study run` in a folder of its own."""

    def __init__(self, folder: Path, study: Path, corpus: Path, workers: int) -> None:
        self.folder = folder
        self._arguments = [
            *(
                "study",
                "run",
                str(study),
                "--corpus",
                str(corpus),
                "--out",
                "out",
                "--store",
                "store",
            ),
            *("--workers", str(workers), "--modalities", "voice,face", "--targets", "arousal"),
        ]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Begin; what it says comes from `communicate`."""
        code = "import sys; import affectune; sys.argv[0] = 'affectune'; affectune.main()"
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONWARNINGS": "ignore",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        return subprocess.Popen(
            [sys.executable, "-c", code, *self._arguments, *more],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more: str) -> tuple[int, str]:
        """Run to the end; the exit status, and what it said."""
        process = self.start(*more)
        said, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, said

    def ended(self) -> int:
        """How many fits have ended."""
        journal = self.folder / "out" / JOURNAL
        return journal.read_bytes().count(b'"event":"ended"') if journal.exists() else 0


def listening(process: int) -> set[str]:
    """The addresses at which a process and its children can be reached."""
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    found: set[str] = set()
    for member in family:
        with contextlib.suppress(psutil.Error):  # it has just ended
            found |= {
                c.laddr.ip for c in member.net_connections("tcp") if c.status == psutil.CONN_LISTEN
            }
    return found


def training(process: int) -> list[psutil.Process]:
    """The workers of a process that are in the middle of a trial."""
    found = []
    for worker in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "Trainable" in " ".join(worker.cmdline()):
                found.append(worker)
    return found
