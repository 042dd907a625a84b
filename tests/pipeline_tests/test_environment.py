"""Defaults of environment variables are set, and what the user has set is left as it is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from pipeline.environment import (
    DEFAULT_TRACKING_URI,
    ONE_THREAD,
    TRACKING_URI,
    forbid_mlflow_retries,
    give_memory_back,
    keep_ray_on_loopback,
    kept_environment,
    resolve_tracking_uri,
    set_allocator_defaults,
    set_mlflow_defaults,
    set_ray_serve_defaults,
    set_ray_tune_defaults,
    set_thread_defaults,
)

SETTERS = (
    set_allocator_defaults,
    set_mlflow_defaults,
    set_ray_serve_defaults,
    set_ray_tune_defaults,
    set_thread_defaults,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of the test's own, empty."""
    variables: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", variables)
    return variables


@pytest.mark.parametrize("set_defaults", SETTERS)
def test_a_variable_that_the_user_has_set_is_left_as_it_is(
    environment: dict[str, str], set_defaults: Callable[[], None]
) -> None:
    set_defaults()
    assert environment
    for name in environment:
        environment[name] = "the user's"

    set_defaults()
    assert set(environment.values()) == {"the user's"}


@pytest.mark.parametrize("is_failing", [False, True])
def test_a_program_keeps_its_own_variables(
    environment: dict[str, str], *, is_failing: bool
) -> None:
    environment |= {TRACKING_URI: "sqlite:///own.db", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7"}
    own = dict(environment)

    with contextlib.suppress(RuntimeError), kept_environment():
        set_mlflow_defaults()
        forbid_mlflow_retries()
        set_ray_tune_defaults()
        keep_ray_on_loopback()
        environment[TRACKING_URI] = "http://elsewhere"
        environment |= {"RAY_AUTH_MODE": "token", "OTHERS": "1"}
        if is_failing:
            raise RuntimeError

    assert environment == own | {"RAY_AUTH_MODE": "token", "OTHERS": "1"}


def test_a_process_has_one_thread(environment: dict[str, str]) -> None:
    set_thread_defaults()
    assert ONE_THREAD.items() <= environment.items()


def test_a_local_ray_stays_on_loopback_whatever_the_user_has_set(
    environment: dict[str, str],
) -> None:
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    keep_ray_on_loopback()
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_mlflow_repeats_no_request_whatever_the_user_has_set(environment: dict[str, str]) -> None:
    environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "7"
    set_mlflow_defaults()
    forbid_mlflow_retries()
    assert environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_the_tracking_uri_is_the_option_else_the_variable_else_a_local_file(
    environment: dict[str, str],
) -> None:
    assert resolve_tracking_uri() == DEFAULT_TRACKING_URI == "sqlite:///mlflow.db"
    environment[TRACKING_URI] = "http://server"
    assert resolve_tracking_uri() == "http://server"
    assert resolve_tracking_uri("sqlite:///other.db") == "sqlite:///other.db"


def test_no_library_that_reads_a_variable_is_imported_with_the_module() -> None:
    code = (
        "import sys; import pipeline.environment; "
        "print(sorted({'numpy', 'torch', 'numba', 'mlflow', 'ray'} & {*sys.modules}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}
    ).stdout
    assert output.strip() == "[]"


def test_serving_gives_memory_back_unless_the_user_has_said_otherwise(
    environment: dict[str, str],
) -> None:
    environment["MALLOC_TRIM_THRESHOLD_"] = "7"
    set_allocator_defaults()
    give_memory_back()
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "7"
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) == 4 * 2**20
