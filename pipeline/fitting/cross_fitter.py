"""Cross-fitting of tasks: each is fitted on every fold, and predicts what its models never saw."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pipeline.corpus import Corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.ensemble import Ensemble, read_ensembles
from pipeline.stages.task import SupervisedProblem, Task
from pipeline.stages.trained_stage import Columns, TrainedStage

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class FitRequest:
    """A task, and the ensembles that it reads.

    Attributes:
        task: what is fitted.
        auto_encoders: modality -> those whose error is its difficulty; None where none is read.
        regressors: modality -> those whose predictions are fused; None but for fusion.
    """

    task: Task
    auto_encoders: Mapping[str, Ensemble] | None = None
    regressors: Mapping[str, Ensemble] | None = None


class CrossFitter:
    """Fits tasks on every fold of a plan, all at once.

    Args:
        corpus: holds the sessions.
        spec: settings, protocol and seed.
        pool: solves the problems, through a store.
    """

    def __init__(self, corpus: Corpus, spec: Spec, pool: WorkerPool) -> None:
        self.corpus, self.spec = corpus, spec
        self._pool = pool
        self._plan = CrossFitPlan.from_spec(corpus, spec)

    def fit(self, requests: Mapping[Name, FitRequest]) -> dict[Name, Ensemble]:
        """Fit tasks, and predict with their models.

        Returns:
            An ensemble for each request, under its name.

        Raises:
            AffectuneError: a fit failed; what was solved until then is in the store.
        """
        problems = {name: self._pose(request) for name, request in requests.items()}
        stages = self._pool.fit_named(problems)

        ensembles = {}
        for name, fold_stages in stages.items():
            ensembles[name] = Ensemble(
                keys=tuple((stage.key,) for stage in fold_stages),
                models=self._plan.inference_models(_one_seed(fold_stages)),
                outputs=self._predict_held_out(problems[name][0], fold_stages),
            )
        return ensembles

    def _pose(self, request: FitRequest) -> list[SupervisedProblem]:
        """Pose a task's problem on every fold."""
        keys, outputs = read_ensembles(
            self.spec.difficulty_scale,
            auto_encoders=request.auto_encoders,
            regressors=request.regressors,
        )

        problems = []
        for fold in self._plan.folds:
            key = request.task.key(self.corpus, self.spec, fold, keys, self._pool.device)
            problems.append(request.task.problem(self.corpus, self.spec, fold, key, outputs))
        return problems

    def _predict_held_out(
        self, problem: SupervisedProblem, fold_stages: list[TrainedStage]
    ) -> Columns:
        """Predict every training session with the models that held it out, and devel."""
        predict = partial(
            problem.task.predict, upstream=problem.upstream_outputs, device=self._pool.device
        )
        return self._plan.predict(self.corpus, _one_seed(fold_stages), predict)


def _one_seed(fold_stages: list[TrainedStage]) -> list[tuple[TrainedStage]]:
    """Return for each fold its models: here one, because a spec has one seed."""
    return [(stage,) for stage in fold_stages]
