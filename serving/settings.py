"""How the endpoint runs: limits, replicas, time-outs.

Each setting has a default; a TOML file overrides it, the environment overrides the file, and the
command line overrides the environment.
"""

from __future__ import annotations

import os
import re
import socket
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.errors import InputError
from pipeline.spec import read_toml

PREFIX = "AFFECTUNE_SERVE_"
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
OF_PROXY = (
    "max_body_bytes",
    "max_clients",
    "max_head_bytes",
    "head_timeout_s",
    "idle_timeout_s",
    "max_incoming_bytes",
    "body_timeout_s",
    "max_forwarded",
    "max_outgoing_bytes",
    "write_timeout_s",
    "request_timeout_s",
    "host",
    "allowed_hosts",
    "allowed_origins",
)
"""The settings that the proxy reads. None is a secret: its environment has them."""
PROXY_RECORDS = "AFFECTUNE_PROXY_RECORDS"
"""The variable that is set where the proxy counts and logs all requests, and replicas none."""
Count = Annotated[int, Field(ge=1)]
HOST_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@*]+")
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: _split(given))]
"""Names; in an environment variable between commas."""
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Limits(BaseModel):
    """What one request may ask for."""

    # What was given may be a token, in the wrong place.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 16 * 2**20
    """A session of 600 frames and 1000 columns is some 6 MB as JSON, 2.4 MB as Arrow."""
    max_frames: Annotated[int, Field(ge=2)] = 36_000
    """Five hours at two frames per second."""
    max_columns: Count = 8192
    """In one feature set, those the model does not read included."""
    max_numbers: Count = 16 * 2**20
    """In all feature sets together: 128 MB when they are read, which JSON of 16 MB cannot have."""
    whole_frames: Annotated[int, Field(ge=4)] = 7200
    """Up to here a session is predicted in one piece; a longer one in overlapping chunks of this
    length."""
    overlap_frames: Annotated[int, Field(ge=1)] = 600
    """A chunk shares at least so many frames with the next one; there the two cross-fade."""
    difficult_percentile: Annotated[float, Field(ge=0, le=100)] = 95.0
    difficult_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A modality is called difficult when this share of its frames is harder than that percentile
    of training."""

    @model_validator(mode="after")
    def _chunks_move_on(self) -> Self:
        if self.overlap_frames * 2 > self.whole_frames:
            raise ValueError("overlap_frames must be at most half of whole_frames")
        return self


class Settings(Limits):
    """All settings of the endpoint."""

    model: str = "models:/affectune@champion"
    """A bundle folder, `models:/<name>@<alias>` or `models:/<name>/<version>`."""
    tracking_uri: str | None = Field(default=None, repr=False)
    """The registry; default: `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`."""
    host: str = "127.0.0.1"
    """Who may connect: the loopback address is this machine alone."""
    allowed_hosts: Names = ()
    """Further names by which clients may call it, such as `affectune.example.org`, that of a
    service in a cluster, `*.example.org` for all below one, or `*`. IP addresses, `localhost`,
    `host` and this machine's own name are allowed."""
    allowed_origins: Names = ()
    """Origins of web pages elsewhere that may ask, such as `https://example.org`; `*` for all."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    replicas: Count = 2
    """Two, so that one may die while the other answers."""
    max_replicas: Count | None = None
    """Above `replicas`: as many as the load needs, up to this many."""
    upscale_delay_s: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """So long more replicas must be needed before they start. One is ready some 20 s later."""
    downscale_delay_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    """So long fewer must be enough before one ends; what it has begun is answered."""
    require_bounded_proxy: bool = True
    """Replicas refuse (503) what comes through a proxy of Ray's without our bounds. False: what
    stands before the cluster bounds connections and heads."""
    prediction_threads: Count = 2
    """Networks of one prediction that run at a time, where a core is idle; 1: one core for each
    replica, at most."""
    max_waiting: Annotated[int, Field(ge=0)] = 11
    """Requests that wait in a replica while it predicts; the next one is refused for now (503)."""
    max_wait_s: Seconds = 0.5
    """Nor does a request join a queue that would take longer, by what predictions took lately."""
    max_connections: Count = 512
    """Requests a replica holds at once, those included whose body is still coming."""
    max_clients: Annotated[int, Field(ge=8)] = 1000
    """Connections that the proxy holds at once; fewer where it may not open so many files. Beyond,
    the one that has waited longest for its client gives way to the newest."""
    max_head_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 32 * 2**10
    """A request's line and headers; larger ones are refused (431)."""
    head_timeout_s: Seconds = 10.0
    """A connection without a whole request line and headers by then is closed (408)."""
    idle_timeout_s: Seconds = 60.0
    """How long a connection is kept open between two requests."""
    max_incoming_bytes: Annotated[int, Field(ge=1024)] = 128 * 2**20
    """Bodies that the proxy holds together, and each replica. Beyond, a slow one gives way."""
    body_timeout_s: Seconds = 10.0
    """A body that has not come by then is given up (408)."""
    max_forwarded: Count = 256
    """Requests of one proxy that replicas have at once; the next one is refused for now (503)."""
    max_outgoing_bytes: Annotated[int, Field(ge=1024)] = 128 * 2**20
    """Responses that the proxy holds together. Beyond, one that is read slowly gives way."""
    write_timeout_s: Seconds = 10.0
    """A client that reads nothing for so long is cut off."""
    request_timeout_s: Seconds = 120.0
    drain_timeout_s: Seconds = 8.0
    """After SIGTERM: how long requests in flight may take."""
    follow_period_s: Seconds = 5.0
    """How often the registry is asked whether the alias moved."""
    trial_timeout_s: Seconds = 120.0
    """How long a new version may take to load and predict once, in a process of its own."""
    cache: Path | None = None
    """Verified bundles; default: `served` in `$AFFECTUNE_CACHE`, else in ~/.cache/affectune."""
    token: SecretStr | None = None
    """With it, requests need `Authorization: Bearer <token>`. Better in a file or the environment
    than here."""
    token_file: Path | None = None
    token_variable: str | None = None
    """The environment variable that has the token in a replica's process; it must be there."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas must be at least replicas")
        if sum(each is not None for each in (self.token, self.token_file, self.token_variable)) > 1:
            raise ValueError("give one of token, token_file and token_variable")
        return self

    @field_validator("allowed_hosts")
    @classmethod
    def _are_host_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.lower().removesuffix(".") for name in names)
        for name in names:
            if not HOST_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no host name; give it without scheme and port")
        return names

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower() for origin in origins)
        for origin in origins:
            if not origin.isascii() or not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin, such as https://example.org")
        return origins

    def host_names(self) -> set[str]:
        """Return the names that it answers to, beside IP addresses and localhost."""
        # This machine's own name is no stranger's, who could let it point to loopback.
        machine = socket.gethostname().lower()
        own = {self.host.lower().removesuffix("."), machine, machine.partition(".")[0]}
        return (own - {""}) | {*self.allowed_hosts}

    def secrets(self) -> set[bytes]:
        """Return the bytes of the bearer token, as clients may send them; none: none is needed.

        A token with a letter beyond ASCII is sent in Latin-1 by some clients, in UTF-8 by others.

        Raises:
            InputError: the token is empty, cannot be sent, or its file cannot be read.
        """
        token = self._token()
        if token is None:
            return set()

        token = token.removeprefix(BOM_UTF8).strip()
        if not token:
            raise InputError(
                "The bearer token is empty. Write one into the token file, or ask for none."
            )
        if CONTROL.search(token):
            raise InputError(
                "The bearer token has several lines, or another character that no request can "
                "carry. Write it into one line."
            )
        return {token, *_in_other_encoding(token)}

    def _token(self) -> bytes | None:
        if self.token_variable is not None:
            if self.token_variable not in os.environ:
                raise InputError(
                    f"The variable {self.token_variable}, which is to have the bearer token, is "
                    "not set here. Set it where this process, or its Ray node, is started."
                )
            return os.environ[self.token_variable].encode()

        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value().encode()

        try:
            return self.token_file.read_bytes()
        except OSError as error:
            raise InputError(
                f"Cannot read the token file '{self.token_file}': {error.strerror}."
            ) from None


def read_settings(
    path: Path | None, environment: Mapping[str, str], **options: str | int | None
) -> Settings:
    """Read settings from a TOML file, the environment and the command line.

    Args:
        path: of the file, or None where there is none.
        environment: its variables `AFFECTUNE_SERVE_<NAME>` override the file.
        **options: of the command line, by name; those that are not None override the environment.

    Raises:
        InputError: no such file, not TOML, an unknown name, a value out of range.
    """
    values: dict[str, Any] = read_toml(path, "settings") if path else {}
    for variable, value in environment.items():
        if variable.startswith(PREFIX):
            values[variable.removeprefix(PREFIX).lower()] = value
    values |= {name: value for name, value in options.items() if value is not None}

    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise InputError(_validation_message(error, path)) from None


def _split(given: object) -> object:
    """Return the names in one string between commas; anything else as it is."""
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return given


def _in_other_encoding(token: bytes) -> Iterator[bytes]:
    """Yield a token in Latin-1 that is given in UTF-8, and the other way round."""
    try:
        yield token.decode().encode("latin-1")
    except UnicodeDecodeError:
        yield token.decode("latin-1").encode()
    except UnicodeEncodeError:
        return  # it has letters that Latin-1 lacks


def proxy_environment(settings: Settings) -> dict[str, str]:
    """Return the variables by which a proxy's process gets its settings."""
    values = {name: getattr(settings, name) for name in OF_PROXY}
    environment = {
        _variable(name): ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in values.items()
    }
    return environment | {PROXY_RECORDS: "1"}


def read_proxy_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings of a proxy from its environment; all others have their defaults.

    Raises:
        InputError: a value is out of range.
    """
    return read_settings(None, {name: environment[name] for name in _of_proxy(environment)})


def _of_proxy(environment: Mapping[str, str]) -> list[str]:
    return [name for name in map(_variable, OF_PROXY) if name in environment]


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _validation_message(error: ValidationError, path: Path | None) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    mistake = f"{name}: {first['msg']}" if name else first["msg"]
    file = f"the file {str(path)!r}, " if path else ""
    return (
        f"The settings do not fit. {mistake}. They come from {file}{PREFIX}* and the command line."
    )
