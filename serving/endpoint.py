"""Ray Serve around the application: replicas, their settings, draining."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from pipeline.credentials.known import remember_secret
from pipeline.credentials.outlets import mask_outlets
from pipeline.environment import ONE_THREAD, TRACKING_URI
from pipeline.errors import only_masked_errors
from serving import json_log, local_link, memory, metrics_sum
from serving.proxy_errors import CALLBACK
from serving.settings import PROXY_RECORDS, Settings

NAME = "affectune"
HEALTH_PERIOD_S = 2.0


@serve.ingress()
class Endpoint:
    """One replica: a model follower, and the application that predicts with its model."""

    def __init__(self, settings: Settings) -> None:
        # Imported here, because the driver only passes this class on.
        import torch

        from serving.decoder_process import DecoderProcess
        from serving.metrics import Metrics
        from serving.model_follower import ModelFollower
        from serving.model_source import find_source
        from serving.replica_port import ReplicaPort

        self._port = ReplicaPort()
        mask_outlets()
        torch.set_num_threads(1)
        json_log.log_json_lines()
        memory.keep_giving_back_memory()

        with only_masked_errors():
            for token in settings.secrets():
                remember_secret(token.decode(errors="replace"))

            self._settings = settings
            self._metrics = Metrics.shared()
            self._decoder = DecoderProcess(settings)
            self._decoder.start()
            self._follower = ModelFollower(find_source(settings), settings, self._metrics)
            self._follower.start()

        self._is_checked = False

    def check_health(self) -> None:
        """Refuse to serve where Serve's own port is open to all; asked before a request comes."""
        if not self._is_checked:
            self._port.raise_if_open()
            self._is_checked = True

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serving.app import build_app

        return build_app(
            self._follower.current,
            self._settings,
            self._metrics,
            advice=self._follower.advice,
            decoder=self._decoder.decode,
            is_behind_proxy=_is_behind_proxy(),
        )


def build(arguments: dict[str, Any]) -> Application:
    """Return the Serve application, for `serve run` and for a Serve configuration file.

    Args:
        arguments: settings by name.
    """
    return application(Settings.model_validate(arguments))


def application(settings: Settings) -> Application:
    """Return the Serve application with these settings.

    Where the registry is goes to the replicas among the settings, because the variables of a
    replica's process stand in Ray's logs, and the URI may hold a password.
    """
    registry = settings.tracking_uri or os.environ.get(TRACKING_URI)
    settings = settings.model_copy(update={"tracking_uri": registry})
    deployment = serve.deployment(
        name=NAME,
        # High, and no queue of Serve's: a request whose body is still coming must not take the
        # place of one that could be predicted.
        max_ongoing_requests=settings.max_connections,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": _environment()}},
        logging_config={"enable_access_log": False},
        **_replicas(settings),
    )(Endpoint)
    return deployment.bind(settings)


def _is_behind_proxy() -> bool:
    """Return whether the proxy before this replica is ours, and counts and logs the requests."""
    variable, callback = CALLBACK
    return os.environ.get(variable) == callback and PROXY_RECORDS in os.environ


def _replicas(settings: Settings) -> dict[str, Any]:
    """Return a fixed number of replicas, or bounds between which Serve chooses it."""
    if settings.max_replicas is None or settings.max_replicas <= settings.replicas:
        return {"num_replicas": settings.replicas}

    return {
        "autoscaling_config": {
            "min_replicas": settings.replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": max(1, settings.max_waiting // 2),
        }
    }


def _environment() -> dict[str, str]:
    """Return what a replica's process needs before it imports anything; no secrets: see above."""
    environment = dict(ONE_THREAD)
    # Without `affectune serve` the replicas of a machine still count together.
    environment[metrics_sum.LINK] = local_link.new_name("metrics")
    for name in ("AFFECTUNE_CACHE", json_log.LINK, metrics_sum.LINK):
        if name in os.environ:
            environment[name] = os.environ[name]
    return environment
