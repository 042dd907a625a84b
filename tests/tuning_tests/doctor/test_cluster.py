"""A cluster that is not there, or whose Ray ends the process that asks, is a finding."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tuning.doctor import cluster
from tuning.doctor.cluster import check_cluster, resource_text


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test depend on the environment."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_without_an_address_nothing_is_asked() -> None:
    [finding] = check_cluster(None, None)
    assert (finding.status, finding.mend) == ("ok", "")


def test_a_dead_address_is_told_within_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    begin = time.monotonic()
    [finding] = check_cluster(f"127.0.0.1:{port}", str(tmp_path))
    assert time.monotonic() - begin < 10
    assert finding.status == "error"
    assert f"127.0.0.1:{port}" in finding.finding
    assert "`ray start --head`" in finding.mend


@pytest.mark.parametrize(
    ("code", "statuses", "said"),
    [
        (
            "import json; print('noise'); print(json.dumps([{'check': 'nodes', 'status': 'ok',"
            " 'finding': 'host1: 2 CPUs', 'mend': ''}]))",
            ["ok"],
            "host1: 2 CPUs",
        ),
        ("import sys; sys.exit('The program will terminate')", ["error"], "will terminate"),
        ("import os; os.abort()", ["error"], "status -6"),
        ("print('nonsense')", ["error"], "ended the connection"),
        ("import time; time.sleep(60)", ["error"], "took no connection within 1 s"),
    ],
)
def test_whatever_ray_does_to_the_process_that_asks_is_a_finding(
    code: str, statuses: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_cluster", lambda address, resolve: "host1:6379")
    monkeypatch.setattr(cluster, "asks_for_token", lambda address: True)
    monkeypatch.setattr(cluster, "CODE", code)
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0 if "sleep" in code else 60.0)
    first, *findings = check_cluster("host1:6379", None)
    assert (first.check, first.status) == ("Ray token", "ok")
    assert [finding.status for finding in findings] == statuses
    assert said in findings[0].finding


def test_the_resources_of_a_node_are_told() -> None:
    resources = {"CPU": 4.0, "GPU": 0.5, "object_store_memory": 2.5 * 2**30, "node:10.0.0.1": 1.0}
    assert resource_text(resources) == "4 CPUs, 0.5 GPUs, 2.5 GB for objects"
    assert resource_text({}) == "0 CPUs, 0 GPUs, 0.0 GB for objects"
