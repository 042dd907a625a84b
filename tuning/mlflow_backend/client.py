"""A client of MLflow that is quiet and gives up soon. Knows no study.

MLflow is imported inside functions: that takes seconds, which most commands do without.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.credentials.known import MASK, remember
from pipeline.credentials.masking import masked, masked_uri
from pipeline.environment import forbid_mlflow_retries, set_mlflow_defaults
from pipeline.errors import InputError
from pipeline.shell_command import raise_if_masked
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.surroundings import mend_of
from tuning.mlflow_backend.database import prepare_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.entities import PagedList

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
SQLITE = "sqlite:///"
MAX_CAUSE = 400  # characters of an error's cause
ANSWER_S = 5.0
"""So long a server may take for its first answer."""

Item = TypeVar("Item")
Connect = Callable[[str], "MlflowClient"]
"""What makes a client of a URI: `connect`, or a test's."""


def connect(uri: str) -> MlflowClient:
    """Return a client of runs and registered models.

    It gives a request up after seconds and never repeats one by itself: a request that was carried
    out, but whose answer was lost, would be carried out twice. A caller that repeats a request
    looks first whether it was carried out.
    """
    remember(uri)
    set_mlflow_defaults()
    forbid_mlflow_retries()
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs with a traceback what it raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

    path = sqlite_path(uri)
    if path is not None and path.name != ":memory:":
        prepare_database(path, artifact_location(path))
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def search_all(search: Callable[[str | None], PagedList[Item]]) -> Iterator[Item]:
    """Yield the results of a search, page after page.

    Args:
        search: takes the token of a page, None for the first, and returns the page.
    """
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def cause_of(error: BaseException) -> str:
    """Return the innermost cause of an error, in one line and without passwords."""
    inner = _inner_error(error)
    while inner is not None:
        error, inner = inner, _inner_error(inner)

    lines = [line for line in masked(str(error)).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    return message[:MAX_CAUSE].rstrip(".")


def answer_of(error: BaseException) -> str:
    """Return what a server answered that is no answer of MLflow's, else the cause of the error."""
    text = cause_of(error)
    refused = re.search(r"(?:error code|too many) (\d{3})", str(error))
    status = int(refused[1]) if refused else getattr(error, "get_http_status_code", lambda: 0)()
    if status in (401, 403):
        return (
            f"it refuses you (status {status}). Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if refused:
        return f"it answers with status {status}, as MLflow does not when it is well"
    if "Response body" in str(error):
        return "what answers there is another program"
    if "timed out" in text:
        return "it takes a connection, and gives no answer in time"
    if "redirects" in text:
        return "it sends every request on, as a login page in front of it does"
    return text


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an sqlite URI; None for a URI of another kind."""
    return Path(uri.removeprefix(SQLITE).split("?")[0]) if uri.startswith(SQLITE) else None


def artifact_location(path: Path) -> str:
    """Return the URI of the folder of artefacts beside an sqlite file."""
    return (path.absolute().parent / "mlruns").as_uri()


def raise_if_unreachable(uri: str) -> None:
    """Find out within seconds what MLflow finds out only after minutes, if at all; write nothing.

    Raises:
        InputError: the file of an sqlite URI is no database of MLflow, or cannot be written; a
            URI is none.
        Exception: a server or a database does not answer; what its driver raises.
    """
    raise_if_masked(uri, "--tracking-uri")
    remember(uri)
    path = sqlite_path(uri)
    if path is not None:
        _raise_if_not_writable(path)
        _raise_if_other_database(path)
    elif uri.startswith(("http://", "https://")):
        _raise_if_silent(uri)
    elif "://" not in uri and not uri.startswith(("file:", "databricks", "uc")):
        raise InputError(
            f"'{uri}' is no URI of a tracking server. Write sqlite:///{uri} for a file, or "
            "http://host:port for a server."
        )
    elif "://" in uri and not uri.startswith("file:"):
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _inner_error(error: BaseException) -> BaseException | None:
    """Return what an error was raised from, or the error that its message is."""
    inner = error.__cause__ or (error.args[0] if error.args else None)
    return inner if isinstance(inner, BaseException) else None


def _raise_if_not_writable(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(
            f"The tracking database '{path}' cannot be written: there is no folder '{folder}'. "
            "Make it."
        )

    try:
        if path.exists():
            with open(path, "r+b"):
                pass
        prove_writable(folder)  # sqlite writes a second file beside the database
    except OSError as error:
        raise InputError(
            f"The tracking database '{path}' cannot be written: {error.strerror}. "
            f"{mend_of(error) or 'Correct it'}, or choose another --tracking-uri."
        ) from error


def _raise_if_other_database(path: Path) -> None:
    """Refuse a file that is no database of MLflow, which would put its tables into it."""
    if not path.exists() or not path.stat().st_size:
        return

    advice = "Choose another --tracking-uri, such as sqlite:///mlflow.db for a new one."
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("select name from sqlite_master where type = 'table'")
            tables = {name for (name,) in rows}
    except sqlite3.OperationalError:
        return  # locked, or damaged: MLflow says it
    except sqlite3.DatabaseError as error:
        raise InputError(f"'{path}' is no sqlite database ({error}). {advice}") from error
    if tables and "experiments" not in tables:
        raise InputError(f"'{path}' is the database of another program. {advice}")


def _raise_if_silent(uri: str) -> None:
    """Find out whether a server gives any answer; what it answers is for MLflow to judge.

    Raises:
        ConnectionError: it gives none.
    """
    import http.client
    import urllib.error
    import urllib.request

    try:
        # Without a user and a password, which urllib does not understand; any answer will do.
        address = masked_uri(uri).replace(f"//{MASK}@", "//").rstrip("/")
        with urllib.request.urlopen(f"{address}/health", timeout=ANSWER_S):
            pass
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLError):
            return  # MLflow has settings of its own for certificates
        if isinstance(cause, TimeoutError):
            cause = f"nothing came within {ANSWER_S:.0f} s"
        elif isinstance(cause, OSError):
            cause = cause.strerror or cause
        raise ConnectionError(str(cause)) from None
