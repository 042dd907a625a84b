"""The data flow of training, once, in order: auto-encoders, regressors, fusions, the fused model.

Reading a corpus is `pipeline.data`, writing the model `pipeline.model.bundle`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.corpus import Corpus
from pipeline.distillation.distil import distil
from pipeline.distillation.student import num_student_fits
from pipeline.fitting.cross_fitter import CrossFitter, FitRequest
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.assemble import TargetEnsembles, assemble_model
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.ensemble import Ensemble
from pipeline.stages.fusion import FUSION, WITHOUT_DIFFICULTY, FusionTask
from pipeline.stages.requirements import raise_if_untrainable
from pipeline.stages.unimodal import UnimodalTask

AutoEncoders = Mapping[str, Ensemble]
"""Modality -> its auto-encoders."""
Regressors = Mapping[str, Mapping[str, Ensemble]]
"""Target -> modality -> its regressors."""
Variants = Mapping[str, Mapping[str, Ensemble]]
"""Target -> variant (`FUSION`, `WITHOUT_DIFFICULTY`) -> its fusions."""


def train(corpus: Corpus, spec: Spec, pool: WorkerPool) -> FusedModel:
    """Train all three stages, and distil them where the spec asks for it.

    Test sessions are never read. Devel decides when each fit stops, and the weights of the
    weighted-mean floor.

    Args:
        corpus: with labelled train and devel sessions.
        spec: networks, fits, protocol.
        pool: solves the problems, through a store.

    Raises:
        InputError: the corpus cannot be trained on.
        AffectuneError: a fit failed; what was trained until then is in the store.
    """
    raise_if_untrainable(corpus, spec)
    cross_fitter = CrossFitter(corpus, spec, pool)

    auto_encoders = fit_auto_encoders(cross_fitter)
    regressors = fit_regressors(cross_fitter, auto_encoders)
    variants = fit_fusions(cross_fitter, auto_encoders, regressors)

    targets = target_ensembles(auto_encoders, regressors, variants)
    model = assemble_model(corpus, spec, targets)
    return distil(model, corpus, pool) if spec.inference == "distilled" else model


def fit_auto_encoders(cross_fitter: CrossFitter) -> AutoEncoders:
    """Stage 1: one auto-encoder per modality; its outputs are reconstruction errors."""
    modalities = cross_fitter.corpus.modalities
    return cross_fitter.fit(
        {modality: FitRequest(AutoEncoderTask(modality)) for modality in modalities}
    )


def fit_regressors(cross_fitter: CrossFitter, auto_encoders: AutoEncoders) -> Regressors:
    """Stage 2: one regressor per modality and target; it reads features and difficulty."""
    corpus, spec = cross_fitter.corpus, cross_fitter.spec
    requests = {}
    for modality in corpus.modalities:
        own_encoder = {modality: auto_encoders[modality]} if spec.unimodal.difficulty else None
        for target in corpus.targets:
            task = UnimodalTask(modality, target)
            requests[target, modality] = FitRequest(task, own_encoder)

    ensembles = cross_fitter.fit(requests)
    return _by_target(ensembles)


def fit_fusions(
    cross_fitter: CrossFitter, auto_encoders: AutoEncoders, regressors: Regressors
) -> Variants:
    """Stage 3: per target one fusion that reads difficulty, and one that reads none.

    The second is for comparison; where the spec asks for no difficulty, it is the only one.
    """
    requests = {}
    for target in cross_fitter.corpus.targets:
        task, own = FusionTask(target=target), regressors[target]
        others = {other: regressors[other] for other in regressors if other != target}
        if cross_fitter.spec.fusion.reads == "own":
            others = {}

        if cross_fitter.spec.fusion.difficulty:
            requests[target, FUSION] = FitRequest(task, auto_encoders, own, others)
        requests[target, WITHOUT_DIFFICULTY] = FitRequest(task, None, own, others)

    ensembles = cross_fitter.fit(requests)
    return _by_target(ensembles)


def target_ensembles(
    auto_encoders: AutoEncoders, regressors: Regressors, variants: Variants
) -> dict[str, TargetEnsembles]:
    """Gather the ensembles of each target, for `assemble_model`."""
    targets = {}
    for target, target_variants in variants.items():
        without_difficulty = target_variants[WITHOUT_DIFFICULTY]
        targets[target] = TargetEnsembles(
            auto_encoders=auto_encoders,
            regressors=regressors[target],
            # Where the spec asks for no difficulty, the variant without it is the fusion.
            fusion=target_variants.get(FUSION, without_difficulty),
            without_difficulty=without_difficulty,
        )
    return targets


def num_fits(corpus: Corpus, spec: Spec) -> int:
    """Return how many fits `train` asks for, to show its progress."""
    num_modalities, num_targets = len(corpus.modalities), len(corpus.targets)
    num_variants = 2 if spec.fusion.difficulty else 1
    num_tasks = num_modalities * (1 + num_targets) + num_targets * num_variants
    num_fits = len(CrossFitPlan.from_spec(corpus, spec).folds) * num_tasks
    if spec.inference == "distilled":
        num_fits += num_student_fits(num_modalities, num_targets)
    return num_fits


def _by_target(
    ensembles: Mapping[tuple[str, str], Ensemble],
) -> dict[str, dict[str, Ensemble]]:
    """Turn (target, name) -> ensemble into target -> name -> ensemble."""
    by_target: dict[str, dict[str, Ensemble]] = {}
    for (target, name), ensemble in ensembles.items():
        by_target.setdefault(target, {})[name] = ensemble
    return by_target
