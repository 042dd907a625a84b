"""The Serve configuration of an endpoint: what RayService and `serve deploy` take.

It holds no secret, and names the variables in which the nodes have them. Knows no Ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.credentials.masking import masked_uri
from pipeline.environment import ONE_THREAD, TRACKING_URI, serve_proxy_patience
from serving.models.registry_access import NAMES
from serving.monitoring import metrics_sum
from serving.proxy.proxy_errors import CALLBACK
from serving.settings import PREFIX, PROXY_RECORDS, Settings, proxy_environment

IMPORT_PATH = "serving.endpoint:build"
TOKEN_VARIABLE = f"{PREFIX}TOKEN"
OF_SERVE = {
    "host",
    "port",
    "replicas",
    "max_replicas",
    "upscale_delay_s",
    "downscale_delay_s",
    "request_timeout_s",
    "drain_timeout_s",
    "max_connections",
    "token",
}
"""Settings that are no arguments: Serve's own options say the same, and the token is none."""


def serve_configuration(settings: Settings, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration, in the terms of `ray.serve.schema.ServeDeploySchema`.

    Args:
        settings: all of them.
        deployment: Serve's options of the replicas, by `endpoint.deployment_options`, and their
            name.
    """
    name = deployment["name"]
    application = {
        "name": name,
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "args": _arguments(settings),
        "deployments": [dict(deployment)],
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": settings.host,
            "port": settings.port,
            "request_timeout_s": settings.request_timeout_s,
        },
        # The controller starts the proxies, which take its variables over.
        "controller_options": {"runtime_env": {"env_vars": proxy_variables(settings)}},
        "logging_config": {"log_level": "WARNING"},
        "applications": [application],
    }


def configuration_text(settings: Settings, deployment: Mapping[str, Any]) -> str:
    """Return the configuration as YAML, after what a person has to see to."""
    head = "".join(f"# {line}\n" for line in notes_on_nodes(settings))
    configuration = serve_configuration(settings, deployment)
    body: str = yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)
    return head + body


def proxy_variables(settings: Settings) -> dict[str, str]:
    """Return the variables by which Ray's proxies on all nodes get our bounds."""
    variable, callback = CALLBACK
    ours = {variable: callback, **_metrics_link(settings), **serve_proxy_patience()}
    return proxy_environment(settings) | ours


def replica_variables(settings: Settings) -> dict[str, str]:
    """Return the variables of a replica's process: it counts together with its node's proxy."""
    counted = {name: proxy_variables(settings)[name] for name in (CALLBACK[0], PROXY_RECORDS)}
    return {**ONE_THREAD, **counted, **_metrics_link(settings)}


def notes_on_nodes(settings: Settings) -> list[str]:
    """Return what every node must have that is not in the configuration."""
    notes = ["Written by `affectune serve --write-config`; deploy it with `serve deploy FILE`."]
    if settings.model.startswith("models:"):
        notes.append(f"Nodes need, where the registry asks for them: {', '.join(NAMES[:3])}.")
        if _is_secret(settings.tracking_uri):
            notes.append(f"Nodes need {TRACKING_URI}: it holds a password, and is not in here.")
    else:
        notes.append(f"Nodes need the folder {json.dumps(settings.model)}.")
    if settings.token is not None:
        notes.append(f"Nodes need the bearer token in {TOKEN_VARIABLE}.")
    if settings.token_file is not None:
        notes.append(f"Nodes need the token file {json.dumps(str(settings.token_file))}.")
    return notes


def _arguments(settings: Settings) -> dict[str, Any]:
    """Return the settings that are not Serve's and not the default; none of them is a secret."""
    given = settings.model_dump(mode="json", exclude=OF_SERVE, exclude_defaults=True)
    arguments = {"model": settings.model, **given}
    if _is_secret(settings.tracking_uri):
        del arguments["tracking_uri"]
    if settings.token is not None:
        arguments["token_variable"] = TOKEN_VARIABLE
    return arguments


def _is_secret(uri: str | None) -> bool:
    return uri is not None and masked_uri(uri) != uri


def _metrics_link(settings: Settings) -> dict[str, str]:
    """Return the link over which a node's proxy and replicas count; the same at each writing.

    Else the same settings would be another configuration, and all replicas would be replaced.
    """
    return {metrics_sum.LINK: f"affectune-metrics-port-{settings.port}"}
