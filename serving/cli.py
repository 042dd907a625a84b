"""The command serve: settings in, a running endpoint out; drains when it is told to end."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.errors import AffectuneError, InputError
from serving.model_source import FolderSource, RegistrySource, RegistryUnavailable, find_source
from serving.settings import Settings, read_settings


def add_commands(app: typer.Typer) -> None:
    """Mount the command on the command line."""
    app.command("serve")(serve_command)


def serve_command(
    model: Annotated[
        str | None,
        typer.Option(help="models:/<name>@<alias>, models:/<name>/<version> or a bundle folder."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where it listens; default: 8000.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Who may connect; default: 127.0.0.1, this machine alone.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Processes that predict, one core each.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="The registry; default: MLFLOW_TRACKING_URI.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token that requests need.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="Further settings (TOML); see serving/settings.py.")
    ] = None,
) -> None:
    """Serve a model over HTTP, with a page to try it, until it is told to end.

    Example: affectune serve --model models:/affectune@champion --port 8000
    """
    options = {
        "model": model,
        "port": port,
        "host": host,
        "replicas": replicas,
        "tracking_uri": tracking_uri,
        "token_file": None if token_file is None else str(token_file),
    }
    chosen = _absolute(read_settings(settings, os.environ, **options))
    note = _check(chosen)
    console = Console(stderr=True)
    if note:
        console.print(f"[yellow]Note:[/] {note}", soft_wrap=True, highlight=False)
    if chosen.secret() is None and not _is_loopback(chosen.host):
        console.print(
            "[yellow]Note:[/] no token is asked for: whoever reaches this machine may use the model."
        )
    with _running(chosen) as told:
        shown = "localhost" if chosen.host in ("0.0.0.0", "::") else chosen.host
        Console().print(
            f"Serving {chosen.model} at http://{shown}:{chosen.port}/ (Ctrl-C ends it)",
            soft_wrap=True,
        )
        told.wait()
        console.print("Ending: requests in flight are answered first.")


@contextlib.contextmanager
def _running(settings: Settings) -> Iterator[Event]:
    """The endpoint, running; the event is set when this process is told to end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # by default Ray's workers give way to everything else
    address = os.environ.get("RAY_ADDRESS")
    if not address:  # before Ray is imported: then its own ports are on loopback, whatever the endpoint's host is
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serving.endpoint import NAME, application

    told = Event()
    alone: dict[str, Any] = (
        {} if address else {"num_cpus": _cpus(settings), "include_dashboard": False}
    )
    try:
        try:
            ray.init(address=address or "local", logging_level=logging.WARNING, **alone)
        except Exception as error:  # Ray raises whatever, a bare Exception among it
            raise AffectuneError(
                f"Ray did not start: {_first_line(error)} Its logs have more."
            ) from error
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
        try:
            serve.start(
                http_options=HTTPOptions(
                    host=settings.host,
                    port=settings.port,
                    request_timeout_s=settings.request_timeout_s,
                )
            )
            serve.run(application(settings), name=NAME, route_prefix="/")
        except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
            raise AffectuneError(
                f"The endpoint did not start: {_first_line(error)} Ray's logs have more."
            ) from error
        yield told
    finally:
        if ray.is_initialized():
            with contextlib.suppress(
                ray.exceptions.RayError, RuntimeError
            ):  # what never started needs no end
                serve.delete(NAME)  # its replicas answer what they have begun
            if not address:
                serve.shutdown()  # type: ignore[no-untyped-call]  # ray gives no hints here
            ray.shutdown()


def _check(settings: Settings) -> str:
    """Refuse what cannot work before anything starts; returns what a person should know, or "".

    Raises:
        InputError: no such model, an empty token, a port in use.
    """
    settings.secret()
    source = find_source(settings)
    note = ""
    if isinstance(source, FolderSource):
        source.fetch(source.newest())
    else:
        note = _check_registry(source)
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise InputError(
                f"Cannot listen at {settings.host}, port {settings.port}: {error.strerror}. Choose another --port."
            ) from error
    return note


def _check_registry(source: RegistrySource) -> str:
    try:
        source.newest()
    except RegistryUnavailable as error:
        kept = source.last_verified()
        follows = f"version {kept.version}, kept here, answers" if kept else "requests get 503"
        return f"{error} Until it does, {follows}."
    return ""


def _absolute(settings: Settings) -> Settings:
    """With paths that mean the same in a replica's process, wherever that starts."""
    changes: dict[str, object] = {}
    if isinstance(find_source(settings), FolderSource):
        changes["model"] = str(Path(settings.model).absolute())
    uri = settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    changes["tracking_uri"] = uri
    for name in ("cache", "token_file"):
        if (path := getattr(settings, name)) is not None:
            changes[name] = path.absolute()
    return settings.model_copy(update=changes)


def _cpus(settings: Settings) -> int:
    return max(settings.replicas, settings.max_replicas or 0, 1)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
