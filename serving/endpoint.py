"""Ray Serve around the application: replicas, their settings, draining. No logic of its own."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from serving.settings import Settings

NAME = "affectune"
HEALTH_PERIOD_S = 2.0
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@serve.ingress()
class Endpoint:
    """One replica: the model, and the application that answers with it."""

    def __init__(self, settings: Settings) -> None:
        import torch

        from serving.access_log import JsonLines
        from serving.metrics import Metrics
        from serving.model_follower import ModelFollower
        from serving.model_source import find_source

        torch.set_num_threads(1)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logger = logging.getLogger("serving")
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
        self._settings = settings
        self._metrics = Metrics()
        self._following = ModelFollower(find_source(settings), settings, self._metrics)
        self._following.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serving.app import build_app

        return build_app(self._following.current, self._settings, self._metrics)


def build(arguments: dict[str, Any]) -> Application:
    """The Serve application; `arguments` are settings by name: for `serve run` and for a Serve configuration file."""
    return application(Settings.model_validate(arguments))


def application(settings: Settings) -> Application:
    """The Serve application with these settings."""
    replicas: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas is not None and settings.max_replicas > settings.replicas:
        replicas = {
            "autoscaling_config": {
                "min_replicas": settings.replicas,
                "max_replicas": settings.max_replicas,
                "target_ongoing_requests": max(1, settings.max_waiting // 2),
            }
        }
    deployment = serve.deployment(
        name=NAME,
        # High, and no queue of Serve's: a request whose body is still coming must not take a predicting one's place.
        max_ongoing_requests=settings.max_connections,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": _environment()}},
        logging_config={"enable_access_log": False},
        **replicas,
    )(Endpoint)
    return deployment.bind(settings)


def _environment() -> dict[str, str]:
    """What a replica's process needs before it imports anything."""
    named = ("MLFLOW_TRACKING_URI", "AFFECTUNE_CACHE")
    return {
        **{name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")},
        **{name: os.environ[name] for name in named if name in os.environ},
        METRICS_FOLDER: str(
            Path(tempfile.gettempdir()) / f"affectune-metrics-{uuid.uuid4().hex[:12]}"
        ),
    }
