"""The endpoint on three hosts: it grows and shrinks under load, and follows its alias meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline.corpus import Corpus
from tests.infra_tests.hosts import Host, Hosts, wait_until
from tests.infra_tests.ray_cluster import start_head, start_node
from tests.serving_tests import conftest
from tests.serving_tests.registry import Registry
from tests.serving_tests.sessions import as_json, columns_of

pytestmark = pytest.mark.cluster
TOKEN = {"RAY_AUTH_MODE": "token"}
PORT = 8000
bundle, store, corpus = conftest.bundle, conftest.store, conftest.corpus
"""Fixtures of the endpoint's tests."""
SECRET = "hush-hush-7319"
WRITE_CONFIG = """
affectune serve --write-config serve.yaml --model models:/affectune@champion --host 0.0.0.0 \
  --replicas 1 --max-replicas 3
serve deploy serve.yaml
"""
LOAD = """
import json, sys, time
from pathlib import Path
from threading import Thread
from tests.serving_tests.endpoint_process import Load
folder, num_clients = Path(sys.argv[1]), int(sys.argv[2])
load = Load(8000, (folder / "body.json").read_bytes())
def ask():
    while not (folder / f"end_{num_clients}").exists():
        load.closed(1, 0.0, 1)
clients = [Thread(target=ask) for _ in range(num_clients)]
for client in clients: client.start()
while any(client.is_alive() for client in clients):
    versions = [outcome.version for outcome in load.outcomes[-20:]]
    text = json.dumps({"counts": load.counts(), "versions": versions})
    (folder / f"load_{num_clients}.new").write_text(text)
    (folder / f"load_{num_clients}.new").rename(folder / f"load_{num_clients}.json")
    time.sleep(0.2)
"""
"""Clients on one host, each with one request at a time, until a file says that it is enough."""


@pytest.fixture
def registry(hosts: Hosts, bundle: Path) -> Registry:
    """Two versions, of which the first is the champion, where all hosts see them."""
    registry = Registry(hosts.shared)
    registry.register(bundle)
    registry.register(bundle)
    registry.promote("1")
    return registry


@pytest.fixture
def cluster(hosts: Hosts, registry: Registry, corpus: Corpus) -> Hosts:
    """Ray on three hosts, with a token and one CPU each, and a request for the model."""
    session = corpus.partition("devel")[0]
    request = as_json(session, columns_of(session))
    _repeat(request, 4000)
    (hosts.shared / "body.json").write_text(json.dumps(request))

    for host in hosts:
        host.variables = {"MLFLOW_TRACKING_URI": registry.uri}
    first, *others = hosts
    start_head(first, "--num-cpus=1")
    for host in others:
        start_node(hosts, host, "--num-cpus=1")
    return hosts


def test_replicas_follow_load_and_alias_without_a_failed_request(
    cluster: Hosts, registry: Registry
) -> None:
    first, shared = cluster[0], cluster.shared
    variables = TOKEN | {
        "AFFECTUNE_SERVE_FOLLOW_PERIOD_S": "0.5",
        "AFFECTUNE_SERVE_UPSCALE_DELAY_S": "1",
        "AFFECTUNE_SERVE_DOWNSCALE_DELAY_S": "3",
        "AFFECTUNE_SERVE_MAX_WAIT_S": "60",
    }
    output = first.shell(WRITE_CONFIG, env=variables)
    assert not output.returncode, output.stdout
    wait_until(lambda: _status(first, "/readyz") == 200, 240, "not ready")
    assert len(_replicas(cluster)) == 1
    # The bounds of `affectune serve`, on every proxy.
    assert _status(first, "/healthz", f"-H 'x: {'a' * 40_000}'") == 431

    # One client goes on to the end; eight more are too many for one replica.
    first.start("python", "-c", LOAD, str(shared), "1", output=shared / "log")
    first.start("python", "-c", LOAD, str(shared), "8", output=shared / "log")
    wait_until(lambda: _hosts_with_replicas(cluster) == 3, 240, "it does not grow")
    wait_until(lambda: len(_caches(cluster)) == 3, 240, "not every host has a version")

    registry.promote("2")
    wait_until(lambda: set(_load(shared, 8)["versions"]) == {"2"}, 240, "the alias is not followed")
    (shared / "end_8").touch()
    wait_until(lambda: len(_replicas(cluster)) == 1, 240, "it does not shrink")
    time.sleep(1)
    (shared / "end_1").touch()

    assert set(_load(shared, 1)["counts"]) == set(_load(shared, 8)["counts"]) == {"200"}
    for host in cluster:
        assert _fetched(host) <= {"1", "2"}
    metrics = first.shell(f"curl -sS http://localhost:{PORT}/metrics").stdout
    assert 'affectune_requests_total{method="POST",route="/v1/predictions",status="200"}' in metrics


def test_serve_on_a_cluster_takes_the_registrys_password_along(
    cluster: Hosts, registry: Registry
) -> None:
    first = cluster[0]
    variables = TOKEN | {
        "MLFLOW_TRACKING_TOKEN": SECRET,
        "RAY_ADDRESS": "host1:6379",
    }
    command = ("affectune", "serve", "--host", "0.0.0.0", "--replicas", "3")
    log = cluster.shared / "serve.log"
    serving = first.start(*command, env=variables, output=log)
    for host in cluster:
        wait_until(lambda host=host: _status(host, "/readyz") == 200, 240, log.read_text())
        assert _status(host, "/v1/model", f"-H 'Host: {host.name}'") == 200
        assert _status(host, "/healthz", f"-H 'x: {'a' * 40_000}'") == 431

    wait_until(lambda: "Serving models:" in log.read_text(), 240, log.read_text())
    assert first.end(serving) == 0, log.read_text()
    found = [host.shell(f"grep -rl {SECRET} /tmp/ray || true").stdout for host in cluster]
    assert found == ["", "", ""]
    assert SECRET not in log.read_text()


def _repeat(request: dict[str, object], num_frames: int) -> None:
    """Make a session so long that predicting it takes a while."""
    del request["timestamps_ms"]
    features = request["features"]
    assert isinstance(features, dict)
    for sent in features.values():
        rows = sent["data"]
        sent["data"] = (rows * (num_frames // len(rows) + 1))[:num_frames]


def _status(host: Host, path: str, options: str = "") -> int:
    url = f"http://localhost:{PORT}{path}"
    command = f"curl -sS -o /dev/null -w '%{{http_code}}' -m 10 {options} {url} || true"
    return int(host.shell(command).stdout.strip().splitlines()[-1])


def _replicas(hosts: Hosts) -> list[int]:
    return [process.pid for host in hosts for process in host.processes("ServeReplica:affectune")]


def _hosts_with_replicas(hosts: Hosts) -> int:
    return sum(bool(host.processes("ServeReplica:affectune")) for host in hosts)


def _caches(hosts: Hosts) -> list[Host]:
    return [host for host in hosts if _fetched(host)]


def _fetched(host: Host) -> set[str]:
    """Return the versions in a host's cache; each entry is a version and the time of its making."""
    entries = (host.home / ".cache" / "affectune" / "served").glob("*/*-*")
    return {entry.name.partition("-")[0] for entry in entries if entry.name[0] != "."}


def _load(folder: Path, num_clients: int) -> dict[str, dict[str, int]]:
    path = folder / f"load_{num_clients}.json"
    loaded: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}
    return loaded or {"counts": {}, "versions": {}}
