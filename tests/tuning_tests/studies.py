"""Small studies, and a worker without Ray, for tests of what a planner decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.corpus import Corpus
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import REPORT_S, FitContext, FitReport, TrialFit
from tuning.journal.events import CandidateKind, Judgement, StudyOpened
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import Trial, history_of, read_history
from tuning.planning.planner import StudyPlanner
from tuning.spec.study_spec import StudySpec, for_corpus

NETWORK = {"num_layers": 1, "hidden_size": 4, "dropout": 0.0}
FIT = {"max_epochs": 4, "patience": 4, "batch_size": 4}
EARLY_STOPPING = {"grace_epochs": 1, "reduction_factor": 2}
LEARNING_RATES = {"loguniform": [0.001, 0.1]}
SEARCH: dict[str, dict[str, Any]] = {
    "auto_encoder": {
        "sampler": "grid",
        "finalists": 2,
        "seeds": 1,
        **EARLY_STOPPING,
        "space": {"network.bottleneck_size": {"choice": [1, 2]}},
    },
    "unimodal": {
        "sampler": "tpe",
        "trials": 4,
        "finalists": 2,
        "seeds": 2,
        **EARLY_STOPPING,
        "space": {
            "fit.learning_rate": LEARNING_RATES,
            "difficulty": {"choice": [True, False]},
            "auto_encoder": {"top": 2},
        },
    },
    "fusion": {
        "sampler": "random",
        "trials": 4,
        "finalists": 2,
        "seeds": 1,
        **EARLY_STOPPING,
        "space": {
            "modalities": {"subsets": 1},
            "fit.learning_rate": LEARNING_RATES,
            "difficulty": {"choice": [True, False]},
            "unimodal": {"top": 2},
        },
    },
}


class Killed(Exception):
    """The process ends, and can write nothing any more."""


class Lost(Exception):
    """The worker ends, and the driver notices it."""


def tiny_study(**tables: Any) -> StudySpec:
    """Return a study of two modalities and two targets that searches all three stages.

    It takes a second or two.

    Args:
        tables: stage -> settings of its search that replace those of this function.
    """
    search = {stage: {**table, **tables.get(stage, {})} for stage, table in SEARCH.items()}
    settings = {"network": NETWORK, "fit": FIT}
    stages = dict.fromkeys(SEARCH, settings)

    spec = StudySpec.model_validate({"name": "tiny", "folds": 3, **stages, "search": search})
    return for_corpus(spec, ("voice", "face"), ("arousal", "valence"))


def opened(study: StudySpec) -> StudyOpened:
    """Return the first event of a study."""
    return StudyOpened(
        at=time.time(),
        study=study.model_dump(mode="json"),
        digest="d",
        corpus={"digest": "0"},
        folds=tuple(f"fold {number}" for number in range(1, study.folds + 1)),
        versions={},
        git_commit=None,
    )


def _unchanged(job: Job, report: FitReport) -> FitReport:
    return report


class Worker:
    """Runs a study's fits one after the other in this process.

    Args:
        folder: holds the journal; it is made if it is not there.
        study: what is run.
        corpus: a tiny one by default.
        store: a folder below `folder` by default.
        before_report: called with every report before the planner gets it; returns what the
            planner is to get, or raises `Killed` or `Lost`.
        budget_s: seconds that the study may take.
        report_s: seconds after which a fit reports.

    Attributes:
        jobs: those that it got, in order.
    """

    def __init__(
        self,
        folder: Path,
        study: StudySpec,
        *,
        corpus: Corpus | None = None,
        store: str | None = None,
        before_report: Callable[[Job, FitReport], FitReport] = _unchanged,
        budget_s: float = float("inf"),
        report_s: float = REPORT_S,
    ) -> None:
        self.folder, self.study = folder, study
        self.corpus = corpus or tiny_corpus()
        self.store = StageStore(store or folder / "store")
        self.before_report, self.budget_s, self.report_s = before_report, budget_s, report_s
        self.jobs: list[Job] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> StudyPlanner:
        """Run until the study is done, or cannot go on, or the process is killed."""
        with Journal(self.folder / JOURNAL) as journal:
            history = history_of(journal.events)
            if history.opened is None:
                event = opened(self.study)
                journal.append(event)
                history.apply(event)

            planner = StudyPlanner(
                self.study, self.corpus, self.store, journal, history, budget_s=self.budget_s
            )
            planner.lost_stages.find()
            context = FitContext.create(self.corpus, self.study.base, self.store)

            while job := planner.next_job():
                self.jobs.append(job)
                same_job = Job.from_config(job.to_config())
                fit = TrialFit(same_job, context, report_s=self.report_s)
                try:
                    self._train(job, fit, planner)
                except Lost:
                    planner.worker_lost(job.trial, "killed")
            return planner

    def _train(self, job: Job, fit: TrialFit, planner: StudyPlanner) -> None:
        continues = True
        while continues:
            report = FitReport.from_result(fit.advance().to_result())
            continues = planner.receive(job.trial, self.before_report(job, report))


def as_if_chosen(planner: StudyPlanner, kind: CandidateKind) -> None:
    """Have a planner's judgement choose a kind of candidate for every target."""
    judged = planner.history.judged
    assert judged is not None
    targets = {}
    for target, judgement in judged.targets.items():
        [candidate] = [each for each in judgement.candidates if each.kind == kind]
        chosen = candidate.model_copy(update={"chosen_minus_it": None})
        targets[target] = Judgement(candidates=(chosen,))
    planner.history.judged = judged.model_copy(update={"targets": targets})


def events_by_task(folder: Path) -> dict[str, list[object]]:
    """Return what happened in each task, in order, without times and without the names of trials.

    Which task comes first depends on what fits cost; what happens within a task does not.
    """
    history = read_history(folder)
    events: dict[str, list[object]] = {}

    for trial in history.trials.values():
        events.setdefault(trial.proposed.task, []).append(_events_of(trial))
    for task, chosen in history.chosen.items():
        events[str(task)].append(chosen.model_dump(exclude={"at"}))
    for task, decisions in history.races.items():
        events[str(task)] += [decision.model_dump(exclude={"at"}) for decision in decisions]
    for task, finalists in history.completed.items():
        events[str(task)].append([finalist.model_dump() for finalist in finalists])
    if history.judged is not None:
        events["judged"] = [history.judged.model_dump(exclude={"at"})]
    return events


def _events_of(trial: Trial) -> tuple[object, ...]:
    """Return what happened to a trial that has ended."""
    ended = trial.ended
    assert ended is not None
    return (
        trial.proposed.model_dump(exclude={"at", "trial"}),
        [(epoch.epoch, epoch.loss, epoch.score) for epoch in trial.epochs],
        [decision.model_dump(exclude={"at", "trial"}) for decision in trial.rung_decisions],
        ended.model_dump(include={"devel", "best_epoch", "epochs", "held_out", "error"}),
        # A fit whose last report was lost has the reason "store".
        "complete" if trial.is_complete else ended.reason,
    )
