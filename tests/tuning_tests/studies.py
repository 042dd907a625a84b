"""Small studies, and a worker without Ray, for tests of what a study decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.corpus import Corpus
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tuning.fitting.job import Job
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import StudyOpened
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import history, read_history
from tuning.planning.planner import StudyPlanner
from tuning.ray_backend.trainable import ResumableFit
from tuning.spec.study_spec import StudySpec, for_corpus

NETWORK = {"num_layers": 1, "hidden_size": 4, "dropout": 0.0}
FIT = {"max_epochs": 4, "patience": 4, "batch_size": 4}


class Killed(Exception):
    """The process ends here, without a word."""


class Lost(Exception):
    """The worker ends here, and the driver learns of it."""


def tiny_study(**tables: Any) -> StudySpec:
    """Two modalities, two targets, all three stages searched; a second or two of training in all."""
    stage = {"network": NETWORK, "fit": FIT}
    early = {"grace_epochs": 1, "reduction_factor": 2}
    rates = {"loguniform": [0.001, 0.1]}
    search = {
        "auto_encoder": {
            "sampler": "grid",
            "finalists": 2,
            "seeds": 1,
            **early,
            "space": {"network.bottleneck_size": {"choice": [1, 2]}},
        },
        "unimodal": {
            "sampler": "tpe",
            "trials": 4,
            "finalists": 2,
            "seeds": 2,
            **early,
            "space": {
                "fit.learning_rate": rates,
                "difficulty": {"choice": [True, False]},
                "auto_encoder": {"top": 2},
            },
        },
        "fusion": {
            "sampler": "random",
            "trials": 4,
            "finalists": 2,
            "seeds": 1,
            **early,
            "space": {
                "modalities": {"subsets": 1},
                "fit.learning_rate": rates,
                "difficulty": {"choice": [True, False]},
                "unimodal": {"top": 2},
            },
        },
    }
    for name, table in tables.items():
        search[name] = {**search[name], **table}
    spec = StudySpec.model_validate(
        {
            "name": "tiny",
            "folds": 3,
            "auto_encoder": stage,
            "unimodal": stage,
            "fusion": stage,
            "search": search,
        }
    )
    return for_corpus(spec, ("voice", "face"), ("arousal", "valence"))


def opened(study: StudySpec) -> StudyOpened:
    """The first line of its journal."""
    return StudyOpened(
        at=time.time(),
        study=study.model_dump(mode="json"),
        digest="d",
        corpus={"digest": "0"},
        folds=("fold 1",),
        versions={},
        git_commit=None,
    )


class Worker:
    """Runs a study's fits one after the other in this process.

    Args:
        before_report: called with every report before the agenda hears it; raises `Killed` or `Lost` to end there.
    """

    def __init__(
        self,
        folder: Path,
        study: StudySpec,
        *,
        corpus: Corpus | None = None,
        store: str | None = None,
        before_report: Callable[[Job, dict[str, Any]], None] = lambda job, report: None,
        budget_s: float = float("inf"),
    ) -> None:
        self.folder, self.study = folder, study
        self.corpus = corpus or tiny_corpus()
        self.store = StageStore(store or folder / "store")
        self.plan = CrossFitPlan.of(self.corpus, study.base)
        self.before_report, self.budget_s = before_report, budget_s
        self.jobs: list[Job] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> StudyPlanner:
        """Until the study is over, or failed, or the process is killed."""
        with Journal(self.folder / JOURNAL) as journal:
            found = history(journal.events)
            if found.opened is None:
                journal.append(first := opened(self.study))
                found.apply(first)
            planner = StudyPlanner(
                self.study, self.corpus, self.store, journal, found, budget_s=self.budget_s
            )
            upstream = UpstreamPredictions(self.store, self.corpus, self.plan, self.study.base)
            while job := planner.next():
                self.jobs.append(job)
                fit = ResumableFit(
                    Job.from_config(job.to_config()), self.corpus, self.plan, self.store, upstream
                )
                try:
                    self._train(job, fit, planner)
                except Lost:
                    planner.lost(job.trial, "killed")
            return planner

    def _train(self, job: Job, fit: ResumableFit, planner: StudyPlanner) -> None:
        goes_on = True
        while goes_on:
            report = fit.advance()
            self.before_report(job, report)
            goes_on = planner.heard(job.trial, report)


def told(folder: Path) -> dict[str, list[object]]:
    """What happened in each task, in order, without times and without the names of trials.

    Which task comes first depends on what fits cost; what happens within a task does not.
    """
    found = read_history(folder)
    story: dict[str, list[object]] = {}
    for trial in found.trials.values():
        ended = trial.ended
        assert ended is not None
        story.setdefault(trial.proposed.task, []).append(
            (
                trial.proposed.model_dump(exclude={"at", "trial"}),
                [(epoch.epoch, epoch.loss, epoch.score) for epoch in trial.epochs],
                [judged.model_dump(exclude={"at", "trial"}) for judged in trial.judged],
                # A fit whose last report was lost is found in the store.
                ended.model_dump(include={"score", "best_epoch", "epochs", "held_out", "error"}),
                "complete" if trial.complete else ended.reason,
            )
        )
    for task, chosen in found.chosen.items():
        story[str(task)].append(chosen.model_dump(exclude={"at"}))
    for task, settled in found.settled.items():
        story[str(task)].append([finalist.model_dump() for finalist in settled])
    return story
