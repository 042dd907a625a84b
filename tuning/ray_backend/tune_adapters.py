"""Ray Tune's view of an agenda: a searcher that hands out fits, and a scheduler that writes down what they report.

Neither remembers anything. Tune pickles both with its own state, which is never read again: see `tuning.study.study`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from pipeline.errors import AffectuneError
from tuning.planning.planner import StudyPlanner

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

Result = dict[str, Any]


class StopRequest:
    """Whether the study is to be left before its end, and why.

    Attributes:
        asked: a person, or the system, asked for it.
        error: what the study could not get over, such as a full disk; Tune would wrap it in a traceback.
    """

    def __init__(self, planner: StudyPlanner) -> None:
        self._agenda = planner
        self.asked = threading.Event()
        self.error: AffectuneError | None = None

    @property
    def now(self) -> bool:
        """No fit is to be started, and none to go on."""
        return self.asked.is_set() or self.error is not None or self._agenda.failure is not None

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """What cannot be got over is kept, for after Tune's loop."""
        try:
            yield
        except AffectuneError as error:
            self.error = self.error or error


class PlannerSearcher(Searcher):
    """Asks the agenda for the next fit.

    Args:
        agenda: of the study.
        workers: how many fits can run now; one more is asked for, so that a worker that ends has the next one at once.
        departure: whether no more fits are to be started.
    """

    def __init__(
        self, planner: StudyPlanner, workers: Callable[[], int], stop_request: StopRequest
    ) -> None:
        super().__init__()
        self._agenda, self._workers, self._departure = planner, workers, stop_request

    def suggest(self, trial_id: str) -> Result | str | None:  # type: ignore[override] # FINISHED is a str
        """A fit as a trial's config; None to be asked again; FINISHED at the end."""
        if not self._departure.now and len(self._agenda.running) > self._workers():
            return None
        with self._departure.on_error():
            if not self._departure.now and (job := self._agenda.next()):
                return job.to_config()
        return str(Searcher.FINISHED) if self._departure.now or self._agenda.over else None

    def on_trial_complete(
        self, trial_id: str, result: Result | None = None, error: bool = False
    ) -> None:
        """The scheduler hears of it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the memory."""

    def __reduce__(self) -> tuple[type[Forgetful], tuple[()]]:
        return Forgetful, ()


class PlannerScheduler(TrialScheduler):
    """Tells the agenda what trials report, and Tune which go on.

    Args:
        agenda: of the study.
        workers: how many fits can run now.
        departure: whether the study is being left.
        alike: every trial asks for the same resources, so that a worker can take any of them.
    """

    def __init__(
        self,
        planner: StudyPlanner,
        workers: Callable[[], int],
        stop_request: StopRequest,
        *,
        alike: bool,
    ) -> None:
        super().__init__()
        self._agenda, self._workers, self._departure, self._alike = (
            planner,
            workers,
            stop_request,
            alike,
        )
        self.heard_at: dict[str, float] = {}

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Make Tune keep workers that have nothing to do: it would end all but one, and start others seconds later."""
        wrapped: Any = tune_controller  # Tune has no setting for it
        if self._alike:
            wrapped._tune_controller._actor_cache.increase_max(trial.placement_group_factory)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Result) -> str:
        """Whether a trial that has not ended goes on; while the study is left, none does: its state is in the store."""
        self.heard_at[trial.config["trial"]] = time.monotonic()
        goes_on = False
        with self._departure.on_error():
            goes_on = self._agenda.heard(trial.config["trial"], result)
        return str(
            TrialScheduler.CONTINUE if goes_on and not self._departure.now else TrialScheduler.STOP
        )

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: Result
    ) -> None:
        """A trial that was stopped was heard before; one that ended by itself is heard here."""
        if result.get("done") and result.get("ended"):
            with self._departure.on_error():
                self._agenda.heard(trial.config["trial"], result)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Its worker was lost: the agenda has the trial started anew, which goes on from its last report.

        Tune's own way of starting it again loses trials: where two calls of one lost worker fail, the second failure
        ends the trial that the first one had put back.
        """
        lines = str(trial.get_error() or trial.get_pickled_error() or "").strip().splitlines()
        with self._departure.on_error():
            self._agenda.lost(trial.config["trial"], lines[-1] if lines else "unknown")

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Nothing to do."""

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """The first that waits, in the agenda's order; while workers are being started, the last.

        A worker starts for a trial that waits. If another worker that is free took that trial, Tune would give up the
        start; with trials shorter than a start, one worker would do all the work. The last asked for has no worker yet.
        """
        live: list[Trial] = list(tune_controller.get_live_trials())
        waiting = sorted(
            (t for t in live if t.status == Trial.PENDING), key=lambda t: int(t.config["trial"])
        )
        running = sum(t.status == Trial.RUNNING for t in live)
        if not waiting:
            return None
        return waiting[0] if running + 1 >= self._workers() else waiting[-1]

    def debug_string(self) -> str:
        """A name."""
        return "ASHA per task"

    def __reduce__(self) -> tuple[type[Forgetful], tuple[()]]:
        return Forgetful, ()


class Forgetful:
    """What Tune pickles in place of a searcher or a scheduler."""
