"""Which errors are the surroundings', however a library has wrapped them, and which are not."""

from __future__ import annotations

import errno
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from ray.exceptions import RayTaskError

from pipeline.errors import AffectuneError, InputError, SurroundingsError
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.surroundings import as_failure, failure, is_out_of_memory, mend_of

NUMBERS = [
    "ENOSPC",
    "EDQUOT",
    "EFBIG",
    "EIO",
    "EROFS",
    "EACCES",
    "EPERM",
    "EMFILE",
    "ENFILE",
    "ENOMEM",
    "ESTALE",
    "ETIMEDOUT",
    "ECONNRESET",
    "EHOSTUNREACH",
    "EAGAIN",
    "ENOLCK",
]
FULL = OSError(errno.ENOSPC, "No space left on device", "/data/x")


def raised(raise_it: Callable[[], object]) -> BaseException:
    """Return what a call raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        raise_it()
    return caught.value


def raised_from(outer: Exception, inner: BaseException | None, *, hides: bool = False) -> Exception:
    """Return an error that was raised from another one, or while it was handled."""
    if hides:
        outer.__context__ = inner
    else:
        outer.__cause__ = inner
    return outer


def sqlite_error(path: Path, statement: str, pages: int | None = None) -> Exception:
    """Return what sqlite raises."""
    with closing(sqlite3.connect(path, timeout=0)) as database:
        if pages is not None:
            database.execute(f"pragma max_page_count = {pages}")
        with pytest.raises(sqlite3.Error) as caught:
            database.executescript(statement)
    return caught.value


@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_of_the_system_is_the_surroundings_whatever_it_is_wrapped_in(number: str) -> None:
    error = OSError(getattr(errno, number), "as the system says", "/data/x")
    task_error = cast(Any, RayTaskError)("step", "Traceback ...", error)
    wrapped = [
        error,
        raised_from(RuntimeError("torch could not save"), error),
        raised_from(ValueError("while it was handled"), error, hides=True),
        raised_from(InputError("no bundle"), raised_from(AffectuneError("no entry"), error)),
        task_error,
        task_error.as_instanceof_cause(),
        cast(Any, MlflowException)(error),
        pickle.loads(pickle.dumps(error)),
    ]
    for each in wrapped:
        said = as_failure(each)
        assert said is not None, each
        assert said.mend in str(said)
        assert "\n" not in str(said)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "x"),
        OSError(errno.ENAMETOOLONG, "File name too long", "x"),
        ValueError("non-finite loss at epoch 2"),
        AffectuneError("The loss is not finite."),
        InputError("The session 'a' has no labels."),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        KeyError("cell"),
        ZeroDivisionError("division by zero"),
        OSError("could not get source code"),
    ],
)
def test_a_mistake_in_what_was_asked_for_is_no_fault_of_the_surroundings(error: Exception) -> None:
    assert mend_of(error) is None
    assert as_failure(raised_from(RuntimeError("a trial failed"), error)) is None
    assert type(failure("It failed.", error)) is AffectuneError


def test_a_database_that_is_full_locked_or_read_only_is_told_by_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill = "create table t (x); insert into t values (zeroblob(1000000));"
    full = sqlite_error(path, fill, pages=4)
    assert "Make room" in str(mend_of(full))

    with closing(sqlite3.connect(path)) as database:
        database.execute("create table if not exists t (x)")
        database.execute("begin exclusive")
        assert "Wait for what else" in str(mend_of(sqlite_error(path, "insert into t values (1)")))
    missing = raised(lambda: sqlite3.connect(tmp_path / "nowhere" / "a.db"))
    assert "right to write" in str(mend_of(missing))
    assert mend_of(sqlite_error(path, "select * from nothing")) is None

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma max_page_count = 4")
        wrapped = raised(
            lambda: connection.exec_driver_sql("insert into t values (zeroblob(1000000))")
        )
    engine.dispose()
    assert "\n" in str(wrapped)
    said = str(as_failure(wrapped))
    assert said == "database or disk is full. Make room there, or raise the quota."
    # From a server, or another process, only the text comes.
    text = MlflowException(str(wrapped))
    assert "Make room" in str(as_failure(text))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 TiB for an array"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."),
        raised_from(ValueError("x"), MemoryError()),
    ],
)
def test_short_memory_may_be_anyones(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert mend_of(error) is None
    assert not is_out_of_memory(FULL)


def test_errors_that_come_from_each_other_in_a_circle_are_looked_at_once() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert mend_of(first) is None


def test_what_cannot_be_written_says_what_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(SurroundingsError) as caught:
        write_atomically(tmp_path / "a", "x")
    expected = f"Cannot write '{tmp_path / 'a'}': Disk quota exceeded. What was there is intact."
    assert str(caught.value) == f"{expected} Make room there, or raise the quota."
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.mend) == (
        SurroundingsError,
        str(caught.value),
        caught.value.mend,
    )
