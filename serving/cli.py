"""The command serve: settings in, a running endpoint out; it drains when it is told to end."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import logging
import os
import shlex
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from pipeline import terminal
from pipeline.cluster_address import LOCAL, VARIABLE, find_cluster
from pipeline.environment import give_memory_back, set_ray_serve_defaults
from pipeline.errors import AffectuneError, InputError, naming_doctor
from pipeline.local_ray.listening import raise_if_reachable
from pipeline.local_ray.session import LocalRay, local_ray
from pipeline.status_line import print_status
from pipeline.supervisor import (
    allow_orderly_end,
    is_stopped,
    nothing_to_finish,
    own_sigterm,
    raise_if_stopped,
)
from pipeline.terminal import Console
from serving.models.model_registry import SQLITE, RegistryUnavailable, first_line, registry_uri

if TYPE_CHECKING:
    from serving.models.model_source import ModelSource
    from serving.settings import Settings

DRAIN_S = 8.0
"""So long requests in flight may take where every command ends: they have longer if it is said."""
RAY_END_S = 5.0
READY_TIMEOUT_S, MAX_ANSWER_BYTES = 5.0, 2**16
OBJECT_STORE_BYTES = 256 * 2**20
"""Of Ray, through which large bodies and responses go: it never gives memory back."""
FAREWELL = "Ended before it served anything, because it was told to."


def add_commands(app: typer.Typer) -> None:
    """Mount the command on the command line."""
    app.command("serve")(serve_command)


def serve_command(
    model: Annotated[
        str | None,
        typer.Option(
            help="models:/<name>@<alias>, models:/<name>/<version>, a bundle folder or its URI in "
            "an object store; default: models:/affectune@champion."
        ),
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
    max_replicas: Annotated[
        int | None,
        typer.Option(min=1, help="Up to so many of them, as the load needs; default: --replicas."),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="The registry; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in this "
            "folder."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token that requests need.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to serve on; default: RAY_ADDRESS, else this machine."),
    ] = None,
    write_config: Annotated[
        Path | None,
        typer.Option(
            help="Serve nothing, but write the configuration that `serve deploy` and RayService "
            "take, as YAML; '-': to standard output."
        ),
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="Further settings (TOML).")] = None,
) -> None:
    """Serve a model over HTTP, with a page to try it, until it is told to end.

    Example: affectune serve --model models:/affectune@champion --port 8000
    """
    if write_config is None:
        print_status(f"Looking for the model '{model}'" if model else "Looking for the model")
    from serving.settings import read_settings

    given = read_settings(
        settings,
        os.environ,
        model=model,
        port=port,
        host=host,
        replicas=replicas,
        max_replicas=max_replicas,
        tracking_uri=tracking_uri,
        token_file=None if token_file is None else str(token_file),
    )
    given = _with_absolute_paths(given)
    if write_config is not None:
        _write_configuration(given, write_config)
        return
    _serve(given, address)


def _write_configuration(settings: Settings, path: Path) -> None:
    """Write the Serve configuration to a file, or to standard output for "-".

    Nothing else is asked: the model, the registry and the token file may be the nodes' alone.
    """
    set_ray_serve_defaults()
    from pipeline.storage.atomic_file import write_atomically
    from serving.endpoint import NAME, deployment_options
    from serving.serve_config import configuration_text, replica_variables

    options = deployment_options(settings, replica_variables(settings))
    text = configuration_text(settings, {"name": NAME, **options})
    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    try:
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error.strerror}.") from None
    console = Console(stderr=True)
    for note in _open_notes(settings):
        console.print(terminal.note(note), soft_wrap=True)
    console.print(Text(f"Wrote {path}. Deploy it with: serve deploy {path}"), soft_wrap=True)


def _serve(settings: Settings, address: str | None) -> None:
    """Check the settings, and serve with them until this process is told to end."""
    from serving.settings import proxy_environment

    console = Console(stderr=True)
    with nothing_to_finish(FAREWELL):
        notes = _check(settings, is_local=_is_local(address))
    for note in notes:
        console.print(terminal.note(note), soft_wrap=True)

    if settings.drain_timeout_s > DRAIN_S:
        allow_orderly_end(settings.drain_timeout_s + RAY_END_S)
    os.environ.update(proxy_environment(settings))
    with _running(settings, address) as stop_requested:
        host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
        place = f"at http://{host}:{settings.port}/ (Ctrl-C ends it)"
        why_not = _why_not_ready(host, settings.port)
        line = f"No model answers yet {place}. {why_not}" if why_not else None
        Console().print(Text(line or f"Serving {settings.model} {place}"), soft_wrap=True)
        stop_requested.wait()
        console.print("Ending: requests in flight are answered first.")


def _why_not_ready(host: str, port: int) -> str:
    """Return why the endpoint has no model; "" where it has one, or does not say."""
    connection = http.client.HTTPConnection(host, port, timeout=READY_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = json.loads(connection.getresponse().read(MAX_ANSWER_BYTES))
        return str(answer["error"]["message"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return ""
    finally:
        connection.close()


def _is_local(address: str | None) -> bool:
    """Return whether Ray is to run on this machine alone, for this command."""
    return (address or os.environ.get(VARIABLE, "")).strip() in ("", LOCAL)


def _check(settings: Settings, *, is_local: bool) -> list[str]:
    """Refuse what cannot work before anything starts; return what a person should know.

    Raises:
        InputError: no such model, an empty token, a port in use.
    """
    from serving.models.model_source import FolderSource, find_source
    from serving.models.smoke_test import run_smoke_test

    settings.secrets()
    source = find_source(settings)
    notes = []

    if isinstance(source, FolderSource):
        source.newest()
        print_status("Trying the model")
        run_smoke_test(source.folder, settings.trial_timeout_s)
    else:
        notes += _check_registry(source)
    if is_local:
        _raise_if_in_use(settings.host, settings.port)

    return notes + _token_file_notes(settings.token_file) + _open_notes(settings)


def _open_notes(settings: Settings) -> list[str]:
    """Return a note where others can ask, and no token is needed for that."""
    has_token = settings.token or settings.token_file or settings.token_variable
    if has_token or _is_loopback(settings.host):
        return []
    return ["no token is asked for: whoever reaches this machine may use the model."]


def _token_file_notes(path: Path | None) -> list[str]:
    """Return a note where other users of this machine can read the file of the bearer token."""
    if path is None or not path.stat().st_mode & 0o077:
        return []
    return [
        f"other users of this machine can read the token file '{path}'. To keep it to yourself: "
        f"{shlex.join(['chmod', '600', str(path)])}"
    ]


def _check_registry(source: ModelSource) -> list[str]:
    """Return a note where the registry does not answer now; the follower asks it later."""
    try:
        source.newest()
    except RegistryUnavailable as error:
        kept = source.last_verified()
        follows = f"version {kept.version}, kept here, answers" if kept else "requests get 503"
        return [f"{error} Until it does, {follows}."]
    return []


def _raise_if_in_use(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"Cannot listen at {host}, port {port}: {error.strerror}. Choose another --port."
            ) from error


def _with_absolute_paths(settings: Settings) -> Settings:
    """Return settings that mean the same in a replica's process, wherever that starts."""
    from serving.models.model_source import FolderSource, find_source

    changes: dict[str, object] = {}
    if isinstance(source := find_source(settings), FolderSource):
        changes["model"] = str(source.folder.absolute())

    uri = registry_uri(settings)
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        uri = f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}"
    changes["tracking_uri"] = uri

    if settings.cache is not None:
        changes["cache"] = settings.cache.absolute()
    if settings.token_file is not None:
        changes["token_file"] = settings.token_file.absolute()
    return settings.model_copy(update=changes)


