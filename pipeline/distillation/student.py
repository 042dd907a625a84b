"""A student: the stages of a teacher with one network each, which learn what its ensembles output.

Knows no label: see `lessons`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.distillation.lessons import Lessons, regressor_label
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bands import BandCalibration
from pipeline.model.fused_model import FusedModel
from pipeline.spec import (
    AutoEncoderFitSpec,
    AutoEncoderNetworkSpec,
    AutoEncoderSpec,
    CorruptionKind,
    CorruptionSpec,
    FitSpec,
    FusionFitSpec,
    FusionNetworkSpec,
    FusionSpec,
    Spec,
    UnimodalSpec,
)
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import CrossFitPlan, Fold
from pipeline.stages.difficulty import reconstruction_errors, reference_percentiles
from pipeline.stages.ensemble import Ensemble, upstream_keys
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Columns, TrainedStage
from pipeline.stages.unimodal import UnimodalTask
from pipeline.stages.upstream import StageOutputs, join_upstream

Name = TypeVar("Name", bound=Hashable)
LOSS = "mse"
"""Of regressors and fusions. A teacher's output has no noise that a CCC would have to see through:
what counts is to be near it at every frame."""


@dataclass(frozen=True)
class _Request:
    """A task, and how the student learns it; see `FitRequest` for what it reads."""

    task: Task
    spec: Spec
    train_ids: Sequence[str]
    auto_encoders: Mapping[str, Ensemble] | None = None
    regressors: Mapping[str, Ensemble] | None = None
    other_regressors: Mapping[str, Mapping[str, Ensemble]] | None = None


def fit_student(teacher: FusedModel, lessons: Lessons, pool: WorkerPool) -> FusedModel:
    """Fit one network for each ensemble of a teacher, with the settings of its first model.

    The variants of the fusions that read no difficulty have no student: they are for comparison.

    Args:
        teacher: what is imitated.
        lessons: what is learned from.
        pool: solves the problems, on the corpus of the lessons.

    Raises:
        AffectuneError: a fit failed; what was solved until then is in the store.
    """
    encoders = _fit_auto_encoders(teacher, lessons, pool)
    regressors = _fit_regressors(teacher, lessons, pool, encoders)
    fusions = _fit_fusions(teacher, lessons, pool, encoders, regressors)

    return replace(
        teacher,
        auto_encoders={name: ensemble.models for name, ensemble in encoders.items()},
        regressors={path: ensemble.models for path, ensemble in regressors.items()},
        fusions={
            target: fusions[target].models if target in fusions else ()
            for target in teacher.fusions
        },
        fusions_without_difficulty={},
        difficulty_references=_difficulty_references(teacher, lessons, encoders, pool.device),
        bands=_bands(teacher, lessons, encoders, pool.device),
        regressor_encoders={},  # each path has one encoder
        corrections={},  # what it learned is corrected already
    )


def num_student_fits(num_modalities: int, num_targets: int) -> int:
    """Return how many fits a student is, to show its progress."""
    return num_modalities * (1 + num_targets) + num_targets


def _fit_auto_encoders(
    teacher: FusedModel, lessons: Lessons, pool: WorkerPool
) -> dict[str, Ensemble]:
    """Stage 1, by the encoder's name. Whole sessions alone teach what is not difficult."""
    requests = {}
    for encoder, modality in _modality_of(teacher).items():
        model = teacher.auto_encoders[encoder][0]
        settings = AutoEncoderSpec(
            network=AutoEncoderNetworkSpec.model_validate(model.network.model_dump()),
            fit=AutoEncoderFitSpec.model_validate(model.fit.model_dump()),
        )
        spec = _student_spec(teacher, model, auto_encoder=settings)
        requests[encoder] = _Request(AutoEncoderTask(modality), spec, lessons.clean_ids)
    return _fit(requests, lessons, pool)


