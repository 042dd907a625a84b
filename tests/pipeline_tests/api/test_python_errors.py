"""Errors reach a Python program as Affectune's, and speak of its arguments."""

from __future__ import annotations

import errno
import inspect

import pytest

from pipeline.api.python_errors import in_python, with_arguments
from pipeline.errors import AffectuneError, InputError, SurroundingsError


def example(*, out: str = "", resume: bool = False, time_budget: str | None = None) -> None:
    """Raise what the test asks for."""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Pass --resume, or another --out.", "Pass resume=True, or another `out`."),
        ("--out 'a --out' is there.", "out='a `out`' is there."),
        ("--time-budget is 'x'", "`time_budget` is 'x'"),
        ("Use --workers 1, or `mlflow ui --backend-store-uri`.", None),
        ("a--out and --outer stay", None),
        ("`affectune train --out x` writes it.", None),
        ("Run affectune study run demo --out x.db", None),
        (
            "Such as affectune train --out a.b. Or --out.",
            "Such as affectune train --out a.b. Or `out`.",
        ),
    ],
)
def test_options_are_written_as_arguments(message: str, expected: str | None) -> None:
    parameters = inspect.signature(example).parameters
    assert with_arguments(message, parameters) == (expected or message)


@pytest.mark.parametrize("kind", [InputError, AffectuneError])
def test_an_error_keeps_its_kind(kind: type[AffectuneError]) -> None:
    @in_python
    def fail(out: str) -> None:
        raise kind("Choose another --out.")

    with pytest.raises(kind, match="another `out`"):
        fail("x")


def test_a_full_disk_is_an_error_of_the_surroundings_and_a_mistake_stays_what_it_is() -> None:
    @in_python
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(SurroundingsError, match="Make room"):
        fail(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(FileNotFoundError):
        fail(FileNotFoundError(errno.ENOENT, "No such file"))
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
