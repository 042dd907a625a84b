"""How long every command is silent: from its start to the first byte that it writes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.rows import Row, less_is_better

ROOT = Path(__file__).parents[2]
BAR_S = 2.0
NUM_RUNS = 3
"""The longest of so many counts."""
COMMANDS = (
    "",
    "--help",
    "--version",
    "corpus check CORPUS",
    "corpus synthesize new",
    "train --corpus CORPUS --out model",
    "evaluate model --corpus CORPUS",
    "predict model --corpus CORPUS --out predictions",
    "study list",
    "study show wide",
    "study run demo --corpus CORPUS",
    "study status study",
    "study report study",
    "study audit study",
    "registry list",
    "registry show affectune",
    "registry promote affectune 1",
    "registry rollback affectune",
    "serve",
)


def first_output_rows() -> list[Row]:
    """Start every command in an empty folder, and end it once it has written something."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for line in COMMANDS:
            seconds = max(_first_byte_s(line.split(), Path(folder)) for _ in range(NUM_RUNS))
            name = f"first_output {line or '(alone)'}"
            rows.append(less_is_better(name, seconds, BAR_S, "s"))
    return rows


def _first_byte_s(arguments: list[str], folder: Path) -> float:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "affectune", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.monotonic() - started
        process.kill()
    if not first:
        sys.exit(f"`affectune {' '.join(arguments)}` ended without a word.")
    return seconds
