"""The planner: which fit is next, which trial continues, when a task is completed. Knows no Ray.

All that it decides goes through the journal, and follows from it. A planner made from the journal
of a study that was killed decides as the killed one would have. It remembers one thing beside it:
how many workers a trial has lost in a row, and how often the surroundings let it down, since it
was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import inf

from pipeline.corpus import Corpus
from pipeline.fitting.resumable_fit import remove_checkpoint
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import Task
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import read_trained
from tuning.fitting.job import Job
from tuning.fitting.lost_stage import StageLost
from tuning.fitting.trial_fit import FitReport, report_from_store
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.clock import now
from tuning.journal.events import (
    Event,
    Purpose,
    RaceDecision,
    Reason,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.journal.file import Journal
from tuning.journal.history import History, Trial
from tuning.planning.asha import SearchRungs, rung_decisions
from tuning.planning.configurations import Configurations
from tuning.planning.faults import Faults
from tuning.planning.finalists import (
    EveryTrialFailed,
    choose_finalists,
    number_of_finalists,
    rank_finalists,
)
from tuning.planning.judgement import judge
from tuning.planning.lost_stages import LostStages
from tuning.planning.outstanding_fits import Fit, FitPlan
from tuning.planning.race import race_decision
from tuning.planning.sampling.task_samplers import TaskSamplers
from tuning.planning.time_budget import TimeBudget
from tuning.spec.search_table import SearchTable
from tuning.spec.study_spec import StudySpec

MAX_FAILED_SHARE = 0.2
"""A study ends when more than this share of its trials has failed, and more than two."""
MAX_WORKER_LOSSES, MAX_NODE_LOSSES = 3, 20
"""A trial whose worker is lost goes on in another one, so many times without an epoch in between.

