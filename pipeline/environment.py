"""Names and defaults of environment variables that other libraries read. Imports none of them.

A library reads its variables when it is imported or started, so a process calls these functions
before that. What the user has set is left as it is, unless a function says otherwise.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Two fits with two threads each on two cores are many times slower than with one."""

_TRIM, _MMAP = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"
_KEEP_HEAP = {_TRIM: "1000000000", _MMAP: "1000000000"}
_GIVE_BACK = {_TRIM: str(64 * 2**20), _MMAP: str(4 * 2**20)}

_LIBRARIES = ("MLFLOW_", "RAY_", "TUNE_")
"""How the variables of libraries begin whose defaults are for a whole process."""
_AUTHENTICATION = "RAY_AUTH_"
"""How those begin that Ray reads once, when it is imported: what it starts later has to agree."""

TRACKING_URI = "MLFLOW_TRACKING_URI"
DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"

_MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_MLFLOW = {
    # MLflow's defaults try for minutes; our callers repeat by themselves.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    _MLFLOW_RETRIES: "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
}

_RAY_OTHER_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's name for whether other machines may join; it holds on Linux, too."""
SERVE_PROXY_READY_S = "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"
_RAY_SERVE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_DEDUP_LOGS": "0",  # of lines that look alike each may be another request's
    # Ray kills a proxy that is not ready by then; on a busy node it is not within its 5 s.
    SERVE_PROXY_READY_S: "60",
}
_RAY_TUNE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The planner says what became of a trial.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # What Tune writes is never read: the journal is the memory of a study.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Tune would start a lost worker's trial once more, and the planner does that already.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def set_thread_defaults() -> None:
    """Give numpy, torch and numba one thread per process; before they are imported."""
    _set_defaults(ONE_THREAD)


def set_allocator_defaults() -> None:
    """Let glibc keep the heap of worker processes, which inherit this.

    Else it gives memory back after every training step, which costs a quarter of the time.
    """
    _set_defaults(_KEEP_HEAP)


@contextlib.contextmanager
def worker_defaults() -> Iterator[None]:
    """Set both for the processes that are started in a block; this one's variables stay its own."""
    missing = [name for name in (*ONE_THREAD, *_KEEP_HEAP) if name not in os.environ]
    _set_defaults(ONE_THREAD | _KEEP_HEAP)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextlib.contextmanager
def kept_environment() -> Iterator[None]:
    """Undo at a block's end what was set in it for MLflow, Ray and Tune: a program has its own.

    How Ray authenticates stays as it is.
    """
    before = _variables_of_libraries()
    try:
        yield
    finally:
        for name in _variables_of_libraries().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def give_memory_back() -> None:
    """Let glibc give large blocks back at once, in processes that serve: such as bodies are.

    It undoes `set_allocator_defaults`, but not what the user has set.
    """
    for name, value in _GIVE_BACK.items():
        if os.environ.get(name, _KEEP_HEAP[name]) == _KEEP_HEAP[name]:
            os.environ[name] = value


def set_mlflow_defaults() -> None:
    """Make MLflow quiet, and let it give a request up after seconds, not minutes."""
    _set_defaults(_MLFLOW)


def forbid_mlflow_retries() -> None:
    """Forbid MLflow to repeat requests by itself, whatever the user has set.

    A request that was carried out, but whose answer was lost, would be carried out twice.
    """
    os.environ[_MLFLOW_RETRIES] = "0"


def resolve_tracking_uri(option: str | None = None) -> str:
    """Return the tracking server's URI: the option, else MLFLOW_TRACKING_URI, else a local file."""
    return option or os.environ.get(TRACKING_URI) or DEFAULT_TRACKING_URI


def set_ray_tune_defaults() -> None:
    """Make Ray Tune quiet, and leave signals and lost workers to the study."""
    _set_defaults(_RAY_TUNE)


def set_ray_serve_defaults() -> None:
    """Give Ray's workers the priority of other processes, and send no usage statistics.

    By default Ray's workers give way to everything else.
    """
    _set_defaults(_RAY_SERVE)


def serve_proxy_patience() -> dict[str, str]:
    """Return the variable by which Serve's controller waits for its proxies, and its value."""
    return {SERVE_PROXY_READY_S: _RAY_SERVE[SERVE_PROXY_READY_S]}


def keep_ray_on_loopback() -> None:
    """Let a local Ray listen on loopback alone, whatever the user has set: nobody joins it."""
    os.environ[_RAY_OTHER_MACHINES] = "0"


def _variables_of_libraries() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_LIBRARIES) and not name.startswith(_AUTHENTICATION)
    }


def _set_defaults(defaults: Mapping[str, str]) -> None:
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
