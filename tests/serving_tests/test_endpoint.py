"""The running endpoint: `affectune serve` with real replicas, started once for this file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import psutil
import pytest

from pipeline.corpus import Corpus
from serving.models.predictor import Predictor
from tests.serving_tests.endpoint_process import (
    Load,
    free_port,
    replicas,
    running_endpoint,
    serve_command,
)
from tests.serving_tests.registry import ALIAS, NAME, Registry
from tests.serving_tests.sessions import as_json, columns_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy", "ignore::ResourceWarning"),
]
PATIENCE_S = 120
MAX_CLIENTS = 100


@dataclass(frozen=True)
class Running:
    """An endpoint, its registry and what it runs in."""

    port: int
    process: int
    registry: Registry
    log: Path

    @property
    def address(self) -> str:
        """The endpoint's URL."""
        return f"http://127.0.0.1:{self.port}"

    def version(self) -> str:
        """Return the version that one replica serves."""
        return str(self.get("/readyz").json().get("version"))

    def get(self, path: str) -> httpx.Response:
        """Send a GET request."""
        return httpx.get(f"{self.address}{path}", timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def endpoint(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two replicas that follow the champion; versions 1 and 2 work, 3 is broken."""
    folder = tmp_path_factory.mktemp("endpoint")
    broken = folder / "broken"
    shutil.copytree(bundle, broken)
    (broken / "weights.safetensors").write_bytes(b"broken")

    registry = Registry(folder)
    for version in (bundle, bundle, broken):
        registry.register(version)
    registry.promote("1")

    port = free_port()
    model = f"models:/{NAME}@{ALIAS}"
    settings = {
        "tracking_uri": registry.uri,
        "cache": folder / "cache",
        "follow_period_s": 0.5,
        "max_clients": MAX_CLIENTS,
    }
    with running_endpoint(model, port, folder / "log", **settings) as process:
        ray_folder = _ray_folder(process)
        yield Running(port, process, registry, folder / "log")
        statuses = set[int]()
        client = Thread(target=_ask_until_refused, args=(port, statuses))
        client.start()
    client.join()
    # Until the end who comes is told to try again; where the proxy ends, there may be no answer.
    assert statuses <= {200, 503, 0}
    assert not ray_folder.parent.exists()

    said = (folder / "log").read_text().partition("Ending")
    assert said[1]
    assert "Error" not in said[2]
    # Of the replica that a test has killed Ray may tell late.
    lines = [line for line in said[2].splitlines() if "A worker died" not in line]
    assert not any("(raylet)" in line for line in lines)


def _ask_until_refused(port: int, statuses: set[int]) -> None:
    """Ask for the model again and again, until nobody listens."""
    with contextlib.suppress(httpx.ConnectError):
        while True:
            try:
                url = f"http://127.0.0.1:{port}/v1/model"
                statuses.add(httpx.get(url, timeout=PATIENCE_S).status_code)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                statuses.add(0)


def _all_serve(endpoint: Running, version: str) -> bool:
    return [endpoint.version() for _ in range(6)] == [version] * 6


def _wait_until(condition: Callable[[], bool], name: str) -> None:
    """Wait for something that another process does, and fail where it does not happen."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, name
        time.sleep(0.1)


def test_predictions_through_the_proxy_are_those_of_the_model(
    endpoint: Running, corpus: Corpus, predictor: Predictor
) -> None:
    for session in corpus.partition("devel"):
        request = as_json(session, columns_of(session))
        url = f"{endpoint.address}/v1/predictions"
        response = httpx.post(url, json=request, timeout=PATIENCE_S)
        assert response.json()["model"] == {"name": NAME, "version": "1"}

        predictions = response.json()["predictions"]
        expected = predictor.model.predict_sessions([session])[0].values
        for target, values in expected.items():
            np.testing.assert_allclose(predictions[target], values, rtol=0, atol=1e-6)


def test_no_process_of_the_endpoint_listens_beyond_this_machine(endpoint: Running) -> None:
    members = psutil.Process(endpoint.process).children(recursive=True)
    assert len(replicas(endpoint.process)) == 2
    listeners = [
        connection.laddr
        for member in members
        for connection in member.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert ("127.0.0.1", endpoint.port) in listeners
    assert {address for address, _ in listeners} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_no_other_user_reaches_the_folder_of_rays_sockets_and_logs(endpoint: Running) -> None:
    folder = _ray_folder(endpoint.process)
    assert list(folder.glob("session_latest/sockets/*"))
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def _ray_folder(process: int) -> Path:
    """Return the folder in which an endpoint's Ray keeps its sessions."""
    members = psutil.Process(process).children(recursive=True)
    [raylet] = [member for member in members if member.name() == "raylet"]
    [option] = [word for word in raylet.cmdline() if word.startswith("--temp_dir=")]
    return Path(option.partition("=")[2])


def test_a_strange_name_is_refused_however_it_is_sent(endpoint: Running) -> None:
    for request, status in (
        (b"GET /v1/model HTTP/1.1\r\nHost: evil.example", b"421"),
        (b"GET http://localhost/v1/model HTTP/1.1\r\nHost: evil.example", b"421"),
        (b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", b"400"),
        (b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example", b"403"),
        (b"GET /v1/model HTTP/1.1\r\nHost: \xff", b"400"),
        (b"GET /healthz HTTP/1.0", b"200"),
    ):
        with socket.create_connection(("127.0.0.1", endpoint.port), PATIENCE_S) as connection:
            connection.sendall(request + b"\r\nConnection: close\r\n\r\n")
            assert connection.recv(4096).split()[1] == status, request


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("PUT", 405)])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/model", "/", "/page/page.js"])
def test_every_response_has_one_id(endpoint: Running, path: str, method: str, status: int) -> None:
    headers = {"X-Request-Id": "mine", "X-Request-Timeout-Seconds": "no number"}
    url = f"{endpoint.address}{path}"
    response = httpx.request(method, url, headers=headers, timeout=PATIENCE_S)
    assert response.status_code == status
    assert response.headers.get_list("x-request-id") == ["mine"]


def test_clients_that_say_nothing_shut_nobody_out(endpoint: Running) -> None:
    clients = [
        socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(MAX_CLIENTS + 50)
    ]
    try:
        assert endpoint.get("/healthz").status_code == 200
        assert endpoint.get("/v1/example").status_code == 200

        for client in clients[:50]:  # who has waited longest had to go
            client.settimeout(PATIENCE_S)
            assert client.recv(1) == b""
    finally:
        for client in clients:
            client.close()


def test_a_promotion_a_rollback_and_a_broken_version_fail_no_request(
    endpoint: Running, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    load = Load(endpoint.port, json.dumps(as_json(session, columns_of(session))).encode())
    is_over = Event()

    def send_requests() -> None:
        while not is_over.is_set():
            load.closed(2, 1)

    thread = Thread(target=send_requests)
    thread.start()
    try:
        for version in ("2", "1"):
            endpoint.registry.promote(version)
            _wait_until(partial(_all_serve, endpoint, version), f"version {version} is served")

        endpoint.registry.promote("3")
        failures = "affectune_follow_failures_total"
        _wait_until(
            lambda: f"{failures} 2.0" in endpoint.get("/metrics").text,
            "both replicas refuse version 3",
        )
    finally:
        is_over.set()
        thread.join()
        endpoint.registry.promote("1")

    assert set(load.counts()) == {200}
    assert {outcome.version for outcome in load.outcomes} == {"1", "2"}


def test_each_request_leaves_one_line_of_json_in_the_log(endpoint: Running) -> None:
    """Also those that look alike, and those that are refused."""
    requests = [
        ("GET", "/v1/model", b"", 200),
        ("GET", "/nothing", b"", 404),
        ("PUT", "/v1/predictions", b"", 405),
        ("POST", "/v1/predictions", b"{", 400),
        ("POST", "/v1/predictions", b" " * 17 * 2**20, 413),
    ]
    expected = {}
    with httpx.Client(base_url=endpoint.address, timeout=PATIENCE_S) as client:
        for number in range(50):
            method, path, body, status = requests[number % len(requests)]
            name = f"line-{number}-{'x' * 50}"
            headers = {"X-Request-Id": name, "Content-Type": "application/json"}
            response = client.request(method, path, content=body, headers=headers)
            assert response.status_code == status
            expected[name] = status

    def lines() -> list[tuple[str, int]]:
        text = endpoint.log.read_text(encoding="utf-8")
        said = [json.loads(line) for line in text.splitlines() if '"line-' in line]
        return [(line["request_id"], line["status"]) for line in said]

    _wait_until(lambda: len(lines()) >= len(expected), "all lines are there")
    assert sorted(lines()) == sorted(expected.items())


def test_metrics_are_those_of_all_replicas(endpoint: Running) -> None:
    text = endpoint.get("/metrics").text
    assert 'affectune_model_replicas{name="affectune",version="1"} 2.0' in text


def test_a_killed_replica_is_replaced_and_a_client_that_retries_notices_nothing(
    endpoint: Running, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    load = Load(
        endpoint.port, json.dumps(as_json(session, columns_of(session))).encode(), retries=1
    )
    before = replicas(endpoint.process)
    assert len(before) == 2

    thread = Thread(target=load.closed, args=(4, 5))
    thread.start()
    os.kill(before[0], signal.SIGKILL)
    thread.join()

    assert set(load.counts()) == {200}
    _wait_until(
        lambda: len(set(replicas(endpoint.process)) - {before[0]}) == 2,
        "the killed replica is replaced",
    )


def test_a_port_in_use_is_refused_without_a_traceback(endpoint: Running, bundle: Path) -> None:
    command = serve_command(str(bundle), endpoint.port)
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "Choose another --port" in process.stderr
    assert "Traceback" not in process.stderr
