"""Each record of each process is one line of JSON on the standard error of the command."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.monitoring import json_log, local_link
from serving.monitoring.json_log import LINK, collected_log, log_json_lines

NUM_LINES = 300
SOURCE = f"""
import logging, os, sys
from serving.monitoring.json_log import log_json_lines
log_json_lines()
print("this is no line of the log", file=sys.stderr)
log = logging.getLogger("serving.some")
for number in range({NUM_LINES}):
    log.info("request", extra={{"request_id": f"{{sys.argv[1]}}-{{number}}", "status": 200}})
log.info("x" * 200_000, extra={{"request_id": sys.argv[1] + "-long"}})
try:
    raise ValueError("two\\nlines")
except ValueError:
    log.exception("It failed.", extra={{"request_id": sys.argv[1] + "-failed"}})
"""


@pytest.fixture(autouse=True)
def kept_logging() -> Iterator[None]:
    """Leave the logger of other tests as it was."""
    logger = logging.getLogger("serving")
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def _lines(text: str) -> Counter[str]:
    """Return how often each request's id is in a line that is JSON."""
    return Counter(json.loads(line)["request_id"] for line in text.splitlines())


def test_lines_of_several_processes_come_each_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "w", encoding="utf-8") as file:
        collector = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import subprocess, sys\n"
                "from serving.monitoring.json_log import collected_log\n"
                "with collected_log():\n"
                "    each = [subprocess.Popen([sys.executable, '-c', sys.argv[1], str(i)],\n"
                "        stderr=subprocess.DEVNULL) for i in range(2)]\n"
                "    assert [one.wait() for one in each] == [0, 0]\n",
                SOURCE,
            ],
            stderr=file,
        )
        assert collector.wait(120) == 0

    names = [*(str(number) for number in range(NUM_LINES)), "long", "failed"]
    expected = {f"{process}-{name}": 1 for process in range(2) for name in names}
    assert _lines(path.read_text(encoding="utf-8")) == expected


def test_without_a_link_and_where_nobody_listens_lines_go_to_standard_error() -> None:
    for link in ({}, {LINK: local_link.new_name("log")}):
        ended = subprocess.run(
            [sys.executable, "-c", SOURCE, "a"],
            capture_output=True,
            text=True,
            check=True,
            env={name: value for name, value in os.environ.items() if name != LINK} | link,
        )
        *lines, other = sorted(ended.stderr.splitlines(), key=lambda line: not line.startswith("{"))
        assert other == "this is no line of the log"
        assert len(_lines("\n".join(lines))) == NUM_LINES + 2


def test_a_line_that_was_cut_off_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    with collected_log():
        link = local_link.connect(os.environ[LINK])
        link.sendall(b'{"request_id": "a"}\n{"request_id": "b')
        link.close()
    assert capfd.readouterr().err == '{"request_id": "a"}\n'
    assert LINK not in os.environ


def test_a_request_does_not_wait_where_nobody_reads_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number of lost lines is in the log once somebody reads again."""
    monkeypatch.setattr(json_log, "MAX_WAITING", 100)
    name = local_link.new_name("log")
    monkeypatch.setenv(LINK, name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        log_json_lines()
        log = logging.getLogger("serving.some")

        begin = time.monotonic()
        for number in range(5000):
            log.info("request", extra={"request_id": str(number)})
        assert time.monotonic() - begin < 20

        link, _ = listening.accept()
        text = _read_waiting(link)
        log.info("request", extra={"request_id": "last"})
        text += _read_waiting(link)
        link.close()

    said = [json.loads(line) for line in text.splitlines()]
    sent = [line["request_id"] for line in said if "request_id" in line]
    lost = sum(int(line["message"].split()[0]) for line in said if "were lost" in line["message"])
    assert sent[-1] == "last"
    assert len(sent) + lost == 5001
    assert lost > 0


def _read_waiting(link: socket.socket) -> str:
    """Read until nothing comes for a while."""
    data = b""
    while select.select([link], [], [], 1.0)[0]:
        data += link.recv(2**16)
    return data.decode()
