"""A client of MLflow that is quiet and gives up soon. Knows no study.

MLflow is imported inside functions: that takes seconds, which most commands do without.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.environment import forbid_mlflow_retries, set_mlflow_defaults
from pipeline.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.entities import PagedList

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
SQLITE = "sqlite:///"
MAX_CAUSE = 400  # characters of an error's cause

Item = TypeVar("Item")
Connect = Callable[[str], "MlflowClient"]
"""What makes a client of a URI: `connect`, or a test's."""


def connect(uri: str) -> MlflowClient:
    """Return a client of runs and registered models.

    It gives a request up after seconds and never repeats one by itself: a request that was carried
    out, but whose answer was lost, would be carried out twice. A caller that repeats a request
    looks first whether it was carried out.
    """
    set_mlflow_defaults()
    forbid_mlflow_retries()
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)

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


def masked(text: str) -> str:
    """Return a text with the credentials of its URIs masked: what stands before an @."""
    return re.sub(r"(\w://)\S*@", r"\1***@", text)


def cause_of(error: BaseException) -> str:
    """Return the innermost cause of an error, in one line and without passwords."""
    inner = _inner_error(error)
    while inner is not None:
        error, inner = inner, _inner_error(inner)

    lines = [line for line in masked(str(error)).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    return message[:MAX_CAUSE].rstrip(".")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an sqlite URI; None for a URI of another kind."""
    return Path(uri.removeprefix(SQLITE).split("?")[0]) if uri.startswith(SQLITE) else None


def raise_if_unreachable(uri: str) -> None:
    """Find out fast what MLflow finds out only after minutes of retries of a database.

    Raises:
        InputError: the file of an sqlite URI, or its folder, cannot be written.
        Exception: a database does not answer; what its driver raises.
    """
    path = sqlite_path(uri)
    if path is not None:
        _raise_if_not_writable(path)
        return

    is_database = "://" in uri and not uri.startswith(("http://", "https://", "file:"))
    if is_database:
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

    # sqlite writes a second file beside the database.
    paths = (path, folder) if path.exists() else (folder,)
    if not all(os.access(written, os.W_OK) for written in paths):
        raise InputError(
            f"The tracking database '{path}' cannot be written. Give yourself the right to write "
            "it and its folder, or choose another --tracking-uri."
        )
