"""Whole studies in this process: opened, searched without Ray, and written, within a second or two.

What stands for Ray is a loop over the planner's fits; all else is what `affectune study run` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus import Corpus
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import EARLY_STOPPING, LEARNING_RATES, NETWORK, Killed
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitContext, FitReport, TrialFit
from tuning.planning.planner import StudyPlanner
from tuning.ray_backend.store_marker import StoreMarker
from tuning.spec.study_spec import StudySpec, for_corpus
from tuning.study.study import StudyOptions, open_study, run_study

FIT = {"max_epochs": 2, "patience": 2, "batch_size": 4}
FEW = {"sampler": "random", "finalists": 1, "seeds": 1, "race_folds": 1, **EARLY_STOPPING}
CORPUS_PATH = Path("corpus")


def small_study() -> StudySpec:
    """Return a study of one target and two modalities, of some thirty fits of two epochs."""
    stage = {"network": NETWORK, "fit": FIT}
    rates = {"fit.learning_rate": LEARNING_RATES}
    with_difficulty = {**rates, "difficulty": {"choice": [True, False]}}
    search = {
        "auto_encoder": {**FEW, "trials": 2, "space": rates},
        "unimodal": {**FEW, "trials": 3, "space": with_difficulty},
        "fusion": {**FEW, "trials": 2, "space": rates},
    }
    settings = {"name": "small", "folds": 2, **dict.fromkeys(search, stage), "search": search}
    spec = StudySpec.model_validate({**settings, "targets": ["arousal"]})
    return for_corpus(spec, ("voice", "face"), ("arousal",))


def small_corpus() -> Corpus:
    """Return the corpus of the study."""
    return replace(tiny_corpus(train_subjects=4), targets=("arousal",))


class InProcess:
    """Stands for Ray in `run_study`.

    Args:
        monkeypatch: puts it there.

    Attributes:
        num_reports: so many reports a study may still give before its process is killed.
        trained: names of the trials that were handed out.
        before_report: called with every report before the planner gets it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_reports: int | None = None
        self.trained: list[str] = []
        self.before_report: Callable[[FitReport], FitReport] = lambda report: report
        monkeypatch.setattr("tuning.study.study.cluster", self._cluster)
        monkeypatch.setattr("tuning.study.study.search", self._search)

    def run(
        self, out: Path, store: Path | str, *, resume: bool = True, num_reports: int | None = None
    ) -> dict[str, Any] | None:
        """Run a study as the command does.

        Returns:
            summary.json; None where it was killed after so many reports.
        """
        self.num_reports, self.trained = num_reports, []
        options = StudyOptions(out, str(store), workers=1, command="affectune study run")
        study = open_study(small_study(), small_corpus(), CORPUS_PATH, options, resume=resume)
        with study, contextlib.suppress(Killed):
            run_study(study)
        finished = study.history.finished
        return None if finished is None else finished.summary

    @contextlib.contextmanager
    def _cluster(self, *_: object, **options: object) -> Iterator[InProcess]:
        yield self

    def raise_if_too_small(self, spec: StudySpec) -> None:
        """Do nothing: one process is enough."""

    def fits_at_a_time(self, spec: StudySpec) -> int:
        """Return one."""
        return 1

    def _search(
        self,
        planner: StudyPlanner,
        corpus: Corpus,
        store: str,
        ray: InProcess,
        on_tick: Callable[[], None],
        marker: StoreMarker | None = None,
    ) -> bool:
        context = FitContext.create(corpus, planner.study.base, StageStore(store))
        while job := planner.next_job():
            self.trained.append(job.trial)
            fit = TrialFit(Job.from_config(job.to_config()), context, report_s=0.0)
            continues = True
            while continues:
                report = FitReport.from_result(fit.advance().to_result())
                self._count()
                continues = planner.receive(job.trial, self.before_report(report))
        return False

    def _count(self) -> None:
        if self.num_reports is not None:
            if not self.num_reports:
                raise Killed
            self.num_reports -= 1
