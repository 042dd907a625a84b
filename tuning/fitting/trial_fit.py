"""The fit of a trial, piece by piece and through the store; every piece ends with a report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from pipeline.corpus import Corpus
from pipeline.credentials.masking import masked
from pipeline.errors import AffectuneError
from pipeline.fitting.resumable_fit import CLAIM_S, ResumableFit
from pipeline.spec import CorruptionKind, Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import Columns, Epoch, TrainedStage
from pipeline.stages.upstream import COPY_KINDS
from pipeline.storage.stage_store import StageStore
from pipeline.storage.surroundings import as_failure, is_out_of_memory
from tuning.fitting.held_out_predictions import (
    HeldOutPredictions,
    held_out_name,
    read_held_out_of,
)
from tuning.fitting.job import Job
from tuning.fitting.lost_stage import StageLost
from tuning.fitting.scoring import FitScores, fit_scores
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import Reason

REPORT_S = 5.0
"""A trial reports, and keeps its state, after so many seconds at most (and the running epoch)."""


@dataclass(frozen=True)
class FitReport:
    """What a worker returns.

    Attributes:
        epochs: those not reported yet.
        cpu_s: processor seconds since the fit began; `wall_s` seconds within the fit.
        end_reason: why the fit ended; None while it goes on.
        devel: the best epoch's devel score, once it has ended.
        best_epoch: likewise.
        scores: on people that the fit never saw, once it has ended; at a rung those of its best
            epoch so far.
        lost: key of a stage that it reads, and the store has lost; then it has neither ended nor
            failed.
        error: what went wrong, where it failed.
        fault: what is wrong with the surroundings, in whole sentences, where they let it down; it
            has neither ended nor failed, and is to be tried again. With an `error`, too: where it
            fails so again and again, it is to blame itself, such as for the memory that it takes.
    """

    epochs: tuple[Epoch, ...] = ()
    cpu_s: float = 0.0
    wall_s: float = 0.0
    end_reason: Reason | None = None
    devel: float | None = None
    best_epoch: int | None = None
    scores: FitScores = field(default_factory=FitScores)
    lost: str | None = None
    error: str | None = None
    fault: str | None = None

    @classmethod
    def from_error(cls, error: Exception) -> FitReport:
        """Return the report of a fit that an error has stopped."""
        if is_out_of_memory(error):
            cause = str(error).strip().splitlines()
            said = f"Memory is short ({cause[0].rstrip('.') if cause else 'out of memory'})."
            return cls(end_reason="error", error=said, fault=f"{said} Use fewer --workers.")
        if (fault := as_failure(error)) is not None:
            return cls(fault=masked(str(fault)))
        # A broken configuration ends its trial, and not the study.
        return cls(end_reason="error", error=masked(_said(error)))

    def to_result(self) -> dict[str, Any]:
        """Return the result of a Tune trial; flat, because Tune flattens it on its way."""
        return {
            "epochs": [astuple(epoch) for epoch in self.epochs],
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
            "end_reason": self.end_reason,
            "devel": self.devel,
            "best_epoch": self.best_epoch,
            "lost": self.lost,
            "held_out": self.scores.held_out,
            "deciding": self.scores.deciding,
            "error": self.error,
            "fault": self.fault,
            "done": self.end_reason is not None and self.fault is None,
        }

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> FitReport:
        """Return the report that `to_result` came from; what Tune has added is left out."""
        return cls(
            epochs=tuple(Epoch(*epoch) for epoch in result["epochs"]),
            cpu_s=result["cpu_s"],
            wall_s=result["wall_s"],
            end_reason=result["end_reason"],
            devel=result["devel"],
            best_epoch=result["best_epoch"],
            lost=result["lost"],
            scores=FitScores(result["held_out"], result["deciding"]),
            error=result["error"],
            fault=result["fault"],
        )


@dataclass(frozen=True)
class FitContext:
    """What the fits of one worker share.

    Attributes:
        corpus: of the study.
        plan: its folds.
        store: keeps checkpoints, trained stages and held-out predictions.
        upstream: what upstream stages output.
    """

    corpus: Corpus
    plan: CrossFitPlan
    store: StageStore
    upstream: UpstreamPredictions

    @classmethod
    def create(cls, corpus: Corpus, base: Spec, store: StageStore) -> FitContext:
        """Make one for a study whose settings underneath are `base`."""
        plan = CrossFitPlan.from_spec(corpus, base)
        return cls(corpus, plan, store, UpstreamPredictions(store, corpus, plan, base))

    def problem(self, job: Job) -> SupervisedProblem:
        """Pose the problem of a job.

        Raises:
            AffectuneError: the store has lost what the job reads.
        """
        is_fusion = job.task.stage == "fusion"
        copy_kinds = job.spec.fusion.corruption.kind_names if is_fusion else ()
        outputs = self.upstream.outputs(job.upstream_keys, copy_kinds)
        return job.problem(self.corpus, self.plan, outputs)


class TrialFit:
    """Fits a job; after any kind of end it goes on from its last checkpoint.

    Args:
        job: what is fitted.
        context: what the fits of this worker share.
        report_s: seconds after which a piece ends (and the running epoch).
    """

    def __init__(self, job: Job, context: FitContext, *, report_s: float = REPORT_S) -> None:
        self.job = job
        self._report_s = report_s
        self._context = context
        self._fit: ResumableFit | None = None
        self._num_reported = 0

    def advance(self) -> FitReport:
        """Train until the next rung, the end, or for some seconds; errors are in the report."""
        try:
            with self._context.store.claim(self.job.key, timeout_s=CLAIM_S):
                report = self._advance()
        except Exception as error:
            report = FitReport.from_error(error)

        if report.end_reason == "store" or report.fault or self._fit is None:
            return report
        trainer = self._fit.trainer
        epochs = tuple(trainer.history[self._num_reported :])
        self._num_reported += len(epochs)
        return replace(report, epochs=epochs, cpu_s=trainer.cpu_s, wall_s=self._fit.wall_s)

    def _advance(self) -> FitReport:
        try:
            return self._advance_piece()
        except StageLost as error:
            return FitReport(lost=error.key)

    def _advance_piece(self) -> FitReport:
        if self._fit is not None and self._fit.is_overtaken():
            self._fit = None
        if self._fit is None:
            predictions = self._read_predictions()
            if predictions is not None:
                return report_from_store(
                    predictions, self.job, self._context.corpus, self._context.plan
                )
            self._fit = self._begin()
            if self._fit.trainer.epoch in self.job.rungs:
                return self._rung_report()  # early stopping may not have decided yet

        self._fit.advance(rungs=self.job.rungs, max_s=self._report_s)
        if self._fit.stage is not None:
            return self._end()
        return self._rung_report()

    def _rung_report(self) -> FitReport:
        """Report what early stopping decides by, if the fit is at a rung."""
        assert self._fit is not None
        if self._fit.trainer.epoch not in self.job.rungs:
            return FitReport()

        begin = time.monotonic()
        context, stage = self._context, self._fit.trainer.trained_stage()
        outputs = predict_unseen(stage, self.job, context)
        scores = fit_scores(
            self.job.task,
            context.corpus,
            context.plan.folds[self.job.fold],
            outputs,
            self.job.spec.protocol,
        )
        self._fit.wall_s += time.monotonic() - begin
        return FitReport(scores=scores)

    def _begin(self) -> ResumableFit:
        context, job = self._context, self.job
        problem = context.problem(job)
        return ResumableFit(problem, context.corpus, context.store, device=job.device)

    def _end(self) -> FitReport:
        assert self._fit is not None
        assert self._fit.stage is not None
        stage, trainer, context = self._fit.stage, self._fit.trainer, self._context

        begin = time.monotonic()
        predictions = predict_held_out(stage, self.job, context)
        context.store.write(held_out_name(self.job.key), predictions.to_files())
        self._fit.wall_s += time.monotonic() - begin

        return FitReport(
            end_reason="patience" if trainer.is_out_of_patience else "max_epochs",
            devel=stage.score,
            best_epoch=stage.best_epoch,
            scores=_scores(predictions, self.job, context.corpus, context.plan),
        )

    def _read_predictions(self) -> HeldOutPredictions | None:
        """Return the held-out predictions, if another run has trained the stage."""
        context, job = self._context, self.job
        stage = context.store.get(job.key)
        if stage is None:
            return None
        predictions = read_held_out_of(context.store, stage)
        if predictions is not None:
            return predictions

        predictions = predict_held_out(stage, job, context)
        context.store.write(held_out_name(job.key), predictions.to_files())
        return predictions


def predict_held_out(stage: TrainedStage, job: Job, context: FitContext) -> HeldOutPredictions:
    """Predict the sessions that the stage's fold held out, and devel; and their corrupted copies.

    Args:
        stage: what the job trained.
        job: says which fold.
        context: knows what the stage reads.
    """
    outputs, copies = predict_unseen(stage, job, context), {}
    if job.task.modality:
        copies = {kind: predict_unseen(stage, job, context, kind) for kind in COPY_KINDS}
    return HeldOutPredictions(
        stage.history, stage.best_epoch, stage.score, outputs, copies, stage.key
    )


def predict_unseen(
    stage: TrainedStage, job: Job, context: FitContext, kind: CorruptionKind | None = None
) -> Columns:
    """Predict the sessions that the stage's fold held out, and devel; or their corrupted copies.

    Args:
        stage: what the job trained.
        job: says which fold.
        context: knows what the stage reads.
        kind: how the stage's modality is spoilt; None for the sessions as they are.
    """
    corpus, upstream = context.corpus, context.upstream
    held_out_ids = context.plan.folds[job.fold].held_out_ids
    sessions = [corpus.session(session_id) for session_id in held_out_ids]
    sessions += corpus.partition("devel")

    if kind is None:
        outputs = upstream.outputs(job.upstream_keys)
    else:
        outputs = upstream.copy_outputs(job.upstream_keys, kind)
        modality = job.task.modality
        sessions = [upstream.corrupted(session, modality, kind) for session in sessions]

    arrays = job.task.predict([stage], sessions, outputs, job.device)
    session_ids = [session.session_id for session in sessions]
    return dict(zip(session_ids, arrays, strict=True))


def report_from_store(
    predictions: HeldOutPredictions, job: Job, corpus: Corpus, plan: CrossFitPlan
) -> FitReport:
    """Return the report of a fit whose held-out predictions the store has already."""
    return FitReport(
        epochs=predictions.history,
        end_reason="store",
        devel=predictions.devel,
        best_epoch=predictions.best_epoch,
        scores=_scores(predictions, job, corpus, plan),
    )


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, AffectuneError) else f"{type(error).__name__}: {error}"


def _scores(
    predictions: HeldOutPredictions, job: Job, corpus: Corpus, plan: CrossFitPlan
) -> FitScores:
    fold = plan.folds[job.fold]
    return fit_scores(job.task, corpus, fold, predictions.outputs, job.spec.protocol)
