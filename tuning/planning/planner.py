"""What a study does next: which fit is ready, which trial goes on, when a task is settled. Knows no Ray.

Whatever is decided goes through the journal, and whatever is remembered comes from it: an agenda made from the journal
of a study that was killed decides as the one that was killed would have.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor, inf
from typing import Any

from pipeline.corpus import Corpus
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import HeldOutPredictions, held_out_name
from tuning.fitting.job import Job, Keys, checkpoint_name, stage_task
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import (
    Event,
    Finalist,
    FinalistsChosen,
    Purpose,
    Reason,
    RungDecision,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.journal.file import Journal
from tuning.journal.history import History, Trial
from tuning.planning.asha import goes_on, rungs
from tuning.planning.configurations import Configurations, Fit, Values, fit_name
from tuning.planning.sampler import Sampler, seed_of
from tuning.planning.scoring import FinalistScore, fit_scores, verdict
from tuning.planning.time_budget import TimeBudget
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task, feeding, tasks

MOST_FAILURES = 0.2
"""A study ends when more than this share of its trials has failed, and more than two."""
WORKER_LOSSES = 3
"""A trial whose worker is lost goes on in another one, so many times."""


class StudyPlanner:
    """Decides, and writes down what was decided.

    Args:
        study: its modalities and targets known.
        corpus: of the study.
        store: trained stages and what they say.
        journal: open for writing.
        history: what the journal says so far; kept up to date.
        device: "cpu" or "cuda".
        budget_s: seconds of running, over all resumptions.
        on_event: hears of every event after it was written.
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
        self.plan = CrossFitPlan.of(corpus, study.base)
        self.tasks = tasks(study.modalities or (), study.targets or ())
        self.configurations = Configurations(study, self.plan, history, device)
        self.running: set[str] = set()
        self.failure: str | None = None
        self.words = UpstreamPredictions(store, corpus, self.plan, study.base).words
        self._budget = TimeBudget(study, history, self.tasks, len(self.plan.folds), budget_s)
        self._store, self._journal = store, journal
        self._on_event = on_event or (lambda event: None)
        self._samplers: dict[Task, Sampler] = {}
        self._used_up: set[Task] = set()
        self._losses: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Every task is settled, and the winners are compared with themselves without difficulty."""
        return (
            len(self.history.settled) == len(self.tasks)
            and all(trial.ended is not None for trial in self.history.trials.values())
            and not any(
                self._missing(task, fits, "comparison") for task, fits in self._comparisons()
            )
        )

    def next(self) -> Job | None:
        """A fit to start now; None where all that is ready is running, or there is none left."""
        for trial in self.history.trials.values():
            if trial.ended is None and trial.name not in self.running:
                return self._start(trial.proposed)
        while not self.failure:
            settled = len(self.history.settled)
            for task in sorted(self._ready(), key=self._budget.work_behind, reverse=True):
                if job := self._next_of(task):
                    return job
            for task, fits in self._comparisons():
                if job := self._next_fit(task, fits, "comparison"):
                    return job
            if len(self.history.settled) == settled:
                break
        return None

    def heard(self, name: str, report: Mapping[str, Any]) -> bool:
        """Write down what a worker reports of a trial; whether the trial goes on.

        Args:
            name: of the trial.
            report: see `ResumableFit.advance`.
        """
        trial = self.history.trials[name]
        if trial.ended is not None:
            return False
        epochs = tuple(tuple(epoch) for epoch in report["epochs"])
        found: list[Event] = []
        if epochs:
            found.append(
                TrialProgressed(
                    at=time.time(),
                    trial=name,
                    epochs=epochs,
                    cpu_s=report["cpu_s"],
                    wall_s=report["wall_s"],
                )
            )
        passed = {epoch.epoch: epoch.score for epoch in trial.epochs} | {
            epoch: score for epoch, _, score in epochs
        }
        if report["ended"]:
            found.append(_ended(trial, passed, report, report["ended"]))
        elif trial.proposed.purpose == "search":
            found += self._judge(trial, passed, report)
        self._record(*found)
        if trial.ended is not None:
            self._close(trial)
        return trial.ended is None

    def lost(self, name: str, cause: str) -> None:
        """A trial's worker is gone: the trial goes on in another one, unless it has lost several."""
        self.running.discard(name)
        self._losses[name] += 1
        trial = self.history.trials[name]
        if trial.ended is None and self._losses[name] > WORKER_LOSSES:
            error = f"Its worker was lost again and again (out of memory?): {cause}"
            passed = {epoch.epoch: epoch.score for epoch in trial.epochs}
            self._record(
                _ended(trial, passed, {"cpu_s": 0.0, "wall_s": 0.0, "error": error}, "error")
            )
            self._close(trial)

    def set_workers(self, workers: int) -> None:
        """Say how many fits run at a time: what the time budget allows depends on it."""
        self._budget.workers = workers

    def comparison_keys(self, task: Task) -> Keys | None:
        """The keys of the winning fusion trained without difficulty; None where it failed, or reads none itself."""
        trials = self._fitted(task, "comparison")
        for other, fits in self._comparisons():
            if other == task and all(
                (trial := trials.get(fit_name(*fit))) and trial.complete for fit in fits
            ):
                return _keys(fits, trials)
        return None

    # What is ready

    def _ready(self) -> list[Task]:
        settled = self.history.settled
        return [
            task
            for task in self.tasks
            if task not in settled
            and all(above in settled for above in feeding(task, self.study.modalities or ()))
        ]

    def _next_of(self, task: Task) -> Job | None:
        """The next fit of a ready task; settles it where there is none left."""
        if task not in self.history.chosen:
            if job := self._next_of_search(task):
                return job
            searched = self.history.searched(task)
            if any(trial.ended is None for trial in searched) or not self._choose(task, searched):
                return None
        chosen = self.history.chosen[task]
        fits = [
            fit
            for values in chosen.finalists
            for fit in self.configurations.fits(values, chosen.seeds)
        ]
        if job := self._next_fit(task, fits, "refit"):
            return job
        if all(trial.ended is not None for trial in self.history.of(task)):
            self._settle(task, chosen)
        return None

    def _next_of_search(self, task: Task) -> Job | None:
        sampler = self._sampler(task)
        while task not in self._used_up and len(self.history.searched(task)) < self._budget.trials(
            task
        ):
            values = self._start_of(task) or sampler.propose()
            if values is None:
                self._used_up.add(task)
                break
            if job := self._propose(task, "search", (values, 0, self.study.seed)):
                return job
        return None

    def _start_of(self, task: Task) -> Values | None:
        """The study's own settings, with which a search begins; a grid has them anyway, or leaves them out."""
        if self.history.searched(task) or self.study.table(task.stage).sampler == "grid":
            return None
        values = self.configurations.space(task).start()
        self._sampler(task).restore(values)
        return values

    def _next_fit(self, task: Task, fits: Sequence[Fit], purpose: Purpose) -> Job | None:
        for fit in self._missing(task, fits, purpose):
            if job := self._propose(task, purpose, fit):
                return job
        return None

    def _missing(self, task: Task, fits: Sequence[Fit], purpose: Purpose) -> list[Fit]:
        """Those of these fits that were not asked for yet; of a finalist that failed once, none."""
        trials = self._fitted(task, purpose)
        failed = _failures(trials)
        return [fit for fit in fits if fit_name(*fit) not in trials and fit[0] not in failed]

    def _fitted(self, task: Task, purpose: Purpose) -> dict[str, Trial]:
        """Fits by what they are; a search trial that was trained to the end is one of its finalist's."""
        return {
            fit_name(trial.proposed.values, trial.proposed.fold, trial.proposed.seed): trial
            for trial in self.history.of(task)
            if trial.proposed.purpose == purpose
            or (purpose == "refit" and trial.proposed.purpose == "search" and trial.complete)
        }

    def _comparisons(self) -> list[tuple[Task, list[Fit]]]:
        """The winning fusions that read difficulty, each to be trained without."""
        found = []
        for task, finalists in self.history.settled.items():
            if task.stage == "fusion" and self.configurations.reads_difficulty(
                task, finalists[0].values
            ):
                values: Values = {**finalists[0].values, "difficulty": False}
                found.append(
                    (task, list(self.configurations.fits(values, self.history.chosen[task].seeds)))
                )
        return found

    # Proposals

    def _propose(self, task: Task, purpose: Purpose, fit: Fit) -> Job | None:
        """Write down a fit that is wanted; None where the store has it already: then it is done."""
        values, fold, seed = fit
        name = f"{len(self.history.trials) + 1:04d}"
        proposed = TrialProposed(
            at=time.time(),
            trial=name,
            task=str(task),
            purpose=purpose,
            values=values,
            fold=fold,
            seed=seed,
            key="",
        )
        job = self.configurations.job(proposed)
        key = stage_task(job, self.corpus, self.plan).key
        proposed = proposed.model_copy(update={"key": key})
        self._record(proposed)
        said = self._store.read(held_out_name(key), HeldOutPredictions.from_files)
        if said is None:
            return self._start(proposed)
        scores = fit_scores(task, self.corpus, self.plan.folds[fold], said, self.study.protocol)
        self.heard(name, said.report() | scores)
        return None

    def _start(self, proposed: TrialProposed) -> Job:
        self.running.add(proposed.trial)
        return self.configurations.job(proposed)

    def _sampler(self, task: Task) -> Sampler:
        """A task's sampler, which after a resumption hears first what happened before."""
        if task not in self._samplers:
            kind, seed = self.study.table(task.stage).sampler, seed_of(self.study.seed, str(task))
            sampler = self._samplers[task] = Sampler(self.configurations.space(task), kind, seed)
            searched = self.history.searched(task)
            for trial in searched:
                sampler.restore(trial.proposed.values)
            for trial in sorted(searched, key=lambda trial: trial.ended.at if trial.ended else inf):
                self._tell(trial)
        return self._samplers[task]

    # Decisions

    def _judge(
        self, trial: Trial, passed: Mapping[int, float], report: Mapping[str, Any]
    ) -> list[Event]:
        """What early stopping and the time say of a trial that has passed these epochs."""
        table = self.study.table(trial.task.stage)
        judged = {found.rung: found.goes_on for found in trial.judged}
        others = [other for other in self.history.searched(trial.task) if other is not trial]
        found: list[Event] = []
        for rung in rungs(table.grace_epochs, table.reduction_factor, max(passed, default=0) + 1):
            if rung not in judged:
                score = max(score for epoch, score in passed.items() if epoch <= rung)
                judged[rung] = goes_on(others, rung, score, table.reduction_factor)
                found.append(
                    RungDecision(
                        at=time.time(),
                        trial=trial.name,
                        rung=rung,
                        score=score,
                        goes_on=judged[rung],
                    )
                )
        if not all(judged.values()):
            found.append(_ended(trial, passed, report, "asha"))
        elif self._budget.left_s <= 0:
            found.append(_ended(trial, passed, report, "budget"))
        return found

    def _close(self, trial: Trial) -> None:
        """What follows from the end of a trial."""
        self.running.discard(trial.name)
        self._store.remove(checkpoint_name(trial.proposed.key))
        self._tell(trial)
        ended = [other.ended for other in self.history.trials.values() if other.ended is not None]
        failed = [end for end in ended if end.reason == "error"]
        if len(failed) > max(2, MOST_FAILURES * len(ended)):
            self.failure = (
                f"{len(failed)} of {len(ended)} trials failed, more than {MOST_FAILURES:.0%}. The first cause: "
                f"{failed[0].error}"
            )

    def _tell(self, trial: Trial) -> None:
        """Let the sampler learn from a trial of the search that ended."""
        if (
            trial.task not in self._samplers
            or trial.ended is None
            or trial.proposed.purpose != "search"
        ):
            return
        scores = [(epoch.epoch, epoch.score) for epoch in trial.epochs]
        if (last := _deciding(trial)) is not None:
            scores.append((trial.ended.epochs + 1, last))  # what comes last counts
        failed = trial.ended.reason == "error"
        self._samplers[trial.task].tell(
            trial.proposed.values, [] if failed else scores, complete=trial.complete
        )

    def _choose(self, task: Task, searched: Sequence[Trial]) -> bool:
        """End a task's search: its best trials become finalists; trained ones before stopped ones.

        Where there is room for two, the study's own settings are one of them: what the search found has to beat them on
        all folds.
        """
        found = [
            t for t in searched if t.ended and t.ended.reason != "error" and t.best is not None
        ]
        if not found:
            causes = [trial.ended.error for trial in searched if trial.ended]
            self.failure = f"Every trial of {task} failed. The first cause: {causes[0] if causes else 'none was run'}"
            return False
        ranked = sorted(
            found, key=lambda trial: (trial.complete, _deciding(trial) or 0.0), reverse=True
        )
        table, share = self.study.table(task.stage), self._budget.share
        finalists = max(1, floor(min(table.finalists, len(ranked)) * share))
        own = searched[0]  # see `_start_of`
        if own in ranked[finalists:] and finalists > 1 and table.sampler != "grid":
            ranked[finalists - 1] = own
        values = tuple(dict(trial.proposed.values) for trial in ranked[:finalists])
        seeds = max(1, ceil(table.seeds * share - 0.5))
        self._record(FinalistsChosen(at=time.time(), task=str(task), finalists=values, seeds=seeds))
        return True

    def _settle(self, task: Task, chosen: FinalistsChosen) -> None:
        """Rank a task's finalists by their mean over seeds."""
        trials = self._fitted(task, "refit")
        failed = _failures(trials)
        found = [
            self._finalist(task, values, trials)
            for values in chosen.finalists
            if values not in failed
        ]
        if not found:
            cause = next(
                t.ended.error for t in trials.values() if t.ended and t.ended.reason == "error"
            )
            self.failure = f"Every finalist of {task} failed. The first cause: {cause}"
            return
        ranked = sorted(found, key=lambda finalist: finalist.score, reverse=True)
        self._record(TaskCompleted(at=time.time(), task=str(task), finalists=tuple(ranked)))

    def _finalist(self, task: Task, values: Values, trials: Mapping[str, Trial]) -> Finalist:
        seeds = self.history.chosen[task].seeds
        keys = _keys(self.configurations.fits(values, seeds), trials)
        found = [
            self._verdict(task, tuple((fold[seed],) for fold in keys)) for seed in range(seeds)
        ]
        return Finalist(
            values=values,
            keys=keys,
            scores=tuple(each.score for each in found),
            devel=tuple(each.devel for each in found),
            out_of_fold=tuple(each.out_of_fold for each in found),
            reads=self.configurations.space(task).ranks(values),
        )

    def _verdict(self, task: Task, keys: Keys) -> FinalistScore:
        return verdict(task, self.corpus, self.words(keys), self.study.protocol)

    def _record(self, *events: Event) -> None:
        self._journal.append(*events)
        for event in events:
            self.history.apply(event)
            self._on_event(event)


