"""MLflow's database is there whole or not at all, also where several make it or one is cut off."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import SurroundingsError
from tuning.mlflow_backend import database
from tuning.mlflow_backend.client import artifact_location, connect
from tuning.mlflow_backend.database import prepare_database

CONTEXT = multiprocessing.get_context("fork")  # MLflow's import takes seconds


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database as MLflow makes it, which takes a second."""
    path = tmp_path_factory.mktemp("whole") / "mlflow.db"
    prepare(path)
    return path


@pytest.fixture
def quick(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make databases by copying; do not wait for who may be making a half-made one."""
    from mlflow.store.tracking import sqlalchemy_store

    def make(uri: str, artifacts: str) -> SimpleNamespace:
        shutil.copy(whole, uri.removeprefix("sqlite:///"))
        return SimpleNamespace(engine=SimpleNamespace(dispose=lambda: None))

    monkeypatch.setattr(database, "SETTLED_S", 0.05)
    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", make)


def prepare(path: Path) -> None:
    prepare_database(path, artifact_location(path))


def in_processes(number: int, call: Callable[[], None]) -> list[int | None]:
    """Run a call in so many processes at once; return their exit statuses."""
    processes = [CONTEXT.Process(target=call) for _ in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def assert_whole(path: Path) -> None:
    """Assert that a database is complete, and that nothing else lies beside it."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select name from experiments").fetchall() == [("Default",)]
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def num_runs(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("select count(*) from runs").fetchone()[0])


def half_made(path: Path, whole: Path, num_tables: int) -> None:
    """Make what a process leaves that was killed after so many tables."""
    with closing(sqlite3.connect(whole)) as source, closing(sqlite3.connect(path)) as target:
        made = source.execute("select sql from sqlite_master where type = 'table' and sql not null")
        for (statement,) in made.fetchall()[:num_tables]:
            target.execute(statement)
        target.commit()


def test_processes_that_make_a_database_at_once_all_use_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ä b" / "mlflow.db"
    path.parent.mkdir()

    def record() -> None:
        client = connect(f"sqlite:///{path}")
        client.create_run(client.create_experiment(f"of {os.getpid()}"))

    assert in_processes(3, record) == [0] * 3
    assert num_runs(path) == 3


def test_a_process_that_is_killed_meanwhile_leaves_nothing_in_the_way(
    tmp_path: Path, whole: Path, quick: None
) -> None:
    path = tmp_path / "mlflow.db"

    def be_killed() -> None:
        from mlflow.store.tracking import sqlalchemy_store

        def begin(uri: str, artifacts: str) -> None:
            temporary = Path(uri.removeprefix("sqlite:///"))
            for ending in ("", "-journal", "-wal"):
                Path(f"{temporary}{ending}").write_bytes(whole.read_bytes()[:20_000])
            os.kill(os.getpid(), signal.SIGKILL)

        sqlalchemy_store.SqlAlchemyStore = begin  # type: ignore[misc, assignment]
        prepare(path)

    assert in_processes(1, be_killed) == [-signal.SIGKILL]
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 4
    prepare(path)
    assert_whole(path)


@pytest.mark.parametrize("num_tables", [0, 1, 3, 9, 1000])
def test_a_database_that_was_left_half_made_is_made_anew(
    tmp_path: Path, whole: Path, quick: None, caplog: pytest.LogCaptureFixture, num_tables: int
) -> None:
    path = tmp_path / "mlflow.db"
    half_made(path, whole, num_tables)
    # Another database's: played back into the new one it would spoil it.
    (tmp_path / "mlflow.db-wal").write_bytes(b"")
    prepare(path)
    assert_whole(path)
    assert ("left half-made" in caplog.text) == (num_tables > 0)


def test_what_may_be_somebodys_is_never_made_anew(
    tmp_path: Path, whole: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, used, busy, damaged = (tmp_path / name for name in ("others", "used", "busy", "bad"))
    with closing(sqlite3.connect(others)) as connection:
        connection.executescript("create table alembic_version (x); create table mine (x);")
    half_made(used, whole, 1000)
    with closing(sqlite3.connect(used)) as connection:
        connection.execute("insert into registered_models (name) values ('mine')")
        connection.commit()
    half_made(busy, whole, 9)
    damaged.write_bytes(whole.read_bytes()[:50_000])

    paths = (others, used, busy, damaged)
    before = [path.read_bytes() for path in paths]
    with closing(sqlite3.connect(busy)) as connection:
        connection.execute("begin immediate")
        monkeypatch.setattr(database, "BUSY_S", 0.1)
        for path in paths:
            prepare(path)
    assert [path.read_bytes() for path in paths] == before


def test_a_link_to_where_the_database_is_to_be_stays_a_link(
    tmp_path: Path, whole: Path, quick: None
) -> None:
    link, path = tmp_path / "link.db", tmp_path / "elsewhere" / "mlflow.db"
    path.parent.mkdir()
    link.symlink_to(path)
    prepare(link)
    assert link.is_symlink()
    assert_whole(path)


def test_a_database_that_is_being_written_is_not_waited_for_here(
    tmp_path: Path, whole: Path, quick: None
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(whole, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("begin exclusive")
        begin = time.monotonic()
        prepare(path)
        assert time.monotonic() - begin < database.BUSY_S


def test_a_full_disk_leaves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"

    def prepare_with_little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(SurroundingsError, match=r"^Cannot make the database .*mlflow.db': "):
            prepare(path)
        sys.exit(7)

    assert in_processes(1, prepare_with_little_room) == [7]
    assert list(tmp_path.iterdir()) == []
