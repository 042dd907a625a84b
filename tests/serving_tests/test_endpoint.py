"""The running endpoint: `affectune serve` with real replicas, started once for this file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest

from pipeline.corpus import Corpus
from serving.predictor import Predictor
from tests.benchmarks.endurance import replicas
from tests.benchmarks.served import Load, free_port, running
from tests.serving_tests.registry import ALIAS, NAME, Registry
from tests.serving_tests.sessions import as_json, columns_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy", "ignore::ResourceWarning"
)
WITHIN_S = 120


@dataclass(frozen=True)
class Running:
    """An endpoint, its registry and what it runs in."""

    port: int
    process: int
    registry: Registry

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def version(self) -> str:
        return str(self.get("/readyz").json().get("version"))

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", timeout=WITHIN_S)


@pytest.fixture(scope="module")
def endpoint(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("endpoint")
    registry = Registry(folder)
    registry.register(bundle)
    registry.register(bundle)
    broken = folder / "broken"
    broken.mkdir()
    for path in bundle.iterdir():
        (broken / path.name).write_bytes(
            path.read_bytes() if path.suffix != ".safetensors" else b"broken"
        )
    registry.register(broken)
    registry.promote("1")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "affectune",
        "serve",
        "--model",
        f"models:/{NAME}@{ALIAS}",
        "--port",
        str(port),
    ]
    settings = {
        "AFFECTUNE_SERVE_TRACKING_URI": registry.uri,
        "AFFECTUNE_SERVE_CACHE": str(folder / "cache"),
        "AFFECTUNE_SERVE_FOLLOW_PERIOD_S": "0.5",
    }
    with running(command, port, "/readyz", folder / "log", **settings) as process:
        yield Running(port, process, registry)
    assert "Ending" in (folder / "log").read_text()


def _all_serve(endpoint: Running, version: str) -> bool:
    return [endpoint.version() for _ in range(6)] == [version] * 6


def _until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does, and fails where it does not come."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_through_the_proxy_come_the_numbers_of_the_model(
    endpoint: Running, corpus: Corpus, predictor: Predictor
) -> None:
    for session in corpus.partition("devel"):
        sent = as_json(session, columns_of(session))
        response = httpx.post(f"{endpoint.address}/v1/predictions", json=sent, timeout=WITHIN_S)
        assert response.json()["model"] == {"name": NAME, "version": "1"}
        expected = predictor.model.predict_sessions([session])[0].values
        for target, values in expected.items():
            np.testing.assert_allclose(
                response.json()["predictions"][target], values, rtol=0, atol=1e-6
            )


def test_only_this_machine_may_connect(endpoint: Running) -> None:
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    mine = [
        line.split()[3]
        for line in listening.splitlines()
        if line.split()[3].endswith(f":{endpoint.port}")
    ]
    assert mine == [f"127.0.0.1:{endpoint.port}"]


def test_a_promotion_a_rollback_and_a_broken_version_fail_no_request(
    endpoint: Running, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    load = Load(endpoint.port, json.dumps(as_json(session, columns_of(session))).encode())
    done: list[bool] = []

    def clients() -> None:
        while not done:
            load.closed(2, 1)

    thread = Thread(target=clients)
    thread.start()
    try:
        for version in ("2", "1"):
            endpoint.registry.promote(version)
            _until(partial(_all_serve, endpoint, version), f"version {version} is served")
        endpoint.registry.promote("3")
        failures = "affectune_follow_failures_total"
        _until(
            lambda: f"{failures} 2.0" in endpoint.get("/metrics").text,
            "both replicas refuse version 3",
        )
    finally:
        done.append(True)
        thread.join()
        endpoint.registry.promote("1")
    assert set(load.counts()) == {200}
    assert {version for _, _, version in load.seen} == {"1", "2"}


def test_metrics_are_those_of_all_replicas(endpoint: Running) -> None:
    text = endpoint.get("/metrics").text
    assert 'affectune_model_replicas{name="affectune",version="1"} 2.0' in text


def test_a_killed_replica_is_replaced_and_a_client_that_asks_again_notices_nothing(
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
    _until(lambda: len(set(replicas(endpoint.process)) - {before[0]}) == 2, "two replicas again")


def test_a_port_in_use_is_refused_in_words(endpoint: Running, bundle: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "affectune",
        "serve",
        "--model",
        str(bundle),
        "--port",
        str(endpoint.port),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Choose another --port" in done.stderr
    assert "Traceback" not in done.stderr