def _fit_regressors(
    teacher: FusedModel, lessons: Lessons, pool: WorkerPool, encoders: Mapping[str, Ensemble]
) -> dict[tuple[str, str], Ensemble]:
    """Stage 2, by target and modality."""
    requests = {}
    for (target, modality), models in teacher.regressors.items():
        model = models[0]
        settings = UnimodalSpec(
            network=model.network,
            fit=_student_fit(model.fit),
            normalisation=model.normalisation.mode,
            difficulty=any(model.reads_difficulty for model in models),
            **_timing_settings(model, lessons.corpus.frame_period_ms),
        )
        encoder = encoders[teacher.encoder_of[target, modality]]
        requests[target, modality] = _Request(
            UnimodalTask(modality, regressor_label(target, modality)),
            _student_spec(teacher, model, unimodal=settings),
            lessons.ids_for(modality),
            auto_encoders={modality: encoder} if settings.difficulty else None,
        )
    return _fit(requests, lessons, pool)


def _fit_fusions(
    teacher: FusedModel,
    lessons: Lessons,
    pool: WorkerPool,
    encoders: Mapping[str, Ensemble],
    regressors: Mapping[tuple[str, str], Ensemble],
) -> dict[str, Ensemble]:
    """Stage 3, by target."""
    requests = {}
    for target, models in teacher.fusions.items():
        if not models:  # a floor stands in for the fusion
            continue
        model = models[0]
        settings = FusionSpec(
            network=FusionNetworkSpec.model_validate(model.network.model_dump()),
            fit=FusionFitSpec.model_validate(_student_fit(model.fit).model_dump()),
            # Corrupted copies are among the lessons.
            corruption=CorruptionSpec(share=0.0),
            difficulty=any(model.reads_difficulty for model in models),
            reads="all" if any(model.num_other_predictions for model in models) else "own",
        )
        modalities = teacher.fusion_modalities[target]
        own_encoders = {m: encoders[teacher.encoder_of[target, m]] for m in modalities}
        requests[target] = _Request(
            FusionTask(target=target),
            _student_spec(teacher, model, fusion=settings),
            lessons.all_ids,
            auto_encoders=own_encoders if settings.difficulty else None,
            regressors={m: regressors[target, m] for m in modalities},
            other_regressors={
                other: {m: regressors[other, m] for m in teacher.fusion_modalities[other]}
                for other in teacher.targets
                if other != target and settings.reads == "all"
            },
        )
    return _fit(requests, lessons, pool)


def _fit(
    requests: Mapping[Name, _Request], lessons: Lessons, pool: WorkerPool
) -> dict[Name, Ensemble]:
    """Fit tasks, all at once, and have each model predict every session of the lessons."""
    problems = {}
    for name, request in requests.items():
        keys = upstream_keys(
            auto_encoders=request.auto_encoders,
            regressors=request.regressors,
            other_regressors=request.other_regressors,
        )
        others = request.other_regressors or {}
        outputs = join_upstream(
            lessons.corpus,
            request.spec.difficulty_scale,
            auto_encoders=_stage_outputs(request.auto_encoders),
            regressors=_stage_outputs(request.regressors),
            other_regressors={name: _stage_outputs(others[name]) for name in others},
        )
        fold = Fold("student", tuple(request.train_ids), lessons.all_ids)
        key = request.task.key(lessons.corpus, request.spec, fold, keys, pool.device)
        problem = request.task.problem(lessons.corpus, request.spec, fold, key, outputs)
        problems[name] = [problem]

    ensembles = {}
    plan = CrossFitPlan((Fold("student", (), lessons.all_ids),), (0,))
    for name, models in pool.fit_named(problems).items():
        problem = problems[name][0]
        predict = partial(
            problem.task.predict, upstream=problem.upstream_outputs, device=pool.device
        )
        ensembles[name] = Ensemble(
            keys=((models[0].key,),),
            models=tuple(models),
            outputs=plan.predict(lessons.corpus, [models], predict),
            copies=_no_copies,
        )
    return ensembles


def _stage_outputs(ensembles: Mapping[str, Ensemble] | None) -> dict[str, StageOutputs]:
    return {name: StageOutputs(ensemble.outputs) for name, ensemble in (ensembles or {}).items()}


def _no_copies(kind: CorruptionKind) -> Columns:
    raise AssertionError("A student's lessons have copies of their own.")