def _ended(
    trial: Trial, passed: Mapping[int, float], report: Mapping[str, Any], reason: Reason
) -> TrialEnded:
    best = max(passed, key=lambda epoch: passed[epoch], default=0)
    return TrialEnded(
        at=time.time(),
        trial=trial.name,
        reason=reason,
        score=report.get("score", passed.get(best)),
        best_epoch=report.get("best_epoch", best),
        epochs=max(passed, default=0),
        cpu_s=report["cpu_s"],
        wall_s=report["wall_s"],
        held_out=report.get("held_out"),
        deciding=report.get("deciding"),
        error=report.get("error"),
    )


def _deciding(trial: Trial) -> float | None:
    """What the search goes by: people that the fit never saw, or, of a fit that was stopped, devel."""
    if trial.complete and trial.ended is not None and trial.ended.deciding is not None:
        return trial.ended.deciding
    return trial.best


def _failures(trials: Mapping[str, Trial]) -> list[Values]:
    """The configurations of which a fit failed."""
    return [
        t.proposed.values
        for t in trials.values()
        if t.ended is not None and t.ended.reason == "error"
    ]


def _keys(fits: Iterable[Fit], trials: Mapping[str, Trial]) -> Keys:
    """For each fold the keys of a configuration's stages, one per seed."""
    by_fold: dict[int, list[str]] = {}
    for values, fold, seed in fits:
        by_fold.setdefault(fold, []).append(trials[fit_name(values, fold, seed)].proposed.key)
    return tuple(tuple(keys) for keys in by_fold.values())
