"""Ray Tune's view of a planner: a searcher and a scheduler.

The searcher hands out fits, the scheduler passes reports on.

Neither remembers anything. Tune pickles both with its own state, which is never read again: see
`tuning.study.study`.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.exceptions import ActorUnavailableError, NodeDiedError
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from pipeline.errors import AffectuneError, SurroundingsError
from pipeline.storage.atomic_file import prove_writable
from pipeline.storage.surroundings import as_failure
from tuning.fitting.trial_fit import FitReport
from tuning.planning.planner import StudyPlanner

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

Result = dict[str, Any]
NODE_LOST = ("node has died", "node it was running on is dead")
"""How Ray says that an actor was lost with its node."""


class StopRequest:
    """Whether a study is to be stopped before its end, and why.

    Attributes:
        interrupted: set when a person, or the system, asks for it.
        error: what the study could not get over, such as a full disk; Tune would wrap it in a
            traceback.
    """

    def __init__(self, planner: StudyPlanner) -> None:
        self._planner = planner
        self.interrupted = threading.Event()
        self.error: AffectuneError | None = None

    @property
    def is_set(self) -> bool:
        """Return whether no fit is to be started, and none to go on."""
        has_failed = self._planner.failure is not None or self._planner.fault is not None
        return self.interrupted.is_set() or self.error is not None or has_failed

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """Keep an error that cannot be got over, for after Tune's loop."""
        try:
            yield
        except AffectuneError as error:
            self.error = self.error or error
        except OSError as error:
            if (fault := as_failure(error)) is None:
                raise
            self.error = self.error or fault


class NoState:
    """What Tune pickles in place of a searcher or a scheduler."""


class PlannerSearcher(Searcher):
    """Asks the planner for the next fit.

    Args:
        planner: of the study.
        num_workers: returns how many fits can run now; one more is asked for, so that a worker that
            ends has the next one at once.
        stop_request: whether no more fits are to be started.
    """

    def __init__(
        self, planner: StudyPlanner, num_workers: Callable[[], int], stop_request: StopRequest
    ) -> None:
        super().__init__()
        self._planner, self._num_workers = planner, num_workers
        self._stop_request = stop_request

    def suggest(self, trial_id: str) -> Result | str | None:  # type: ignore[override] # FINISHED
        """Return a fit as a trial's config; None to be asked again; FINISHED at the end."""
        is_busy = len(self._planner.running) > self._num_workers()
        if is_busy and not self._stop_request.is_set:
            return None

        with self._stop_request.on_error():
            if not self._stop_request.is_set and (job := self._planner.next_job()):
                return job.to_config()

        is_over = self._stop_request.is_set or self._planner.is_done
        return str(Searcher.FINISHED) if is_over else None

    def on_trial_complete(
        self, trial_id: str, result: Result | None = None, error: bool = False
    ) -> None:
        """Do nothing: the scheduler passes it on."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the memory."""

    def __reduce__(self) -> tuple[type[NoState], tuple[()]]:
        return NoState, ()


class PlannerScheduler(TrialScheduler):
    """Gives the planner what trials report, and tells Tune which continue.

    Args:
        planner: of the study.
        num_workers: returns how many fits can run now.
        stop_request: whether the study is being stopped.
        has_equal_resources: every trial asks for the same resources, so that a worker can take any.

    Attributes:
        reported_at: trial -> when it reported last.
    """

    # A worker that waits after a fault still has Tune's trial; the study's trial was handed out
    # again. What becomes of the former says nothing of the latter.

    def __init__(
        self,
        planner: StudyPlanner,
        num_workers: Callable[[], int],
        stop_request: StopRequest,
        *,
        has_equal_resources: bool,
    ) -> None:
        super().__init__()
        self._planner, self._num_workers = planner, num_workers
        self._stop_request, self._has_equal_resources = stop_request, has_equal_resources
        self.reported_at: dict[str, float] = {}
        self._held: set[str] = set()

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Make Tune keep idle workers: it would end all but one, and start others seconds later."""
        wrapped: Any = tune_controller  # Tune has no setting for it
        if self._has_equal_resources:
            actor_cache = wrapped._tune_controller._actor_cache
            actor_cache.increase_max(trial.placement_group_factory)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Result) -> str:
        """Return whether a trial continues; while the study is stopped, none does.

        Its state is in the store.
        """
        name = trial.config["trial"]
        continues = trial.trial_id in self._held
        if not continues:
            self.reported_at[name] = time.monotonic()
            report = FitReport.from_result(result)
            with self._stop_request.on_error():
                continues = self._planner.receive(name, report)
            if report.fault is not None:
                self._held.add(trial.trial_id)
                del self.reported_at[name]  # it has not begun again: a stop need not wait for it
                continues = True
        goes_on = continues and not self._stop_request.is_set
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: Result
    ) -> None:
        """Pass on the report of a trial that ended by itself; a stopped one has reported before."""
        if result.get("done") and result.get("end_reason"):
            with self._stop_request.on_error():
                self._planner.receive(trial.config["trial"], FitReport.from_result(result))

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Have a trial whose worker was lost started anew; it goes on from its last report.

        Tune's own way of starting it again loses trials: where two calls of one lost worker fail,
        the second failure ends the trial that the first one had put back.
        """
        if trial.trial_id in self._held:
            return

        error = trial.get_pickled_error()
        lines = str(trial.get_error() or error or "").strip().splitlines()
        fault = (error and as_failure(error)) or _full_temporary_folder()
        with self._stop_request.on_error():
            if fault is not None:
                self._planner.surroundings_failed(trial.config["trial"], str(fault))
                return
            cause = lines[-1] if lines else "unknown"
            self._planner.worker_lost(
                trial.config["trial"], cause, with_node=_is_of_node(error, lines)
            )

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing."""

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """Return the first trial that waits, in the planner's order; while workers start, the last.

        A worker starts for a trial that waits. If another worker that is free took that trial, Tune
        would give up the start; with trials shorter than a start, one worker would do all the work.
        The last one asked for has no worker yet.
        """
        live: list[Trial] = list(tune_controller.get_live_trials())
        pending = [trial for trial in live if trial.status == Trial.PENDING]
        pending.sort(key=lambda trial: int(trial.config["trial"]))
        if not pending:
            return None

        num_running = sum(trial.status == Trial.RUNNING for trial in live)
        all_workers_run = num_running + 1 >= self._num_workers()
        return pending[0] if all_workers_run else pending[-1]

    def debug_string(self) -> str:
        """Return a name."""
        return "ASHA per task"

    def __reduce__(self) -> tuple[type[NoState], tuple[()]]:
        return NoState, ()


def _is_of_node(error: object, lines: list[str]) -> bool:
    """Return whether a worker was lost because its node was, or cannot be reached."""
    if isinstance(error, ActorUnavailableError | NodeDiedError):
        return True
    return any(text in line.lower() for text in NODE_LOST for line in lines)


def _full_temporary_folder() -> SurroundingsError | None:
    """Return what keeps workers from starting on this machine, where it is the temporary folder."""
    try:
        prove_writable(Path(tempfile.gettempdir()))
    except OSError as error:
        return as_failure(error)
    return None
