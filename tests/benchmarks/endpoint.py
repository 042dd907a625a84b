"""The endpoint against other ways to serve the same networks.

These are plain torch, `mlflow models serve`, and a bare FastAPI with torch. One session of 600
frames and three modalities; the paper's network: 3 auto-encoders, 6 regressors, 2 fusions.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest import mock

import torch

import affectune
from tests.benchmarks.paper_model import random_features, request_body, write_paper_bundle
from tests.benchmarks.plain_torch import networks_in_plain_torch
from tests.benchmarks.rows import (
    Row,
    compare_times,
    duration_ms,
    less_is_better,
    more_is_better,
)
from tests.serving_tests.endpoint_process import Load, free_port, running, running_endpoint

NUM_FRAMES = 600
NUM_PAIRS, NUM_ROUNDS = 15, 2
NUM_CLIENTS = 8  # so many that no replica ever waits for one
LOAD_S = 15.0
MODEL_CODE = Path(__file__).parent / "servers" / "pyfunc_model.py"


@dataclass(frozen=True)
class Speed:
    """How fast a server is.

    Attributes:
        p50_ms: half of the responses to one client come within this time.
        rate: responses per second to several clients.
    """

    p50_ms: float
    rate: float


def endpoint_rows() -> list[Row]:
    """Return times and throughputs; every other server runs alone, in turn with ours."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            bundle = write_paper_bundle(folder)
            return [_in_process_row(bundle), *_served_rows(bundle, folder)]
    finally:
        torch.set_num_threads(num_threads)


def _in_process_row(bundle: Path) -> Row:
    """Compare the prediction of one session with the fused GRU to that with torch's."""
    our_model, plain_model = affectune.load(bundle), affectune.load(bundle)
    features = random_features(our_model, NUM_FRAMES)
    with networks_in_plain_torch():
        plain_model.predict(features)  # builds the networks, which it keeps

    return compare_times(
        "in_process_vs_torch",
        lambda: our_model.predict(features),
        lambda: plain_model.predict(features),
        NUM_PAIRS,
    )


def _served_rows(bundle: Path, folder: Path) -> list[Row]:
    model = affectune.load(bundle)
    features = random_features(model, NUM_FRAMES)
    body = request_body(model, NUM_FRAMES)

    in_process_ms: list[float] = []
    one_replica: list[Speed] = []
    two_replicas: list[Speed] = []
    for _ in range(NUM_ROUNDS):  # in turn, because what else the machine does changes over minutes
        in_process_ms += [duration_ms(lambda: model.predict(features)) for _ in range(9)]
        one_replica.append(_our_speed(bundle, folder, body, num_replicas=1))
        two_replicas.append(_our_speed(bundle, folder, body, num_replicas=2))

    bound_ms = 1.5 * median(in_process_ms) + 5
    one_rate = median(speed.rate for speed in one_replica)
    p50_ms = median(speed.p50_ms for speed in two_replicas)
    rate = median(speed.rate for speed in two_replicas)
    mlflow = _mlflow_speed(bundle, folder, body)
    bare = _bare_speed(bundle, folder, body)

    return [
        less_is_better("p50_vs_bound", p50_ms, bound_ms, "ms"),
        more_is_better("throughput_two_replicas_vs_one", rate, one_rate, "1/s"),
        less_is_better("p50_vs_mlflow_models_serve", p50_ms, mlflow.p50_ms, "ms"),
        more_is_better("throughput_vs_mlflow_models_serve", rate, mlflow.rate, "1/s"),
        less_is_better("p50_vs_bare_fastapi_torch", p50_ms, bare.p50_ms, "ms"),
        more_is_better("throughput_vs_bare_fastapi_torch", rate, bare.rate, "1/s"),
    ]


def _our_speed(bundle: Path, folder: Path, body: bytes, *, num_replicas: int) -> Speed:
    port = free_port()
    log = folder / "log"
    with running_endpoint(str(bundle), port, log, replicas=num_replicas, max_wait_s=60):
        return _measure(port, body)


def _mlflow_speed(bundle: Path, folder: Path, body: bytes) -> Speed:
    """Measure the same bundle as a pyfunc model behind MLflow's own server."""
    import mlflow

    with mock.patch.dict(os.environ, {"MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true"}):
        mlflow.pyfunc.save_model(
            str(folder / "pyfunc"),
            python_model=str(MODEL_CODE),
            artifacts={"bundle": str(bundle)},
            pip_requirements=["affectune"],
        )

    port = free_port()
    options = ["-m", str(folder / "pyfunc"), "-p", str(port), "--env-manager", "local"]
    command = [sys.executable, "-m", "mlflow", "models", "serve", *options]
    # It starts uvicorn by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    table = json.dumps({"dataframe_records": [{"session": body.decode()}]}).encode()
    with running(command, port, "/ping", folder / "mlflow.log", PATH=path):
        return _measure(port, table, "/invocations")


def _bare_speed(bundle: Path, folder: Path, body: bytes) -> Speed:
    """Measure the same networks in plain torch behind FastAPI and uvicorn."""
    port = free_port()
    module = "tests.benchmarks.servers.bare_fastapi"
    command = [sys.executable, "-m", module, str(bundle), str(port)]
    with running(command, port, "/ping", folder / "bare.log"):
        return _measure(port, body)


def _measure(port: int, body: bytes, path: str = "/v1/predictions") -> Speed:
    Load(port, body, path).closed(2, 3)  # the first requests compile and build

    alone, together = Load(port, body, path), Load(port, body, path)
    alone.closed(1, LOAD_S)
    rate = together.closed(NUM_CLIENTS, LOAD_S)

    statuses = {*alone.counts(), *together.counts()}
    if statuses != {200}:
        raise RuntimeError(f"port {port} answered with status {sorted(statuses - {200})}")
    return Speed(alone.percentile_ms(50), rate)
