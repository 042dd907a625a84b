"""Compose files as a tool reads them: variables filled in, files merged, every field known.

The models have the fields in use, of the Compose Specification. An unknown one is an error, so a
typing mistake is found; a further one is added here, from the specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")
Words = list[str]
Duration = Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")]
Bytes = Annotated[str, Field(pattern=r"^\d+(k|m|g|kb|mb|gb)$")]


class Strict(BaseModel):
    """No unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Build(Strict):
    """Where an image comes from that is not fetched."""

    context: str
    dockerfile: str


class Healthcheck(Strict):
    """How a container is asked whether it is well."""

    test: Words = []
    interval: Duration | None = None
    timeout: Duration | None = None
    retries: int | None = None
    start_period: Duration | None = None
    disable: bool = False


class Limits(Strict):
    """What a container may use at most."""

    cpus: str
    memory: Bytes
    pids: int


class Resources(Strict):
    """See `Limits`."""

    limits: Limits


class Deploy(Strict):
    """How many containers, and what each may use."""

    replicas: int = 1
    resources: Resources


class Dependency(Strict):
    """What another service waits for."""

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Mount(Strict):
    """A folder of this machine in a container."""

    type: Literal["bind"]
    source: str
    target: str
    read_only: bool


class Config(Strict):
    """A file of this repository in a container."""

    source: str
    target: str


class Logging(Strict):
    """Where a container's output goes."""

    driver: Literal["json-file"]
    options: dict[Literal["max-size", "max-file"], str]


class Service(Strict):
    """One service."""

    image: str
    build: Build | None = None
    user: str
    profiles: Words = []
    entrypoint: Words | None = None
    command: Words = []
    environment: dict[str, str] = {}
    configs: list[Config] = []
    secrets: Words = []
    networks: Words
    ports: Words = []
    volumes: list[str | Mount] = []
    tmpfs: Words = []
    shm_size: Bytes | None = None
    depends_on: dict[str, Dependency] = {}
    healthcheck: Healthcheck
    deploy: Deploy
    restart: Annotated[str, Field(pattern=r"^(no|always|unless-stopped|on-failure(:\d+)?)$")]
    init: bool
    read_only: bool
    cap_drop: Words
    security_opt: Words
    logging: Logging


class Network(Strict):
    """A network; nothing beyond it is reached from an internal one."""

    internal: bool = False


class SourceFile(Strict):
    """A file, beside the compose file."""

    file: str


class ComposeFile(Strict):
    """One compose file, or several merged."""

    name: str
    services: dict[str, Service]
    networks: dict[str, Network]
    volumes: dict[str, None]
    configs: dict[str, SourceFile]
    secrets: dict[str, SourceFile]


def read_compose(*paths: Path, variables: Mapping[str, str] | None = None) -> ComposeFile:
    """Read compose files, the later ones over the earlier ones.

    Args:
        *paths: of the files.
        variables: those of the environment; by default none is set.

    Raises:
        pydantic.ValidationError: a field is unknown, missing, or of another type.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values = {key: value for key, value in values.items() if not key.startswith("x-")}
        merged = _merge(merged, _filled_in(values, variables or {}))
    return ComposeFile.model_validate(merged)


def _filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled_in(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    text = VARIABLE.sub(lambda found: variables.get(found["name"]) or found["default"], value)
    assert "$" not in text.replace("$$", ""), f"not understood: {value}"
    return text.replace("$$", "$")


def _merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merge mappings; of commands and health checks the later one counts, other lists add up."""
    merged = dict(first)
    for key, value in second.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merge(before, value)
        elif isinstance(before, list) and key not in ("command", "entrypoint", "test"):
            merged[key] = before + value
        else:
            merged[key] = value
    return merged