@contextlib.contextmanager
def _running(settings: Settings, address: str | None) -> Iterator[Event]:
    """Run the endpoint; the event is set when this process is told to end."""
    from serving.monitoring.json_log import collected_log
    from serving.monitoring.metrics_sum import summed_metrics

    # Both end after Ray: its processes have something to say to the last.
    with summed_metrics(), collected_log(), _running_ray(settings, address) as stop_requested:
        yield stop_requested


@contextlib.contextmanager
def _running_ray(settings: Settings, option: str | None) -> Iterator[Event]:
    """Run Ray and the endpoint in it."""
    is_local = _is_local(option)
    with contextlib.ExitStack() as stack:
        with nothing_to_finish(FAREWELL), naming_doctor():
            local = stack.enter_context(local_ray()) if is_local else None
            _prepare_environment(local)
            print_status("Starting Ray" if is_local else "Reaching the Ray cluster")
            import ray
            from ray import serve
            from ray._private.services import canonicalize_bootstrap_address

            from serving.endpoint import NAME

            address = find_cluster(option, lambda: canonicalize_bootstrap_address("auto"))
        try:
            # On a cluster of others, what is half deployed has to be removed again.
            with nothing_to_finish(FAREWELL) if address is None else contextlib.nullcontext():
                _start_ray(settings, address, local)
                _start_serve(settings, local)
            raise_if_stopped()
            stop_requested = _stop_event()
            yield stop_requested
        finally:
            if ray.is_initialized():
                # What never started needs no end.
                with contextlib.suppress(ray.exceptions.RayError, RuntimeError):
                    serve.delete(NAME)  # its replicas answer the requests that they have begun
                # Of a cluster of our own the rest of Serve ends with it, and more quietly.
                ray.shutdown()


