"""Ray Serve around the application: replicas, their settings, draining."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from pipeline.credentials.known import remember_secret
from pipeline.credentials.outlets import mask_outlets
from pipeline.environment import ONE_THREAD, TRACKING_URI
from pipeline.errors import only_masked_errors
from serving.models.registry_access import RegistryAccess
from serving.monitoring import json_log, local_link, metrics_sum
from serving.proxy.proxy_errors import CALLBACK
from serving.requests import memory
from serving.settings import PROXY_RECORDS, Settings

NAME = "affectune"
HEALTH_PERIOD_S = 2.0
TARGET_REQUESTS = 2
"""In a replica on average, where their number follows the load: one is predicted, and one waits.
What waits longer than `max_wait_s` is refused, so more replicas must come well before that."""
QUESTION_S = 3.0
LOOK_BACK_S = 15.0
"""Over so long Serve averages the load, which it measures every 10 s."""


@serve.ingress()
class Endpoint:
    """One replica: a model follower, and the application that predicts with its model."""

    def __init__(self, settings: Settings, access: RegistryAccess | None = None) -> None:
        # Imported here, because the driver only passes this class on.
        import torch

        from serving.models.model_follower import ModelFollower
        from serving.models.model_source import find_source
        from serving.monitoring.metrics import Metrics
        from serving.replica_port import ReplicaPort
        from serving.requests.decoder_process import DecoderProcess

        self._port = ReplicaPort()
        if access is not None:
            access.give(os.environ)
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
            if self._follower.current() is None:
                with ThreadPoolExecutor(1) as waiting:  # in this thread is Serve's event loop
                    waiting.submit(self._wait_for_model).result()

        self._is_checked = False

    def has_model(self) -> bool:
        """Return whether this replica can predict; other replicas ask."""
        return self._follower.current() is not None

    def _wait_for_model(self) -> None:
        """Wait for a model while another replica has one: until then that one answers."""
        handle = serve.get_app_handle(serve.get_replica_context().app_name)
        while not self.has_model() and _says_yes(handle.has_model):
            time.sleep(self._settings.follow_period_s)

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
            is_behind_proxy=self._settings.require_bounded_proxy,
            is_counted_by_proxy=_is_counted_by_proxy(),
        )


def build(arguments: dict[str, Any]) -> Application:
    """Return the Serve application, for `serve run` and for a Serve configuration file.

    Args:
        arguments: settings by name.
    """
    return application(Settings.model_validate(arguments))


def application(
    settings: Settings,
    access: RegistryAccess | None = None,
    environment: Mapping[str, str] | None = None,
) -> Application:
    """Return the Serve application with these settings.

    Where the registry is goes to the replicas among the settings, because the variables of a
    replica's process stand in Ray's logs, and the URI may hold a password.

    Args:
        settings: all of them.
        access: what the registry asks for; None: the nodes have it among their variables.
        environment: variables of a replica's process; None: those of a Ray of this machine.
    """
    registry = settings.tracking_uri or os.environ.get(TRACKING_URI)
    settings = settings.model_copy(update={"tracking_uri": registry})
    options = deployment_options(settings, environment or _environment())
    return serve.deployment(name=NAME, **options)(Endpoint).bind(settings, access)


def deployment_options(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what Serve needs to know of the replicas.

    Args:
        settings: all of them.
        environment: variables of a replica's process; none may be a secret.
    """
    is_scaled = _is_scaled(settings)
    # A replica that is no longer needed has as long as its requests have.
    drain_s = settings.request_timeout_s if is_scaled else settings.drain_timeout_s
    return {
        # High, and no queue of Serve's: a request whose body is still coming must not take the
        # place of one that could be predicted.
        "max_ongoing_requests": settings.max_connections,
        "health_check_period_s": HEALTH_PERIOD_S,
        "graceful_shutdown_timeout_s": drain_s,
        "graceful_shutdown_wait_loop_s": 0.5,
        "ray_actor_options": {"num_cpus": 1, "runtime_env": {"env_vars": dict(environment)}},
        "logging_config": {"enable_access_log": False},
        **(_autoscaling(settings) if is_scaled else {"num_replicas": settings.replicas}),
    }


def _says_yes(question: DeploymentHandle[Any]) -> bool:
    """Ask one of the replicas that run; where there is none, or it says nothing, that is a no."""
    try:
        return bool(question.remote().result(timeout_s=QUESTION_S))
    except (TimeoutError, ray.exceptions.RayError, RayServeException):
        return False


def _is_counted_by_proxy() -> bool:
    """Return whether the proxy before this replica is ours, and counts and logs the requests."""
    variable, callback = CALLBACK
    return os.environ.get(variable) == callback and PROXY_RECORDS in os.environ


def _is_scaled(settings: Settings) -> bool:
    return settings.max_replicas is not None and settings.max_replicas > settings.replicas


def _autoscaling(settings: Settings) -> dict[str, Any]:
    """Return the bounds between which Serve chooses the number of replicas, and how fast."""
    return {
        "autoscaling_config": {
            "min_replicas": settings.replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": min(TARGET_REQUESTS, settings.max_waiting + 1),
            "look_back_period_s": LOOK_BACK_S,
            "upscale_delay_s": settings.upscale_delay_s,
            "downscale_delay_s": settings.downscale_delay_s,
        }
    }


def _environment() -> dict[str, str]:
    """Return what a replica's process needs before it imports anything; no secrets: see above."""
    environment = dict(ONE_THREAD)
    # Without `affectune serve` the replicas of a machine still count together.
    environment[metrics_sum.LINK] = local_link.new_name("metrics")
    for name in ("AFFECTUNE_CACHE", json_log.LINK, metrics_sum.LINK, CALLBACK[0], PROXY_RECORDS):
        if name in os.environ:
            environment[name] = os.environ[name]
    return environment
