"""The endpoint against the same networks in plain torch, `mlflow models serve`, and a bare FastAPI with torch.

One session of 600 frames and three modalities, the paper's network: 3 auto-encoders, 6 regressors, 2 fusions.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

import torch
from torch import Tensor, nn

from pipeline.networks.recurrent import _GRU
from serving.predictor import Predictor
from serving.settings import Settings
from tests.benchmarks.served import (
    Load,
    endpoint,
    features,
    free_port,
    paper_bundle,
    request_body,
    running,
)

FRAMES = 600
PAIRS, ROUNDS = 15, 2
CLIENTS, SECONDS = 8, 15.0  # so many that no replica ever waits for one
Row = dict[str, str | float]


def endpoint_rows() -> list[Row]:
    """Times and throughputs; every other server runs alone, in turn with ours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            bundle = paper_bundle(Path(temporary))
            return [_in_process(bundle), *_served(bundle, Path(temporary))]
    finally:
        torch.set_num_threads(threads)


def _in_process(bundle: Path) -> Row:
    """Prediction of one session: with the fused GRU, and the same with torch's."""
    model = Predictor.load(bundle, "bench", "1", Settings()).model
    sent = features(model, FRAMES)
    pairs = []
    for _ in range(PAIRS + 2):
        ours_ms = _ms(lambda: model.predict(sent))
        with mock.patch.object(_GRU, "forward", _plain):
            pairs.append((ours_ms, _ms(lambda: model.predict(sent))))
    pairs = pairs[2:]  # the first calls compile and build
    ours, other = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(theirs / own for own, theirs in pairs)
    return _row("in_process_vs_torch", ours, other, "ms", ratio)


def _plain(self: nn.GRU, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
    states_BTS: Tensor = nn.GRU.forward(self, x_BTF)[0]
    return states_BTS


def _served(bundle: Path, folder: Path) -> list[Row]:
    model = Predictor.load(bundle, "bench", "1", Settings()).model
    sent = features(model, FRAMES)
    body = request_body(model, FRAMES)
    port = free_port()
    in_process_ms: list[float] = []
    one: list[tuple[float, float]] = []
    two: list[tuple[float, float]] = []
    for _ in range(ROUNDS):  # in turn, because what else the machine does changes over minutes
        in_process_ms += [_ms(lambda: model.predict(sent)) for _ in range(9)]
        for replicas, found in ((1, one), (2, two)):
            with endpoint(str(bundle), port, folder / "log", replicas=replicas, max_wait_s=60):
                found.append(_measure(Load(port, body), Load(port, body)))
    bound_ms = 1.5 * median(in_process_ms) + 5
    p50_ms, rate = (median(column) for column in zip(*two, strict=True))
    one_rate = median(rate for _, rate in one)
    mlflow = _mlflow(bundle, folder, body)
    bare = _bare(bundle, folder, body)
    return [
        _row("p50_vs_bound", p50_ms, bound_ms, "ms", bound_ms / p50_ms),
        _row("throughput_two_replicas_vs_one", rate, one_rate, "1/s", rate / one_rate),
        _row("p50_vs_mlflow_models_serve", p50_ms, mlflow[0], "ms", mlflow[0] / p50_ms),
        _row("throughput_vs_mlflow_models_serve", rate, mlflow[1], "1/s", rate / mlflow[1]),
        _row("p50_vs_bare_fastapi_torch", p50_ms, bare[0], "ms", bare[0] / p50_ms),
        _row("throughput_vs_bare_fastapi_torch", rate, bare[1], "1/s", rate / bare[1]),
    ]


def _measure(alone: Load, together: Load) -> tuple[float, float]:
    """p50 of one client in milliseconds; answers per second of several."""
    Load(alone.port, alone.body, alone.path).closed(2, 3)
    alone.closed(1, SECONDS)
    rate = together.closed(CLIENTS, SECONDS)
    wrong = {status for load in (alone, together) for status in load.counts()} - {200}
    if wrong:
        raise RuntimeError(f"port {alone.port} answered with status {sorted(wrong)}")
    return alone.percentile_ms(50), rate


MLFLOW_MODEL = """
import json
import mlflow.pyfunc
import numpy as np

class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import torch
        import affectune
        torch.set_num_threads(1)
        self.model = affectune.load(context.artifacts["bundle"])

    def predict(self, context, model_input, params=None):
        sent = json.loads(model_input["session"].iloc[0])["features"]
        said = self.model.predict({name: np.array(one["data"]) for name, one in sent.items()})
        return {target: series.tolist() for target, series in said.values.items()}

mlflow.models.set_model(Model())
"""


def _mlflow(bundle: Path, folder: Path, body: bytes) -> tuple[float, float]:
    """The same bundle as a pyfunc model behind MLflow's own server."""
    import mlflow

    (folder / "model_code.py").write_text(MLFLOW_MODEL)
    with mock.patch.dict(os.environ, {"MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true"}):
        mlflow.pyfunc.save_model(
            str(folder / "pyfunc"),
            python_model=str(folder / "model_code.py"),
            artifacts={"bundle": str(bundle)},
            pip_requirements=["affectune"],
        )
    port = free_port()
    wrapped = json.dumps({"dataframe_records": [{"session": body.decode()}]}).encode()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(folder / "pyfunc"),
        "-p",
        str(port),
    ]
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]]
    )  # it starts uvicorn by its name
    with running(
        [*command, "--env-manager", "local"], port, "/ping", folder / "mlflow.log", PATH=path
    ):
        return _measure(Load(port, wrapped, "/invocations"), Load(port, wrapped, "/invocations"))


BARE = """
import sys
from unittest import mock

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request

import affectune
from pipeline.networks.recurrent import _GRU
from tests.benchmarks.endpoint import _plain

torch.set_num_threads(1)
_GRU.forward = _plain
model = affectune.load(sys.argv[1])
app = FastAPI()

@app.get("/ping")
def ping():
    return "ok"

@app.post("/v1/predictions")
def predict(request: dict):
    said = model.predict({name: np.array(one["data"]) for name, one in request["features"].items()})
    return {target: series.tolist() for target, series in said.values.items()}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


def _bare(bundle: Path, folder: Path, body: bytes) -> tuple[float, float]:
    """The same networks in plain torch behind FastAPI and uvicorn."""
    port = free_port()
    with running(
        [sys.executable, "-c", BARE, str(bundle), str(port)], port, "/ping", folder / "bare.log"
    ):
        return _measure(Load(port, body), Load(port, body))


def _ms(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def _row(name: str, ours: float, other: float, unit: str, ratio: float) -> Row:
    return {
        "name": name,
        "ours": round(ours, 2),
        "other": round(other, 2),
        "unit": unit,
        "ratio": round(ratio, 2),
    }
