"""No log, warning, traceback or list of processes shows the credentials of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError, only_masked_errors

ROOT = Path(__file__).parents[3]
SECRETS = ("pear7grape", "plum8fig", "lime9kiwi", "date4nut")
PROGRAM = """
import logging, os, subprocess, sys, threading, warnings
from pipeline.credentials.outlets import hide_arguments, mask_outlets

hide_arguments()
mask_outlets()
mask_outlets()

def list_arguments(process):
    if sys.platform == "linux":
        with open(f"/proc/{process}/cmdline") as file:
            print(file.read().replace(chr(0), " "), flush=True)

list_arguments(os.getpid())
child = os.fork()
if not child:
    list_arguments(os.getpid())
    os._exit(0)
os.waitpid(child, 0)

def fail():
    raise ValueError("no answer to plum8fig at http://bob:other5pw@host")

for handler in (logging.StreamHandler(), logging.StreamHandler(sys.stdout)):
    logging.getLogger().addHandler(handler)
logging.warning("asked %s with %r", sys.argv[2], sys.argv)
logging.warning("too few %s %s", "lime9kiwi")
try:
    fail()
except ValueError:
    logging.exception("failed with %s", "date4nut")
warnings.warn(f"{sys.argv[2]} is deprecated")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def test_nothing_that_a_process_says_shows_its_credentials(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = ["--store", "s3://KEY:pear7grape@bucket/x", "--address=me:plum8fig@head:1"]
    process = subprocess.run(
        [sys.executable, str(program), *arguments, "password=lime9kiwi"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_TOKEN": "date4nut"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = process.stdout + process.stderr
    assert process.returncode == 1
    assert [secret for secret in (*SECRETS, "other5pw") if secret in said] == []
    assert "asked s3://***@bucket/x with" in said
    assert "ValueError: no answer to *** at http://***@host" in said
    assert process.stderr.count("Traceback") >= 3
    if sys.platform == "linux":
        assert said.count("s3://KEY:**********@bucket/x --address=me:********@head:1") == 2


def test_the_message_of_every_error_of_ours_is_masked() -> None:
    error = InputError("Cannot use 's3://KEY:pear7grape@bucket/x?token=plum8fig'.")
    assert str(error) == "Cannot use 's3://***@bucket/x?token=***'."


def test_an_error_that_leaves_a_process_tells_nothing_of_where_it_came_from() -> None:
    error = AffectuneError("It failed.")
    error.__cause__ = OSError("pear7grape")
    with pytest.raises(AffectuneError) as ours, only_masked_errors():
        raise error
    assert (ours.value.__cause__, ours.value.__suppress_context__) == (None, True)

    with pytest.raises(RuntimeError) as other, only_masked_errors():
        raise KeyError("http://u:pear7grape@host")
    assert str(other.value) == "KeyError: 'http://***@host'"
    assert other.value.__suppress_context__
