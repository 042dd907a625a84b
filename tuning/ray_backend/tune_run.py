"""The search: an agenda worked off by one Ray Tune experiment."""

from __future__ import annotations

import contextlib
import logging
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

from pipeline.corpus import Corpus
from tuning.planning.planner import StudyPlanner
from tuning.ray_backend.cluster import Cluster
from tuning.ray_backend.shared_corpus import pack
from tuning.ray_backend.trainable import TrialTrainable
from tuning.ray_backend.tune_adapters import (
    Forgetful,
    PlannerScheduler,
    PlannerSearcher,
    StopRequest,
)
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import parse_task

LEAVE_S = 60.0
"""So long running trials have to keep their state when the study is interrupted."""

log = logging.getLogger(__name__)


def search(
    planner: StudyPlanner,
    corpus: Corpus,
    store: str,
    cluster: Cluster,
    on_tick: Callable[[], None],
    scratch: Path,
) -> bool:
    """Work off the agenda.

    Args:
        agenda: what to do.
        corpus: put into the object store, once per node.
        store: a folder that all nodes share, or a URI.
        cluster: where the trials run.
        on_tick: called some times a second.
        scratch: for what Ray Tune writes and nobody reads; on a cluster not shared.

    Returns:
        Whether it was interrupted: then running trials have kept their state.

    Raises:
        AffectuneError: something could not be written.
    """
    study = planner.study
    # Tune would ask for one trial at a time, and start one worker after the other; how many, the searcher knows.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "10000")
    head, packed = pack(corpus)
    trainable = tune.with_parameters(
        TrialTrainable, head=head, packed=packed, spec=study.base.model_dump_json(), store=store
    )
    stop_request = StopRequest(planner)
    with (
        _interruptions(stop_request.asked),
        tempfile.TemporaryDirectory(dir=scratch, prefix=".tune-") as folder,
    ):
        searcher = PlannerSearcher(planner, lambda: cluster.fits_at_a_time(study), stop_request)
        alike = len({(study.table(stage).cpus, study.table(stage).gpus) for stage in STAGES}) == 1
        scheduler = PlannerScheduler(
            planner, lambda: cluster.fits_at_a_time(study), stop_request, alike=alike
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, lambda config: resources(study, config)),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=folder,
                callbacks=[_Tick(on_tick)],
                stop=_Leave(stop_request, planner, scheduler),
                verbose=0,
            ),
        )
        tuner.fit()
    if stop_request.error:
        raise stop_request.error
    return stop_request.asked.is_set()


def resources(study: StudySpec, config: dict[str, Any]) -> PlacementGroupFactory:
    """What a trial occupies: the cores and the share of a GPU that its stage asks for."""
    table = study.table(parse_task(config["task"]).stage)
    return PlacementGroupFactory(
        [{"CPU": table.cpus, **({"GPU": table.gpus} if table.gpus else {})}]
    )


@contextlib.contextmanager
def _interruptions(asked: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the study to leave; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Tick(tune.Callback):
    def __init__(self, on_tick: Callable[[], None]) -> None:
        self._on_tick = on_tick

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._on_tick()

    def __reduce__(self) -> tuple[type[Forgetful], tuple[()]]:
        return Forgetful, ()


class _Leave(tune.Stopper):
    """Ends the experiment once every running trial has reported after an interruption, or after a while."""

    def __init__(
        self, stop_request: StopRequest, planner: StudyPlanner, scheduler: PlannerScheduler
    ) -> None:
        self._departure, self._agenda, self._scheduler = stop_request, planner, scheduler
        self._since: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._departure.now:
            return False
        self._since = self._since or time.monotonic()
        begun = [name for name in self._agenda.running if name in self._scheduler.heard_at]
        waiting = [name for name in begun if self._scheduler.heard_at[name] < self._since]
        return not waiting or time.monotonic() - self._since > LEAVE_S

    def __reduce__(self) -> tuple[type[Forgetful], tuple[()]]:
        return Forgetful, ()