That a whole node was lost is hardly the trial's doing.
"""


class StudyPlanner:
    """Decides, and writes down what was decided.

    Args:
        study: its modalities and targets known.
        corpus: of the study.
        store: keeps trained stages and their held-out predictions.
        journal: open for writing.
        history: what the journal holds so far; kept up to date.
        device: "cpu" or "cuda".
        budget_s: seconds of running, over all resumptions.
        on_event: called for every event after it was written.

    Raises:
        InputError: a trial that has not ended would train something else than it began to.

    Attributes:
        cross_fit_plan: the folds of the protocol.
        configurations: what configurations mean.
        upstream_predictions: what trained stages output.
        fit_plan: the fits that the study consists of.
        budget: how much of them the time allows.
        running: names of the trials that workers have.
        lost_stages: those that the store has lost, and that are trained again before all else.
        failure: why the study cannot go on; None while it can.
        fault: what is wrong with the surroundings, for which the study ends, and after whose mend
            it goes on; None while it can.
    """

    def __init__(
        self,
        study: StudySpec,
        corpus: Corpus,
        store: StageStore,
        journal: Journal,
        history: History,
        *,
        device: str = "cpu",
        budget_s: float = inf,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.study, self.corpus, self.history = study, corpus, history
        self.cross_fit_plan = plan = CrossFitPlan.from_spec(corpus, study.base)
        self.configurations = Configurations(study, corpus, plan, history, device)
        self.upstream_predictions = UpstreamPredictions(store, corpus, plan, study.base)
        self.fit_plan = FitPlan(study, len(plan.folds))
        self.running: set[str] = set()
        self.lost_stages = LostStages(store, history)
        self.failure: str | None = None
        self.fault: str | None = None

        self.budget = TimeBudget(self.fit_plan, history, budget_s)
        self._samplers = TaskSamplers(study, self.configurations, history)
        self._rungs: dict[Task, SearchRungs] = {}
        self._store, self._journal = store, journal
        self._on_event = on_event or (lambda event: None)
        self._worker_losses: Counter[str] = Counter()
        self._node_losses: Counter[str] = Counter()
        self._faults = Faults()
        self.configurations.raise_if_changed()
        self._remove_leftovers()

    @property
    def is_done(self) -> bool:
        """Return whether all was trained, and the winners compared with what they have to beat."""
        is_judged = self._is_trained and self.history.judged is not None
        return is_judged and not self.lost_stages.trials

    @property
    def _is_trained(self) -> bool:
        return not self.history.open and self.fit_plan.is_complete(self.history)

    def next_job(self) -> Job | None:
        """Return a fit to start now; None where none is ready, or none is left.

        While the surroundings let trials down, no new ones are proposed.
        """
        if self.fault:
            return None
        try:
            return self._next_lost_job() if self.lost_stages.trials else self._next_job()
        except StageLost as error:
            self.lost_stages.find(error)
            return self._next_lost_job()

    def _next_lost_job(self) -> Job | None:
        """Return the fit of a stage that the store has lost; no early stopping ends it."""
        trial = self.lost_stages.next(self.running)
        if trial is None:
            return None
        job = self.configurations.job_of(trial.proposed)
        self.running.add(trial.name)
        return replace(job, rungs=())

    def _next_job(self) -> Job | None:
        for trial in self.history.open.values():
            if trial.name not in self.running:
                self.running.add(trial.name)
                return self.configurations.job_of(trial.proposed)

        while not self.failure and not self._faults.trials:
            num_completed = len(self.history.completed)
            if job := self._next_new_job():
                return job
            if len(self.history.completed) == num_completed:
                break
        self._judge()
        return None

    def receive(self, name: str, report: FitReport) -> bool:
        """Write down what a worker reports of a trial.

        Returns:
            Whether the trial continues.
        """
        trial = self.history.trials[name]
        if report.epochs:
            self._worker_losses.pop(name, None)
            self._node_losses.pop(name, None)
        if report.lost is not None:
            self.running.discard(name)
            self.lost_stages.find(StageLost(report.lost))
            return False
        is_lost = name in self.lost_stages.trials
        if trial.ended is not None and not is_lost:
            return False
        if report.fault is not None and self._is_tried_again(trial, report):
            return False

        self._faults.clear(name)
        if is_lost:
            return self._receive_lost(trial, report)

        search, table = self._search_rungs(trial.task), self.study.table(trial.task.stage)
        has_time = self.budget.left_s > 0
        self._record(*_report_events(trial, report, search, table, has_time=has_time))
        if trial.proposed.purpose == "search":
            search.update(trial)

        if trial.ended is not None:
            self._close(trial)
            try:
                self._judge()
            except StageLost as error:
                self.lost_stages.find(error)
        return trial.ended is None

    def _receive_lost(self, trial: Trial, report: FitReport) -> bool:
        """Take note of how far a lost stage is; the journal tells of it already."""
        if report.end_reason is None:
            return True

        self.running.discard(trial.name)
        del self.lost_stages.trials[trial.name]
        remove_checkpoint(self._store, trial.proposed.key)
        if report.end_reason == "error":
            key = trial.proposed.key[:12]
            cause = f"The store had lost the stage {key}, and it cannot be trained again"
            self.failure = self.failure or f"{cause}: {report.error}"
        return False

    def worker_lost(self, name: str, cause: str, *, with_node: bool = False) -> None:
        """Have a trial whose worker is gone started again, unless it has lost several in a row.

        Args:
            name: of the trial.
            cause: as Ray tells it.
            with_node: the worker's node is gone, or cannot be reached.
        """
        self.running.discard(name)
        losses = self._node_losses if with_node else self._worker_losses
        losses[name] += 1
        trial = self.history.trials[name]

        if losses[name] <= (MAX_NODE_LOSSES if with_node else MAX_WORKER_LOSSES):
            return
        error = f"Its worker was lost again and again (out of memory?): {cause}"
        if name in self.lost_stages.trials:
            self._receive_lost(trial, FitReport(end_reason="error", error=error))
        elif trial.ended is None:
            scores = {epoch.epoch: epoch.score for epoch in trial.epochs}
            self._record(_ended(trial, scores, FitReport(error=error), "error"))
            self._close(trial)

    def surroundings_failed(self, name: str, fault: str) -> None:
        """Have a trial tried again whose worker could not begin with it."""
        trial = self.history.trials[name]
        if trial.ended is None or name in self.lost_stages.trials:
            self._is_tried_again(trial, FitReport(fault=fault))

    def _is_tried_again(self, trial: Trial, report: FitReport) -> bool:
        """Return False where a trial that the surroundings let down is to blame itself."""
        assert report.fault is not None
        if self._faults.add(trial.name, trial.task, report.fault):
            self.running.discard(trial.name)
            return True
        if report.error is not None:
            return False
        self.fault = self.fault or report.fault
        return True

    def _next_new_job(self) -> Job | None:
        """Propose a fit of the task that the study waits for longest.

        Comparisons and the default come last.
        """
        ready = self.fit_plan.ready_tasks(self.history)
        for task in sorted(ready, key=self.budget.critical_path_s, reverse=True):
            if job := self._next_job_of(task):
                return job

        for task in self.fit_plan.tasks:
            fits = self.fit_plan.missing_comparisons(self.history, task)
            if job := self._first_job(task, fits, "comparison"):
                return job
        for task in self.fit_plan.tasks:
            fits = self.fit_plan.missing_defaults(self.history, task)
            if job := self._first_job(task, fits, "default"):
                return job
        return None

    def _next_job_of(self, task: Task) -> Job | None:
        """Return the next fit of a ready task; complete the task where there is none left."""
        if task not in self.history.chosen:
            if job := self._first_job(task, self._search_fits(task), "search"):
                return job
            if job := self._race(task):
                return job
            if not self._end_search(task):
                return None

        refits = self.fit_plan.refits(self.history, task)
        missing = self.fit_plan.missing(self.history, task, refits, "refit")
        if job := self._first_job(task, missing, "refit"):
            return job

        if not self.history.is_running(task):
            self._complete(task)
        return None

    def _search_fits(self, task: Task) -> Iterator[Fit]:
        """Yield fits until the search has all its trials; each one must be proposed at once."""
        while len(self.history.trials_of(task, "search")) < self.budget.num_trials(task):
            if (configuration := self._samplers.propose(task)) is None:
                return
            yield Fit(configuration, 0, self.study.seed)

    def _first_job(self, task: Task, fits: Iterable[Fit], purpose: Purpose) -> Job | None:
        """Propose fits until one has to be trained."""
        for fit in fits:
            if job := self._propose(task, purpose, fit):
                return job
        return None

    def _propose(self, task: Task, purpose: Purpose, fit: Fit) -> Job | None:
        """Write down a fit that is wanted; return None where the store has it already."""
        number = len(self.history.trials) + 1
        job = self.configurations.job(f"{number:04d}", task, purpose, fit)
        self._record(_proposed(job, purpose, fit))

        predictions = read_trained(self._store, job.key)
        if predictions is not None:
            report = report_from_store(predictions, job, self.corpus, self.cross_fit_plan)
            self.receive(job.trial, report)
            return None

        self.running.add(job.trial)
        return job

    def _race(self, task: Task) -> Job | None:
        """Return the next fit of the race for a task's finalists; decide where a round is over."""
        while True:
            fits = self.fit_plan.missing_races(self.history, task)
            if job := self._first_job(task, fits, "race"):
                return job
            if self.history.is_running(task) or not (decision := self._race_decision(task)):
                return None
            self._record(decision)

    def _race_decision(self, task: Task) -> RaceDecision | None:
        share = self.budget.share
        if not share:
            return None
        num_finalists = number_of_finalists(self.study, self.history, task, share)
        return race_decision(
            self.fit_plan,
            self.cross_fit_plan,
            self.history,
            task,
            num_finalists,
            self.corpus,
            self.upstream_predictions,
        )

    def _search_rungs(self, task: Task) -> SearchRungs:
        if task not in self._rungs:
            self._rungs[task] = SearchRungs(self.history.trials_of(task, "search"))
        return self._rungs[task]

    def _end_search(self, task: Task) -> bool:
        """Choose a task's finalists, once its trials have ended; return whether they are chosen."""
        if self.history.is_running(task):
            return False
        try:
            chosen = choose_finalists(self.study, self.history, task, self.budget.share)
        except EveryTrialFailed as error:
            self.failure = str(error)
            return False
        self._record(chosen)
        return True

    def _complete(self, task: Task) -> None:
        space = self.configurations.space(task)
        try:
            completed = rank_finalists(
                self.fit_plan, self.history, task, space, self.corpus, self.upstream_predictions
            )
        except EveryTrialFailed as error:
            self.failure = str(error)
            return
        self._record(completed)

    def _judge(self) -> None:
        """Compare the winners with what they have to beat, once all is trained."""
        if self._is_trained and self.history.judged is None:
            self._record(judge(self.fit_plan, self.history, self.corpus, self.upstream_predictions))

    def _remove_leftovers(self) -> None:
        """Remove what a killed process of this study left in the store."""
        keys = {trial.proposed.key for trial in self.history.trials.values()}
        self._store.remove_leftovers(keys)
        if self.history.ended:  # the last one may have ended, and its state be there
            remove_checkpoint(self._store, self.history.ended[-1].proposed.key)

    def _close(self, trial: Trial) -> None:
        """Do what follows from the end of a trial."""
        self.running.discard(trial.name)
        remove_checkpoint(self._store, trial.proposed.key)
        self._samplers.tell(trial)

        self.failure = self.failure or _too_many_failures(self.history)

    def _record(self, *events: Event) -> None:
        self._journal.append(*events)
        for event in events:
            self.history.apply(event)
            self._on_event(event)


