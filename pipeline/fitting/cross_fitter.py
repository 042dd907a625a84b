"""Cross-fitting of tasks: each is fitted on every fold, and predicts what its models never saw."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

from pipeline.corpus import Corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.spec import CorruptionKind, Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.ensemble import Ensemble, upstream_keys
from pipeline.stages.task import SupervisedProblem, Task, UpstreamOutputs
from pipeline.stages.trained_stage import Columns, TrainedStage
from pipeline.stages.upstream import StageOutputs, corrupt_corpus, join_upstream

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class FitRequest:
    """A task, and the ensembles that it reads.

    Attributes:
        task: what is fitted.
        auto_encoders: modality -> those whose error is its difficulty; None where none is read.
        regressors: modality -> those whose predictions are fused; None but for fusion.
        other_regressors: other target -> modality -> those whose predictions a fusion reads beside
            these; None but for a fusion that reads all.
    """

    task: Task
    auto_encoders: Mapping[str, Ensemble] | None = None
    regressors: Mapping[str, Ensemble] | None = None
    other_regressors: Mapping[str, Mapping[str, Ensemble]] | None = None


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
            ensembles[name] = self._ensemble(requests[name], problems[name][0], fold_stages)
        return ensembles

    def _pose(self, request: FitRequest) -> list[SupervisedProblem]:
        """Pose a task's problem on every fold."""
        folds = self._plan.folds
        upstream = upstream_keys(
            auto_encoders=request.auto_encoders,
            regressors=request.regressors,
            other_regressors=request.other_regressors,
        )
        keys = [
            request.task.key(self.corpus, self.spec, fold, upstream, self._pool.device)
            for fold in folds
        ]

        # The outputs for corrupted copies take a while: a fusion in the store does not need them.
        needs_copies = any(self._pool.store.get(key) is None for key in keys)
        outputs = self._upstream_outputs(request, self._copy_kinds if needs_copies else ())
        return [
            request.task.problem(self.corpus, self.spec, fold, key, outputs)
            for fold, key in zip(folds, keys, strict=True)
        ]

    @property
    def _copy_kinds(self) -> tuple[CorruptionKind, ...]:
        return self.spec.fusion.corruption.kind_names

    def _upstream_outputs(
        self, request: FitRequest, copy_kinds: tuple[CorruptionKind, ...]
    ) -> UpstreamOutputs:
        def outputs(ensembles: Mapping[str, Ensemble] | None) -> dict[str, StageOutputs]:
            return {
                modality: StageOutputs(
                    ensemble.outputs,
                    {kind: ensemble.copies(kind) for kind in copy_kinds if kind != "drop"},
                )
                for modality, ensemble in (ensembles or {}).items()
            }

        others = request.other_regressors or {}
        return join_upstream(
            self.corpus,
            self.spec.difficulty_scale,
            auto_encoders=outputs(request.auto_encoders),
            regressors=outputs(request.regressors),
            other_regressors={target: outputs(others[target]) for target in others},
            copy_kinds=copy_kinds,
        )

    def _ensemble(
        self, request: FitRequest, problem: SupervisedProblem, fold_stages: list[TrainedStage]
    ) -> Ensemble:
        models = _one_seed(fold_stages)
        task, device = request.task, self._pool.device

        # Every training session from the models that held it out, and devel.
        predict = partial(task.predict, upstream=problem.upstream_outputs, device=device)
        outputs = self._plan.predict(self.corpus, models, predict)

        @cache
        def copies(kind: CorruptionKind) -> Columns:
            spoilt = corrupt_corpus(self.corpus, task.modality, kind)
            encoders = {
                modality: StageOutputs(encoder.copies(kind))
                for modality, encoder in (request.auto_encoders or {}).items()
            }
            upstream = join_upstream(spoilt, self.spec.difficulty_scale, auto_encoders=encoders)
            predict_copies = partial(task.predict, upstream=upstream, device=device)
            return self._plan.predict(spoilt, models, predict_copies)

        keys = tuple((stage.key,) for stage in fold_stages)
        return Ensemble(keys, self._plan.inference_models(models), outputs, copies)


def _one_seed(fold_stages: list[TrainedStage]) -> list[tuple[TrainedStage]]:
    """Return for each fold its models: here one, because a spec has one seed."""
    return [(stage,) for stage in fold_stages]
