"""The search: all fits of a planner, as one Ray Tune experiment."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory
from ray.tune.execution import class_cache

from pipeline.corpus import Corpus
from pipeline.fitting.shared_corpus import pack
from pipeline.storage.store_address import PASSED_ON, worker_variables
from pipeline.storage.surroundings import as_failure, failure
from pipeline.supervisor import REPEATED_S, is_stopped
from tuning.planning.planner import StudyPlanner
from tuning.ray_backend.cluster import Cluster
from tuning.ray_backend.store_marker import StoreMarker
from tuning.ray_backend.trainable import TrialTrainable
from tuning.ray_backend.tune_adapters import (
    NoState,
    PlannerScheduler,
    PlannerSearcher,
    StopRequest,
)
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import parse_task

SCRATCH = "affectune-tune-"
"""What the name of a folder for Tune begins with."""
STOP_TIMEOUT_S = 7.0
"""So long running trials have to keep their state when the study is interrupted.

They report every five seconds, and the whole study has to end within fifteen.
"""


def search(
    planner: StudyPlanner,
    corpus: Corpus,
    store: str,
    cluster: Cluster,
    on_tick: Callable[[], None],
    marker: StoreMarker | None = None,
) -> bool:
    """Run the planner's fits.

    Args:
        planner: says which is next.
        corpus: put into the object store, once per node.
        store: a folder that all nodes share, or a URI.
        cluster: where the trials run.
        on_tick: called some times a second.
        marker: in the store, by which nodes of a cluster know it; None on this machine alone.

    Returns:
        Whether it was interrupted: then running trials have kept their state.

    Raises:
        AffectuneError: something could not be written.
    """
    # Tune would ask for one trial at a time, and start one worker after the other.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "10000")

    stop_request = StopRequest(planner)
    with (
        _interruptions(stop_request.interrupted),
        _scratch_folder(cluster.folder) as folder,
    ):
        if is_stopped():
            stop_request.interrupted.set()
        tuner = _tuner(planner, corpus, store, cluster, on_tick, stop_request, folder, marker)
        try:
            tuner.fit()
        except Exception as error:  # Tune's own files may be what cannot be written
            fault = stop_request.error or cluster.loss_behind(error) or as_failure(error)
            if fault is None:
                raise
            stop_request.error = fault

    if stop_request.error:
        raise stop_request.error
    return stop_request.interrupted.is_set()


@contextlib.contextmanager
def _scratch_folder(parent: Path | None) -> Iterator[str]:
    """Make a folder for what Ray Tune writes and nobody reads, for the time of a search.

    It is not the study's, whose disk may be full: Tune would end in a traceback.

    Raises:
        SurroundingsError: it cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(dir=parent, prefix=SCRATCH, ignore_cleanup_errors=True)
    except OSError as error:
        where = parent or tempfile.gettempdir()
        message = f"Cannot make a temporary folder in '{where}': {error.strerror}."
        raise failure(message, error) from error
    with folder as name:
        yield name


def resources(study: StudySpec, config: dict[str, Any]) -> PlacementGroupFactory:
    """Return what a trial occupies: the cores and the share of a GPU that its stage asks for."""
    table = study.table(parse_task(config["task"]).stage)
    bundle = {"CPU": table.cpus}
    if table.gpus:
        bundle["GPU"] = table.gpus
    return PlacementGroupFactory([bundle])


def store_variables(store: str) -> dict[str, str]:
    """Return the variables with which the workers reach the store, its keys among them.

    Tune would hand keys on as variables of the workers' processes, which Ray writes to its logs.
    From now on it leaves that to us.
    """
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(PASSED_ON)
    return worker_variables(store)


def _tuner(
    planner: StudyPlanner,
    corpus: Corpus,
    store: str,
    cluster: Cluster,
    on_tick: Callable[[], None],
    stop_request: StopRequest,
    folder: str,
    marker: StoreMarker | None,
) -> tune.Tuner:
    study = planner.study

    def num_workers() -> int:
        return cluster.fits_at_a_time(study)

    demands = {(study.table(stage).cpus, study.table(stage).gpus) for stage in STAGES}
    searcher = PlannerSearcher(planner, num_workers, stop_request)
    scheduler = PlannerScheduler(
        planner, num_workers, stop_request, has_equal_resources=len(demands) == 1
    )

    head, packed = pack(corpus)
    trainable = tune.with_parameters(
        TrialTrainable,
        head=head,
        packed=packed,
        spec=study.base.model_dump_json(),
        store=store,
        variables=store_variables(store),
        marker=marker,
    )
    return tune.Tuner(
        tune.with_resources(trainable, lambda config: resources(study, config)),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=folder,
            callbacks=[_Tick(on_tick, cluster, stop_request)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            stop=_StopWhenReported(stop_request, planner, scheduler),
            verbose=0,
        ),
    )


@contextlib.contextmanager
def _interruptions(interrupted: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM ask the study to stop; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    first_at = float("inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal first_at
        if time.monotonic() - first_at > REPEATED_S:
            raise KeyboardInterrupt
        first_at = min(first_at, time.monotonic())
        interrupted.set()

    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Tick(tune.Callback):
    def __init__(
        self, on_tick: Callable[[], None], cluster: Cluster, stop_request: StopRequest
    ) -> None:
        self._on_tick, self._cluster, self._stop_request = on_tick, cluster, stop_request

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._on_tick()
        self._stop_request.error = self._stop_request.error or self._cluster.fault

    def __reduce__(self) -> tuple[type[NoState], tuple[()]]:
        return NoState, ()


class _StopWhenReported(tune.Stopper):
    """Ends the experiment once every running trial has reported after a stop request."""

    def __init__(
        self, stop_request: StopRequest, planner: StudyPlanner, scheduler: PlannerScheduler
    ) -> None:
        self._stop_request, self._planner, self._scheduler = stop_request, planner, scheduler
        self._since: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._stop_request.is_set:
            return False

        self._since = self._since or time.monotonic()
        reported_at = self._scheduler.reported_at
        begun = [name for name in self._planner.running if name in reported_at]
        waiting = [name for name in begun if reported_at[name] < self._since]
        return not waiting or time.monotonic() - self._since > STOP_TIMEOUT_S

    def __reduce__(self) -> tuple[type[NoState], tuple[()]]:
        return NoState, ()