def _report_events(
    trial: Trial,
    report: FitReport,
    search: SearchRungs,
    table: SearchTable,
    *,
    has_time: bool,
) -> list[Event]:
    """Return what a report means: epochs, early stopping's decisions, the end of the trial."""
    scores = {epoch.epoch: epoch.score for epoch in (*trial.epochs, *report.epochs)}
    events: list[Event] = []
    if report.epochs:
        events.append(_progressed(trial, report))

    if report.end_reason:
        events.append(_ended(trial, scores, report, report.end_reason))
    elif trial.proposed.purpose == "search":
        decisions = rung_decisions(trial, search, scores, table, report.scores.deciding)
        events += decisions
        if not all(decision.continues for decision in (*trial.rung_decisions, *decisions)):
            events.append(_ended(trial, scores, report, "asha"))
        elif not has_time:
            events.append(_ended(trial, scores, report, "budget"))
    return events


def _too_many_failures(history: History) -> str | None:
    """Return why a study cannot go on, once too large a share of its trials has failed."""
    num_failed, num_ended = len(history.failed), len(history.ended)
    if num_failed <= max(2, MAX_FAILED_SHARE * num_ended):
        return None

    first = history.failed[0].ended
    assert first is not None
    return (
        f"{num_failed} of {num_ended} trials failed, more than {MAX_FAILED_SHARE:.0%}. "
        f"The first cause: {first.error}"
    )


