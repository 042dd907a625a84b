"""The sqlite database of MLflow, made whole or not at all.

MLflow makes its tables in place, one migration after the other, for seconds. Two processes that do
so at once, or one that is cut off, leave a file that nobody can use. So the file is made under
another name and renamed; one that an earlier version left half-made is made anew, if it holds
nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import AffectuneError
from pipeline.storage.atomic_file import flush_and_rename
from pipeline.storage.surroundings import as_failure, failure

log = logging.getLogger(__name__)

LOCK_S = 120.0
"""So long another process may take to make the database; MLflow's migrations take seconds."""
BUSY_S = 20.0
"""So long a database that another program writes is waited for."""
SIDE_FILES = ("-journal", "-wal", "-shm")
"""What sqlite keeps beside a database. One of another database would be played back into a new one.
"""
SETTLED_S = 3.0
"""A half-made database that does not change for so long is nobody's who is still making it."""
SEEDED = ("alembic_version", "workspaces")
"""Tables that MLflow itself puts rows into, before it is done."""


def prepare_database(path: Path, artifacts: str) -> None:
    """See to it that a database is there, and complete.

    Args:
        path: of the file.
        artifacts: URI of the folder in which MLflow's own experiment keeps its artefacts.

    Raises:
        AffectuneError: it cannot be made, such as on a full disk; nothing is left of it then.
    """
    path = path.resolve()  # a link stays one
    if _is_complete(path):
        return

    try:
        with _lock(path):
            if _is_complete(path):
                return
            if path.exists() and path.stat().st_size:
                if not _is_left_half_made(path):
                    return  # MLflow says what is wrong with it
                log.warning(
                    "'%s' was left half-made, and holds nothing: it is made anew.", path.name
                )
            _make(path, artifacts)
    except OSError as error:
        cause = error.strerror or error
        raise failure(f"Cannot make the database '{path}': {cause}.", error) from error


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Be the only process that makes a database; the lock's file goes with the last of them."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        with lock.acquire(timeout=LOCK_S):
            try:
                yield
            finally:
                # Before the lock goes: who waits for it sees that the file is another one.
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise AffectuneError(
            f"Another process has been making the database '{path}' for {LOCK_S:.0f} s. Wait for "
            "it, or end it."
        ) from error


def _make(path: Path, artifacts: str) -> None:
    """Have MLflow make a database beside the place of this one, and give it its name."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = path.with_name(f".{path.name}.tmp")
    _remove(temporary)  # a killed process's: the lock is ours
    try:
        try:
            uri = f"sqlite:///{temporary.absolute()}"
            store = SqlAlchemyStore(uri, artifacts)  # type: ignore[no-untyped-call]
            store.engine.dispose()
        except Exception as error:  # MLflow, SQLAlchemy, alembic and sqlite raise their own
            if (fault := as_failure(error)) is None:
                raise
            raise failure(f"Cannot make the database '{path}': {fault}", error) from error
        _remove_side_files(path)
        flush_and_rename(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_side_files(path)


def _remove_side_files(path: Path) -> None:
    for ending in SIDE_FILES:
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _is_complete(path: Path) -> bool:
    """Return whether MLflow has made all of it, in whatever version: its experiment comes last.

    One that another program is writing is taken for complete: MLflow waits for it.
    """
    try:
        if not path.stat().st_size:
            return False
        with _opened(path, timeout_s=0.0) as database:
            return "experiments" in _tables(database) and _has_rows(database, "experiments")
    except OSError:
        return False
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _is_left_half_made(path: Path) -> bool:
    """Return whether a database has MLflow's tables only, nothing in them, and nobody makes it."""
    from mlflow.store.db.base_sql_model import Base

    try:
        before = path.stat()
        time.sleep(SETTLED_S)
        if os.path.samestat(before, after := path.stat()) and before.st_mtime == after.st_mtime:
            with _opened(path, BUSY_S) as database:
                database.execute("begin immediate")  # nobody writes
                tables = {t for t in _tables(database) if not t.startswith("_alembic_tmp_")}
                is_mlflows = tables <= {*Base.metadata.tables, *SEEDED}
                return is_mlflows and not any(
                    _has_rows(database, table) for table in tables - {*SEEDED}
                )
    except sqlite3.Error:
        return False
    return False


def _tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("select name from sqlite_master where type = 'table'")
    return {name for (name,) in rows if not name.startswith("sqlite_")}


def _has_rows(database: sqlite3.Connection, table: str) -> bool:
    name = table.replace('"', '""')
    return database.execute(f'select 1 from "{name}" limit 1').fetchone() is not None


@contextlib.contextmanager
def _opened(path: Path, timeout_s: float) -> Iterator[sqlite3.Connection]:
    """Open a database that is there; what a killed process was writing is first taken back."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=timeout_s)) as database:
        yield database
