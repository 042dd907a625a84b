"""A study's metrics agree with its journal, and Prometheus' own parser reads them."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from functools import cache
from math import inf
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import InputError, SurroundingsError
from tests.tuning_tests import journals
from tuning.journal.clock import now
from tuning.journal.events import Event, TrialEnded, TrialProposed
from tuning.journal.history import History, history_of
from tuning.monitoring.metrics import StudyMetrics
from tuning.monitoring.metrics_server import MAX_CONNECTIONS, MetricsServer, metrics_server
from tuning.monitoring.status import study_status
from tuning.monitoring.timed_store import TimedStore

LOOPBACK = "127.0.0.1"


@cache
def events() -> list[Event]:
    """Return the journal of a study that is finished."""
    return journals.events()


def finished_history() -> History:
    """Return the history of a study that is finished."""
    return history_of(events())


def samples(metrics: StudyMetrics) -> dict[tuple[str, ...], float]:
    """Return (name, value of each label in the order of their names) -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_metrics_are_those_of_the_journal() -> None:
    journal = events()
    history = history_of(journal)
    metrics = StudyMetrics()
    metrics.begin("a")
    metrics.update(history, 3, 1e6)
    found = samples(metrics)

    stages = {e.trial: e.task.partition("/")[0] for e in journal if isinstance(e, TrialProposed)}
    ended = [event for event in journal if isinstance(event, TrialEnded)]
    counted = Counter((event.reason, stages[event.trial]) for event in ended)
    assert len(counted) > 4
    for (reason, stage), number in counted.items():
        assert found["affectune_study_fits_ended_total", reason, stage, "a"] == number

    trained = [event for event in ended if event.reason != "store"]
    busy_s = sum(event.wall_s for event in trained)
    assert found["affectune_study_busy_seconds_total", "a"] == pytest.approx(busy_s)
    assert found["affectune_study_workers", "a"] == 3
    assert found["affectune_study_fits_running", "a"] == 0
    assert found["affectune_study_finished", "a"] == 1
    left_s = 1e6 - history.active_s
    assert found["affectune_study_budget_left_seconds", "a"] == pytest.approx(left_s)
    at = max(event.at for event in journal)
    assert found["affectune_study_last_event_timestamp_seconds", "a"] == at
    for task in study_status(history).tasks:
        name = "affectune_study_best_score"
        assert found[name, "deciding", "a", str(task.task)] == task.deciding


def test_nothing_is_said_before_a_study_is_open_or_of_the_one_before() -> None:
    metrics = StudyMetrics()
    metrics.update(History(), 1, inf)
    assert not any(name[0].startswith("affectune_study_fits") for name in samples(metrics))

    metrics.begin("a/fold-1")
    metrics.update(finished_history(), 1, inf)
    metrics.begin("a/fold-2")
    assert not any("a/fold-1" in name for name in samples(metrics))
    metrics.update(finished_history(), 1, inf)
    assert any("a/fold-2" in name for name in samples(metrics))
    assert not any("budget" in name[0] for name in samples(metrics))


def test_metrics_cost_the_driver_little_however_long_the_history_is() -> None:
    clock = iter([0.0, 2.0, *(float(second) for second in range(3, 500))])
    metrics = StudyMetrics(clock=lambda: next(clock))
    metrics.begin("a")
    history = history_of(event for event in events()[:3])
    metrics.update(history, 1, inf)  # takes two seconds
    before = metrics.text()

    for event in events()[3:60]:
        history.apply(event)
        metrics.update(history, 1, inf)
    assert samples(metrics) == samples_of(before)
    metrics.update(history, 1, inf, is_last=True)
    assert samples(metrics) != samples_of(before)


def samples_of(text: bytes) -> dict[tuple[str, ...], float]:
    """Return the same as `samples`, of a text."""
    metrics = StudyMetrics()
    metrics.text = lambda: text  # type: ignore[method-assign]
    return samples(metrics)


def test_requests_to_the_store_are_timed_and_failures_are_counted(tmp_path: Path) -> None:
    metrics = StudyMetrics()
    store = TimedStore(tmp_path / "store", metrics.store_seconds)
    store.write("entry", {"file": b"content"})
    assert store.read("entry", lambda files: files["file"]) == b"content"
    assert store.get("0" * 64) is None

    def is_away(files: object) -> None:
        raise SurroundingsError("away", mend="")

    with pytest.raises(SurroundingsError):
        store.read("entry", is_away)
    found = samples(metrics)
    name = "affectune_study_store_seconds_count"
    assert found[name, "write", "ok"] == 1
    assert found[name, "read", "ok"] == 2
    assert found[name, "read", "error"] == 1


def ask(port: int, path: str = "/metrics", host: str = "localhost") -> tuple[int, str]:
    """Return the status and the text of an answer."""
    request = urllib.request.Request(f"http://{LOOPBACK}:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_server_answers_prometheus_and_no_web_page_of_another_name() -> None:
    with metrics_server(LOOPBACK, 0, lambda: b"text") as server:
        port = server.server_address[1]
        assert ask(port) == (200, "text")
        assert ask(port, host=f"127.0.0.1:{port}")[0] == 200
        assert ask(port, host=f"[::1]:{port}")[0] == 200
        assert ask(port, host="evil.example")[0] == 421
        assert ask(port, path="/")[0] == 404
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, port), timeout=1)


def test_connections_that_say_nothing_shut_nobody_out_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuning.monitoring.metrics_server._Handler.timeout", 0.2)
    with metrics_server(LOOPBACK, 0, lambda: b"text") as server:
        port = server.server_address[1]
        silent = [socket.create_connection((LOOPBACK, port)) for _ in range(2 * MAX_CONNECTIONS)]
        deadline = time.monotonic() + 20
        status = 0
        while status != 200:
            assert time.monotonic() < deadline
            try:
                status, _ = ask(port)
            except OSError:
                time.sleep(0.05)
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("host", [LOOPBACK, "203.0.113.7", "no-such-host.invalid"])
def test_a_port_that_is_taken_and_an_address_of_others_are_refused(host: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"{re.escape(host)}.*--metrics-port"):
            MetricsServer(host, port, lambda: b"")


def test_a_study_that_is_finished_is_read_once_more_but_waits_for_nobody_else() -> None:
    begin = time.monotonic()
    with metrics_server(LOOPBACK, 0, lambda: b""):
        pass
    assert time.monotonic() - begin < 2

    texts = []
    with metrics_server(LOOPBACK, 0, lambda: json.dumps(now()).encode()) as server:
        port = server.server_address[1]

        def read_regularly() -> None:
            for _ in range(3):
                texts.append(float(ask(port)[1]))
                time.sleep(0.4)

        reader = threading.Thread(target=read_regularly)
        reader.start()
        while len(texts) < 2:
            time.sleep(0.01)
        ended_at = now()
    reader.join()
    assert texts[-1] >= ended_at
    assert len(texts) == 3