def _proposed(job: Job, purpose: Purpose, fit: Fit) -> TrialProposed:
    return TrialProposed(
        at=now(),
        trial=job.trial,
        task=str(job.task),
        purpose=purpose,
        configuration=fit.configuration,
        fold=fit.fold,
        seed=fit.seed,
        key=job.key,
    )


def _progressed(trial: Trial, report: FitReport) -> TrialProgressed:
    return TrialProgressed(
        at=now(),
        trial=trial.name,
        epochs=tuple((epoch.epoch, epoch.loss, epoch.score) for epoch in report.epochs),
        cpu_s=report.cpu_s,
        wall_s=report.wall_s,
    )


def _ended(
    trial: Trial, scores: Mapping[int, float], report: FitReport, reason: Reason
) -> TrialEnded:
    """Return the end of a trial.

    Args:
        trial: which ended.
        scores: epoch -> devel score, of all that it has passed.
        report: of its worker; what it leaves open is taken from the epochs.
        reason: why it ended.
    """
    best_epoch = max(scores, key=lambda epoch: scores[epoch], default=0)
    has_result = report.best_epoch is not None
    return TrialEnded(
        at=now(),
        trial=trial.name,
        reason=reason,
        devel=report.devel if has_result else scores.get(best_epoch),
        best_epoch=report.best_epoch if report.best_epoch is not None else best_epoch,
        epochs=max(scores, default=0),
        cpu_s=report.cpu_s,
        wall_s=report.wall_s,
        held_out=report.scores.held_out,
        deciding=report.scores.deciding,
        error=report.error,
    )