def _prepare_environment(local: LocalRay | None) -> None:
    """Set what Ray reads when it is imported, and what its processes get.

    Says what a person should know of a local Ray.
    """
    set_ray_serve_defaults()
    give_memory_back()
    if local is not None:
        from serving.proxy.proxy_errors import CALLBACK

        os.environ.setdefault(*CALLBACK)
        for note in local.notes:
            Console(stderr=True).print(terminal.note(note), soft_wrap=True)


@naming_doctor()
def _start_ray(settings: Settings, address: str | None, local: LocalRay | None) -> None:
    """Start Ray on this machine, or reach the cluster at an address."""
    import ray
    from ray._raylet import Config  # type: ignore[attr-defined] # in C++

    # What was agreed on with the head, such as a token, Ray has read before.
    Config.initialize("")
    options: dict[str, Any] = {"address": address or "local"}
    if local is not None:
        num_cpus = max(settings.replicas, settings.max_replicas or 0, 1)
        options |= {
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "_temp_dir": str(local.folder),
            "object_store_memory": OBJECT_STORE_BYTES,
        }

    try:
        with own_sigterm():
            ray.init(logging_level=logging.WARNING, **options)
    except Exception as error:  # Ray raises whatever, a bare Exception among it
        cause = first_line(error)
        raise AffectuneError(f"Ray did not start: {cause} {_where_logs_are(local)}") from error


def _where_logs_are(local: LocalRay | None) -> str:
    return f"Ray's logs have more: {local.logs}" if local else "The cluster's logs have more."


def _start_serve(settings: Settings, local: LocalRay | None) -> None:
    """Start the proxy and the replicas."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serving.endpoint import NAME, application
    from serving.models.registry_access import RegistryAccess
    from serving.serve_config import replica_variables

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    proxy = HTTPOptions(
        host=settings.host, port=settings.port, request_timeout_s=settings.request_timeout_s
    )
    try:
        # Of Serve's own processes only warnings; else each would tell of every route.
        serve.start(
            http_options=proxy,
            logging_config={"log_level": "WARNING"},
            **_on_nodes(settings, local),
        )
        access = RegistryAccess.given(os.environ)
        environment = None if local else replica_variables(settings) | _log_link()
        serve.run(application(settings, access, environment), name=NAME, route_prefix="/")
    except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
        cause = first_line(error)
        raise AffectuneError(
            f"The endpoint did not start: {cause} {_where_logs_are(local)}"
        ) from error

    if local is not None:
        raise_if_reachable(port=settings.port)


def _log_link() -> dict[str, str]:
    """Return the variable by which replicas on this machine send their log here."""
    from serving.monitoring.json_log import LINK

    return {LINK: os.environ[LINK]} if LINK in os.environ else {}


def _on_nodes(settings: Settings, local: LocalRay | None) -> dict[str, Any]:
    """Return the options of Serve by which a cluster has a bounded proxy on every node."""
    from serving.serve_config import proxy_variables

    if local is not None:
        return {}  # its processes have the variables of this one
    variables = {"env_vars": proxy_variables(settings)}
    return {"proxy_location": "EveryNode", "controller_options": {"runtime_env": variables}}


def _stop_event() -> Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop_requested = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_requested.set())
    if is_stopped():
        stop_requested.set()
    return stop_requested


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
