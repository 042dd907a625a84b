"""The whole data flow, once, in order: corpus, auto-encoders, difficulty, regressors, fusion, FusedModel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import PARTITIONS, Corpus, Session
from pipeline.errors import InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.metrics.bootstrap import bootstrap, subject_moments
from pipeline.metrics.ccc import ccc
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.auto_encoder import auto_encoder_task
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import (
    difficulty_columns,
    reconstruction_errors,
    references,
    spearman,
)
from pipeline.stages.fusion import (
    FLOORS,
    FUSION,
    WITHOUT,
    floor_weights,
    floors,
    fused_predictions,
    fusion_task,
    side_by_side,
)
from pipeline.stages.stage import Columns, TrainedStage
from pipeline.stages.unimodal import unimodal_predictions, unimodal_task

Name = TypeVar("Name")


def train(corpus: Corpus, spec: Spec, pool: WorkerPool) -> FusedModel:
    """Train all three stages.

    Test sessions are never read. Devel decides when each fit stops, and the weights of the weighted-mean floor.

    Args:
        corpus: with labelled train and devel sessions.
        spec: networks, fits, protocol.
        crew: solves the fits, through a store.

    Raises:
        InputError: the corpus cannot be trained on.
        AffectuneError: a fit failed; what was trained until then is in the store.
    """
    check_trainable(corpus, spec)
    plan = CrossFitPlan.of(corpus, spec)
    modalities, targets = corpus.modalities, corpus.targets
    both = [(target, modality) for target in targets for modality in modalities]

    encoders = one_each(
        pool.solve_all(
            {
                m: [auto_encoder_task(corpus, spec, fold, m) for fold in plan.folds]
                for m in modalities
            }
        )
    )
    errors = {
        m: plan.say(
            corpus, encoders[m], partial(reconstruction_errors, modality=m, device=pool.device)
        )
        for m in modalities
    }
    difficulty = {m: difficulty_columns(errors[m], spec.difficulty_scale) for m in modalities}

    read = difficulty if spec.unimodal.difficulty else dict.fromkeys(modalities)
    regressors = one_each(
        pool.solve_all(
            {
                (t, m): [
                    unimodal_task(corpus, spec, fold, m, t, read[m], keys(encoders[m]))
                    for fold in plan.folds
                ]
                for t, m in both
            }
        )
    )
    predictions = {
        (t, m): plan.say(
            corpus,
            regressors[t, m],
            partial(unimodal_predictions, modality=m, difficulty=read[m], device=pool.device),
        )
        for t, m in both
    }

    upstream = {
        t: keys(fold for m in modalities for fold in [*encoders[m], *regressors[t, m]])
        for t in targets
    }
    opinions = {t: side_by_side([predictions[t, m] for m in modalities]) for t in targets}
    ways = {FUSION: side_by_side(list(difficulty.values())), WITHOUT: None}
    if not spec.fusion.difficulty:
        ways = {WITHOUT: None}
    fusions = one_each(
        pool.solve_all(
            {
                (t, way): [
                    fusion_task(corpus, spec, fold, t, opinions[t], hard, upstream[t])
                    for fold in plan.folds
                ]
                for t in targets
                for way, hard in ways.items()
            }
        )
    )

    weights = {
        t: floor_weights({m: devel_ccc(corpus, t, predictions[t, m]) for m in modalities})
        for t in targets
    }
    fused = {
        (t, way): plan.say(
            corpus,
            fusions[t, way],
            partial(
                fused_predictions, predictions=opinions[t], difficulty=hard, device=pool.device
            ),
        )
        for t in targets
        for way, hard in ways.items()
    }
    return FusedModel(
        columns=corpus.columns,
        targets=targets,
        frame_period_ms=corpus.frame_period_ms,
        spec=spec,
        auto_encoders={m: plan.others(encoders[m]) for m in modalities},
        encoder_of={(t, m): m for t, m in both},
        regressors={(t, m): plan.others(regressors[t, m]) for t, m in both},
        fusion_modalities=dict.fromkeys(targets, modalities),
        fusions={t: plan.others(fusions[t, next(iter(ways))]) for t in targets},
        fusions_without_difficulty={t: plan.others(fusions[t, WITHOUT]) for t in targets},
        floor_weights=weights,
        difficulty_references={
            m: references([errors[m][s.session_id] for s in corpus.partition("train")])
            for m in modalities
        },
        data=describe(corpus),
        out_of_fold={
            t: out_of_fold_scores(
                corpus,
                t,
                {FUSION: fused[t, next(iter(ways))], WITHOUT: fused[t, WITHOUT]},
                opinions[t],
                weights[t],
            )
            for t in targets
        }
        if spec.protocol == "cross_fit"
        else {},
        difficulty_spearman={
            t: {m: difficulty_spearman(corpus, t, errors[m], predictions[t, m]) for m in modalities}
            for t in targets
        },
    )


def difficulty_spearman(
    corpus: Corpus, target: str, errors: Columns, predictions: Columns
) -> float | None:
    """Whether difficulty says where a modality errs: rank correlation over training frames; None where undefined."""
    train = corpus.partition("train")
    rho = spearman(
        [errors[s.session_id][:, 0] for s in train],
        [predictions[s.session_id][:, 0] - s.labels[target] for s in train],
    )
    return rho if np.isfinite(rho) else None


def out_of_fold_scores(
    corpus: Corpus,
    target: str,
    fused: Mapping[str, Columns],
    opinions: Columns,
    weights: Mapping[str, float],
) -> dict[str, dict[str, float | None]]:
    """CCC with its interval on training subjects, each predicted by models that never saw it.

    There are more of them than in devel, and no fit was stopped by them. A modality's own prediction of a subject owes
    nothing to that subject's labels. The fusions' does, at second hand: a fold's fusion learned from predictions of
    other subjects by regressors that had seen this one. It is optimistic here; on devel and test it is not.

    Returns:
        Name of the prediction -> "ccc", "ccc_low", "ccc_high".
    """
    sessions = corpus.partition("train")
    ids = [session.session_id for session in sessions]
    floor = {i: floors(opinions[i], list(weights.values())) for i in ids}
    series: dict[str, list[NDArray[np.floating[Any]]]] = {
        name: [said[i][:, 0] for i in ids] for name, said in fused.items()
    }
    for key, name in FLOORS.items():
        series[name] = [floor[i][key] for i in ids]
    for place, modality in enumerate(weights):
        series[modality] = [opinions[i][:, place] for i in ids]
    return {
        name: bootstrap(subject_moments(sessions, target, found)).to_json()
        for name, found in series.items()
    }


def one_each(
    trained: Mapping[Name, Sequence[TrainedStage]],
) -> dict[Name, list[tuple[TrainedStage, ...]]]:
    """One model per fold as a plan takes it: for each fold a sequence of models."""
    return {name: [(stage,) for stage in stages] for name, stages in trained.items()}


def keys(folds: Iterable[Sequence[TrainedStage]]) -> list[str]:
    """The content hashes of stages, for the key of what is built on them."""
    return [stage.key for fold in folds for stage in fold]


def check_trainable(corpus: Corpus, spec: Spec) -> None:
    """Refuse a corpus that no model can be trained on, before anything is trained.

    Raises:
        InputError: too few subjects; a part of the plan without labels, with one constant label, or without a set.
    """
    if not corpus.modalities or not corpus.targets:
        raise InputError(
            f"Corpus {corpus.name!r}: training needs at least one feature set and one target."
        )
    for partition in ("train", "devel"):
        if not corpus.partition(partition):
            raise InputError(
                f"Corpus {corpus.name!r} has no {partition} sessions. Check metadata/partition.csv."
            )
        _check_part(corpus, f"every {partition} frame", corpus.partition(partition))
    for fold in CrossFitPlan.of(corpus, spec).folds:
        _check_part(
            corpus,
            f"every training frame of {fold.name}",
            [corpus.session(name) for name in fold.train_ids],
        )


def _check_part(corpus: Corpus, where: str, sessions: Sequence[Session]) -> None:
    for target in corpus.targets:
        labels = np.concatenate([session.labels[target] for session in sessions])
        labels = labels[np.isfinite(labels)]
        if not labels.size:
            raise InputError(
                f"Corpus {corpus.name!r}: {target!r} has no label in {where}. Use fewer --folds, or leave it out."
            )
        if np.ptp(labels) == 0:
            raise InputError(
                f"Corpus {corpus.name!r}: {target!r} is {labels[0]} in {where}: nothing to learn."
            )
    for modality in corpus.modalities:
        if not any(session.present[modality].any() for session in sessions):
            raise InputError(
                f"Corpus {corpus.name!r}: {modality!r} is missing from {where}. Leave it out."
            )


def devel_ccc(corpus: Corpus, target: str, predictions: Columns) -> float:
    """CCC of one modality's predictions over all labelled devel frames; NaN where undefined."""
    truth = np.concatenate([session.labels[target] for session in corpus.partition("devel")])
    predicted = np.concatenate(
        [predictions[session.session_id][:, 0] for session in corpus.partition("devel")]
    )
    use = np.isfinite(truth) & np.isfinite(predicted)
    return ccc(truth[use], predicted[use])


def describe(corpus: Corpus) -> dict[str, Any]:
    """What a model learned from, for its bundle."""
    return {
        "name": corpus.name,
        "digest": corpus.digest,
        "sessions": {partition: len(corpus.partition(partition)) for partition in PARTITIONS},
        "subjects": {
            partition: len({s.subject for s in corpus.partition(partition)})
            for partition in PARTITIONS
        },
    }


def num_fits(corpus: Corpus, spec: Spec) -> int:
    """How many fits `train` asks for."""
    modalities, targets = len(corpus.modalities), len(corpus.targets)
    fusions = targets * (2 if spec.fusion.difficulty else 1)
    return len(CrossFitPlan.of(corpus, spec).folds) * (modalities * (1 + targets) + fusions)