def _timing_settings(model: TrainedStage, frame_period_ms: float) -> dict[str, Any]:
    """Return the settings of a regressor's timing, in seconds."""
    timing, period_s = model.timing, frame_period_ms / 1000
    is_resampled = timing.resample_frames > 1
    return {
        "delay_s": timing.delay_frames * period_s,
        "context_s": [frames * period_s for frames in timing.context_frames],
        "resample_s": timing.resample_frames * period_s if is_resampled else 0.0,
    }


def _student_spec(
    teacher: FusedModel,
    model: TrainedStage,
    **stage: AutoEncoderSpec | UnimodalSpec | FusionSpec,
) -> Spec:
    """Return the teacher's spec with the settings and the seed of one of its models."""
    return teacher.spec.model_copy(update={**stage, "seed": model.seed})


def _student_fit(fit: FitSpec) -> FitSpec:
    """Return a teacher's fit with another loss, and windows that do not overlap.

    Copies vary what is learned from more than overlaps do, and cost as much.
    """
    return fit.model_copy(update={"loss": LOSS, "hop_frames": fit.window_frames})


def _modality_of(teacher: FusedModel) -> dict[str, str]:
    """Return encoder's name -> the modality that it rebuilds."""
    return {encoder: modality for (_, modality), encoder in teacher.encoder_of.items()}


def _difficulty_references(
    teacher: FusedModel, lessons: Lessons, encoders: Mapping[str, Ensemble], device: str
) -> dict[str, list[float]]:
    """Translate the teacher's references to the errors of the student's auto-encoders.

    A percentile keeps its meaning, a place among out-of-fold training frames. Of the student's
    auto-encoders no training frame is out of fold: theirs would make every new frame look hard.
    """
    devel = lessons.corpus.partition("devel")
    references = {}
    for encoder, modality in _modality_of(teacher).items():
        models = teacher.auto_encoders[encoder]
        references[encoder] = translate_references(
            teacher.difficulty_references[encoder],
            reconstruction_errors(models, devel, modality, device),
            [encoders[encoder].outputs[session.session_id] for session in devel],
        )
    return references


def _bands(
    teacher: FusedModel, lessons: Lessons, encoders: Mapping[str, Ensemble], device: str
) -> dict[str, BandCalibration]:
    """Return the teacher's bands, with what is middling for the student's auto-encoders.

    Sigma reads logarithms of errors; those of the student lie higher or lower throughout.
    """
    devel = lessons.corpus.partition("devel")
    offsets = {}
    for encoder, modality in _modality_of(teacher).items():
        errors = reconstruction_errors(teacher.auto_encoders[encoder], devel, modality, device)
        own = [encoders[encoder].outputs[session.session_id] for session in devel]
        offsets[encoder] = _median_log(own) - _median_log(errors)

    bands = {}
    for target, band in teacher.bands.items():
        modalities = teacher.fusion_modalities[target]
        shifts = [offsets[teacher.encoder_of[target, modality]] for modality in modalities]
        shifts += [0.0] * (len(band.centres) - len(shifts))  # disagreement stays as it is
        centres = (centre + shift for centre, shift in zip(band.centres, shifts, strict=True))
        bands[target] = replace(band, centres=tuple(centres))
    return bands


def _median_log(errors: Sequence[NDArray[np.float32]]) -> float:
    values = np.concatenate([error.ravel() for error in errors])
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.median(np.log(values))) if values.size else 0.0


def translate_references(
    references: Sequence[float],
    teacher_errors: Sequence[NDArray[np.float32]],
    student_errors: Sequence[NDArray[np.float32]],
) -> list[float]:
    """Return the errors of a student that stand where the teacher's references stand.

    Both see the same frames, so errors of the same rank correspond. Beyond the largest and below
    the smallest error the ratio of both stays as it is there.

    Args:
        references: errors of the teacher, ascending.
        teacher_errors: on frames that neither learned from, one array per session.
        student_errors: on the same frames.
    """
    teacher = np.asarray(reference_percentiles(teacher_errors))
    student = np.asarray(reference_percentiles(student_errors))
    if teacher[-1] == 0:  # no frame to compare
        return list(references)

    inside = np.interp(references, teacher, student)
    nearest = np.clip(references, teacher[0], teacher[-1])
    # An error of 0 has no ratio; it stays what it is.
    ratio = np.divide(references, nearest, out=np.ones_like(nearest), where=nearest > 0)
    return [float(value) for value in inside * ratio]
