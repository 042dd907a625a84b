"""A model in plain torch behind FastAPI and uvicorn, as one writes it in an afternoon.

`python -m tests.benchmarks.servers.bare_fastapi BUNDLE PORT`
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI

import affectune
from tests.benchmarks.plain_torch import networks_in_plain_torch


def build_app(bundle: str) -> FastAPI:
    """Return an application with the request and the path of our endpoint, and no checks."""
    model = affectune.load(bundle)
    app = FastAPI()

    @app.get("/ping")
    def ping() -> str:
        return "ok"

    @app.post("/v1/predictions")
    def predict(request: dict[str, Any]) -> dict[str, list[float]]:
        features = {name: np.array(sent["data"]) for name, sent in request["features"].items()}
        prediction = model.predict(features)
        return {target: values.tolist() for target, values in prediction.values.items()}

    return app


def main(bundle: str, port: int) -> None:
    """Serve until the process is ended."""
    torch.set_num_threads(1)
    with networks_in_plain_torch():
        uvicorn.run(build_app(bundle), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
