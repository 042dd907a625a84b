"""What the measurements of the endpoint share: a bundle with the paper's network, a running endpoint, a load."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread

import numpy as np

from pipeline.data.muse import read_corpus
from pipeline.data.synthetic import synthesize
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.storage.stage_store import StageStore
from pipeline.train import train

MODALITIES = ("face", "physio", "voice")
STARTING_S = 300  # a busy machine takes minutes; a quiet one 15 s


def paper_bundle(folder: Path) -> Path:
    """The paper's network for two targets and three modalities, one model of each; trained for a moment only."""
    one_epoch = {"fit": {"max_epochs": 1}}
    spec = Spec.model_validate(
        {
            "auto_encoder": one_epoch,
            "unimodal": one_epoch,
            "fusion": one_epoch,
            "inference": "refit",
            "folds": 2,
        }
    )
    corpus = read_corpus(
        synthesize(folder / "corpus", subjects=9, minutes=0.5), modalities=MODALITIES
    )
    with WorkerPool(corpus, StageStore(folder / "store")) as pool:
        model = train(corpus, spec, pool)
    evaluation = evaluate(model, corpus, "devel")
    summary = json.dumps(evaluation.to_json("bench")).encode()
    model.save(
        folder / "model", card=model_card(model, evaluation, []), others={"summary.json": summary}
    )
    return folder / "model"


def features(model: FusedModel, frames: int) -> dict[str, np.ndarray]:
    """A session of noise."""
    random = np.random.default_rng(0)
    return {
        name: random.normal(size=(frames, len(columns))).round(5)
        for name, columns in model.columns.items()
    }


def request_body(model: FusedModel, frames: int) -> bytes:
    """The same as a request."""
    sets = {
        name: {"columns": list(model.columns[name]), "data": values.tolist()}
        for name, values in features(model, frames).items()
    }
    return json.dumps({"features": sets}).encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str], port: int, ready: str, log: Path, **environment: str
) -> Iterator[int]:
    """A server process that answers at `ready`; gives its process id, and ends it politely."""
    with open(log, "ab") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=os.environ | environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + STARTING_S
        while status(port, ready) != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start; see {log}")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def endpoint(
    model: str, port: int, log: Path, **settings: object
) -> contextlib.AbstractContextManager[int]:
    """`affectune serve`, running."""
    environment = {
        f"AFFECTUNE_SERVE_{name.upper()}": str(value) for name, value in settings.items()
    }
    command = [sys.executable, "-m", "affectune", "serve", "--model", model, "--port", str(port)]
    return running(command, port, "/readyz", log, **environment)


def status(port: int, path: str) -> int:
    """What a GET is answered with; 0 where nobody answers."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


@dataclass
class Load:
    """What became of requests: (status, seconds, version) of each; status 0 where there was no response."""

    port: int
    body: bytes
    path: str = "/v1/predictions"
    retries: int = 0
    seen: list[tuple[int, float, str]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def closed(self, clients: int, seconds: float, requests: int | None = None) -> float:
        """Clients that ask, wait for the answer and ask again; returns answers per second."""
        begin = time.monotonic()
        threads = [
            Thread(target=self._client, args=(begin + seconds, requests)) for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(self.latencies()) / (time.monotonic() - begin)

    def open(self, rate: float, seconds: float) -> None:
        """Requests at random times, whatever becomes of the earlier ones."""
        random, begin, threads = np.random.default_rng(0), time.monotonic(), []
        at = 0.0
        while (at := at + float(random.exponential(1 / rate))) < seconds:
            time.sleep(max(0.0, begin + at - time.monotonic()))
            thread = Thread(target=self._client, args=(0.0, 1))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def counts(self) -> dict[int, int]:
        return dict(Counter(status for status, _, _ in self.seen))

    def latencies(self) -> list[float]:
        """Seconds of every 200."""
        return [seconds for status, seconds, _ in self.seen if status == 200]

    def percentile_ms(self, share: float) -> float:
        return float(np.percentile(self.latencies(), share)) * 1000

    def _client(self, until: float, requests: int | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=150)
        while (requests is not None and requests > 0) or (
            requests is None and time.monotonic() < until
        ):
            requests = None if requests is None else requests - 1
            begin, found, version = time.perf_counter(), 0, ""
            wait_s = 0.0
            for _ in range(1 + self.retries):
                time.sleep(wait_s)
                try:
                    connection.request(
                        "POST", self.path, self.body, {"Content-Type": "application/json"}
                    )
                    response = connection.getresponse()
                    text = response.read()
                    found = response.status
                    if found == 503 and response.headers["Retry-After"] is None:
                        found = 599  # busy without a word of when to come again: not allowed
                    wait_s = float(response.headers["Retry-After"] or 0)
                    version = text[:300].partition(b'"version":"')[2].partition(b'"')[0].decode()
                except (OSError, http.client.HTTPException):
                    connection.close()
                    found = 0
                if found == 200:
                    break
            with self.lock:
                self.seen.append((found, time.perf_counter() - begin, version))
        connection.close()
