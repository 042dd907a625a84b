"""Several processes count together, whichever of them is asked, and whichever of them ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.monitoring import local_link
from serving.monitoring.metrics import Metrics
from serving.monitoring.metrics_sum import LINK, MetricsSum, summed_metrics

PATIENCE_S = 30
REQUESTS = 'affectune_requests_total{method="GET",route="/",status="200"}'


@pytest.fixture
def process() -> Iterator[Callable[[], Metrics]]:
    """Make the metrics of a process of the endpoint."""
    made: list[Metrics] = []

    def make() -> Metrics:
        made.append(Metrics.shared())
        return made[-1]

    yield make
    for metrics in made:
        metrics.close()


def _count(metrics: Metrics, times: int = 1) -> None:
    for _ in range(times):
        metrics.requests.labels("/", "GET", "200").inc()
        metrics.latency.labels("/").observe(0.02)
    metrics.waiting.set(times)


def _value(metrics: Metrics, name: str) -> float:
    for line in metrics.text().decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def _wait_for(metrics: Metrics, name: str, value: float) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while _value(metrics, name) != value:
        assert time.monotonic() < deadline, (name, _value(metrics, name))
        time.sleep(0.02)


def test_every_process_tells_the_sum_of_all(process: Callable[[], Metrics]) -> None:
    with summed_metrics():
        first, second = process(), process()
        _count(first, 3)
        _count(second, 4)
        for metrics in (first, second):
            _wait_for(metrics, REQUESTS, 7)
            _wait_for(metrics, "affectune_queue", 7)
            _wait_for(metrics, 'affectune_request_seconds_bucket{le="0.025",route="/"}', 7)

        families = {
            each.name: each for each in text_string_to_metric_families(first.text().decode())
        }
        assert families["affectune_requests"].documentation == "Requests answered."
        assert families["affectune_queue"].type == "gauge"
        assert "_created" not in first.text().decode()
    assert LINK not in os.environ


def test_what_an_ended_process_counted_stays_and_its_queue_goes(
    process: Callable[[], Metrics],
) -> None:
    with summed_metrics():
        first, second = process(), process()
        _count(first, 3)
        _count(second, 4)
        _wait_for(first, REQUESTS, 7)
        second.close()
        _wait_for(first, "affectune_queue", 3)
        assert _value(first, REQUESTS) == 7


def test_a_killed_process_counts_on(process: Callable[[], Metrics]) -> None:
    source = (
        "import os, sys, time\n"
        "from serving.monitoring.metrics import Metrics\n"
        "metrics = Metrics.shared()\n"
        "metrics.requests.labels('/', 'GET', '200').inc(5)\n"
        "metrics.waiting.set(2)\n"
        "metrics.text()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with summed_metrics():
        subprocess.run([sys.executable, "-c", source], check=False)
        first = process()
        _count(first)
        _wait_for(first, REQUESTS, 6)
        _wait_for(first, "affectune_queue", 1)


def test_where_nobody_adds_up_one_of_the_processes_does(
    process: Callable[[], Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LINK, local_link.new_name("metrics"))
    first, second, third = process(), process(), process()
    for metrics in (first, second, third):
        _count(metrics)
    for metrics in (first, second, third):
        _wait_for(metrics, REQUESTS, 3)


def test_without_a_link_a_process_tells_its_own() -> None:
    metrics = Metrics()
    _count(metrics, 2)
    assert _value(metrics, REQUESTS) == 2


def test_no_file_is_made(
    process: Callable[[], Metrics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with summed_metrics():
        first = process()
        _count(first)
        _wait_for(first, REQUESTS, 1)
    assert not list(tmp_path.iterdir())


def test_a_link_that_sends_nonsense_harms_no_other(process: Callable[[], Metrics]) -> None:
    with summed_metrics():
        first = process()
        _count(first)
        for sent in (b"\xff\n", b"{}\n", b"[1]\n", b'{"counts": {"a": "b"}}\n', b"{"):
            link = local_link.connect(os.environ[LINK])
            link.sendall(sent)
            link.close()
        _wait_for(first, REQUESTS, 1)


def test_only_one_process_adds_up() -> None:
    name = local_link.new_name("metrics")
    metrics = MetricsSum(name)
    with pytest.raises(OSError, match="in use"):
        MetricsSum(name)
    metrics.close()
