"""Where runs and models are kept: the URI, a quiet client with bounded patience, and proof that it can be written."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

REQUEST_TIMEOUT_S = 10
SQLITE = "sqlite:///"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_S),
}
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"


def resolve_uri(given: str | None = None) -> str:
    """The tracking server: what was given, else MLFLOW_TRACKING_URI, else a file in the current folder."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"


def masked(text: str) -> str:
    """A URI, or a message with URIs in it, without what stands before the @ of each: it may hold a password."""
    return re.sub(r"(\w://)\S*@", r"\1***@", text)


def connect(uri: str) -> MlflowClient:
    """A client of runs and models.

    It answers within `REQUEST_TIMEOUT_S` a request and never repeats one by itself: a request that was carried out,
    but whose answer was lost, would be carried out twice. Who calls it searches first, and repeats.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def check(uri: str, study: str) -> None:
    """Prove that a study can be recorded, before it starts: finds or makes its experiment, and writes to it.

    Args:
        uri: from `resolve_uri`.
        study: its name, which is the experiment's.

    Raises:
        InputError: it does not answer, cannot be written, or its experiment was deleted.
    """
    try:
        _reach(uri)
        client = connect(uri)
        client.set_experiment_tag(experiment_id(client, uri, study), "affectune", "study")
    except InputError:
        raise
    except Exception as error:  # whatever a driver, a proxy or a file system thinks of
        raise InputError(
            f"Cannot write to the tracking server '{masked(uri)}': {cause_of(error)}. Start it, or choose another with "
            f"--tracking-uri, such as {SQLITE}mlflow.db for a file in the current folder."
        ) from error


def experiment_id(client: MlflowClient, uri: str, study: str) -> str:
    """The experiment of a study, made if it is not there.

    Raises:
        InputError: somebody deleted it.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(study)
    if found is None:
        try:
            return str(client.create_experiment(study, artifact_location=_artefacts(uri)))
        except MlflowException as error:
            if error.error_code != ALREADY_EXISTS:
                raise
            found = client.get_experiment_by_name(study)
    assert found is not None
    if found.lifecycle_stage != "active":
        raise InputError(
            f"The experiment '{study}' was deleted in MLflow. Restore it (`mlflow experiments restore -x "
            f"{found.experiment_id}`), or give the study another name."
        )
    return str(found.experiment_id)


def cause_of(error: BaseException) -> str:
    """The innermost reason in one line, without passwords."""
    while isinstance(
        inner := error.__cause__ or (error.args[0] if error.args else None), BaseException
    ):
        error = inner
    lines = [line for line in masked(str(error)).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")


def sqlite_path(uri: str) -> Path | None:
    """The file of an sqlite URI; None for another."""
    return Path(uri.removeprefix(SQLITE).split("?")[0]) if uri.startswith(SQLITE) else None


def _artefacts(uri: str) -> str | None:
    """Beside an sqlite file; where a server keeps them, the server decides."""
    path = sqlite_path(uri)
    return None if path is None else (path.absolute().parent / "mlruns").as_uri()


def _reach(uri: str) -> None:
    """Find out fast what MLflow would find out only after minutes of its own retries."""
    path = sqlite_path(uri)
    if path is not None:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise InputError(
                f"The tracking database '{path}' cannot be written: there is no folder '{folder}'. Make it."
            )
        if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(
            folder, os.W_OK
        ):
            raise InputError(
                f"The tracking database '{path}' cannot be written. Give yourself the right to write it and its folder,"
                " or choose another --tracking-uri."
            )
    elif not uri.startswith(("http://", "https://", "file:")) and "://" in uri:
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
