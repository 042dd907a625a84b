"""The one way to put a fused model together: from the ensembles of every target."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import PARTITIONS, Corpus
from pipeline.metrics.bootstrap import subject_moments
from pipeline.metrics.ccc import ccc
from pipeline.metrics.session_parts import label_variance_between_sessions, session_parts
from pipeline.model.bands import BandCalibration, CalibrationPerson, calibrate, sigma_inputs
from pipeline.model.correction import Correction, corrections_without_each, learn_correction
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import reference_percentiles, spearman
from pipeline.stages.ensemble import Ensemble
from pipeline.stages.fusion import (
    FLOORS,
    FUSION,
    WITHOUT_DIFFICULTY,
    floor_weights,
    floors,
    join_columns,
)
from pipeline.stages.label_floors import LABEL_FLOORS, LabelFloors, held_out_label_floors
from pipeline.stages.trained_stage import Columns

Scores = dict[str, float | None]
"""A CCC, its parts and their intervals: see `SessionParts.to_json`."""
Series = Sequence[NDArray[np.float64]]
"""One prediction of every training session, each of shape (frames,)."""


@dataclass(frozen=True)
class TargetEnsembles:
    """All that predicts one target.

    Attributes:
        auto_encoders: modality -> the auto-encoders whose error is its difficulty.
        regressors: modality -> the regressors; in the order in which the fusion reads them.
        fusion: the fusion; None where a floor stands in for it.
        without_difficulty: the variant of the fusion that reads no difficulty, if there is one.
        regressor_encoders: modality -> for each model of its regressors the auto-encoders whose
            error it reads; absent where all read those of `auto_encoders`, or none.
        floor: what stands in for a fusion: see `FusedModel.floor_of`.
    """

    auto_encoders: Mapping[str, Ensemble]
    regressors: Mapping[str, Ensemble]
    fusion: Ensemble | None
    without_difficulty: Ensemble | None
    regressor_encoders: Mapping[str, tuple[Ensemble, ...]] = field(default_factory=dict)
    floor: str = "mean"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that the fusion reads, in order."""
        return tuple(self.regressors)

    @property
    def variants(self) -> dict[str, Ensemble]:
        """Return the fusions by their names, `FUSION` and `WITHOUT_DIFFICULTY`; those there are."""
        variants = {} if self.fusion is None else {FUSION: self.fusion}
        if self.without_difficulty is not None:
            variants[WITHOUT_DIFFICULTY] = self.without_difficulty
        return variants

    def unimodal_predictions(self) -> Columns:
        """Return the regressors' predictions beside each other, shape (frames, modalities)."""
        return join_columns([ensemble.outputs for ensemble in self.regressors.values()])

    def reconstruction_errors(self) -> Columns:
        """Return the errors of the regressors' modalities, shape (frames, modalities)."""
        return join_columns([self.auto_encoders[name].outputs for name in self.regressors])


def assemble_model(
    corpus: Corpus,
    spec: Spec,
    targets: Mapping[str, TargetEnsembles],
    study: Mapping[str, Any] | None = None,
) -> FusedModel:
    """Put a fused model together.

    Args:
        corpus: that the ensembles were trained on.
        spec: what was asked for.
        targets: the corpus's targets in order -> their ensembles.
        study: the search that found them, for the model card: see `FusedModel.study`.
    """
    chosen = {
        (target, modality): ensemble
        for target, target_ensembles in targets.items()
        for modality, ensemble in target_ensembles.auto_encoders.items()
    }
    further = {
        (target, modality): ensembles
        for target, target_ensembles in targets.items()
        for modality, ensembles in target_ensembles.regressor_encoders.items()
    }
    names = _encoder_names(
        [
            *((modality, ensemble.keys) for (_, modality), ensemble in chosen.items()),
            *((modality, e.keys) for (_, modality), several in further.items() for e in several),
        ]
    )
    encoder_of = {path: names[path[1], ensemble.keys] for path, ensemble in chosen.items()}
    encoders = {encoder_of[path]: ensemble for path, ensemble in chosen.items()}
    for (_, modality), several in further.items():
        encoders |= {names[modality, ensemble.keys]: ensemble for ensemble in several}
    modalities = {modality for _, modality in chosen}

    weights = {target: _floor_weights(corpus, target, targets[target]) for target in targets}
    out_of_fold: dict[str, dict[str, Scores]] = {}
    bands: dict[str, BandCalibration] = {}
    corrections: dict[str, dict[str, Correction]] = {}
    if spec.protocol == "cross_fit":
        plan = CrossFitPlan.from_spec(corpus, spec)
        for target, target_ensembles in targets.items():
            fused = _out_of_fold_fusions(corpus, target_ensembles, weights[target])
            if spec.calibration == "linear":
                corrections[target] = {
                    variant: learn_correction(*_sums(corpus, target, series))
                    for variant, series in fused.items()
                }
                fused = {
                    variant: _corrected_out_of_fold(corpus, target, series)
                    for variant, series in fused.items()
                }
            out_of_fold[target] = _out_of_fold_scores(
                corpus, plan, target, target_ensembles, weights[target], fused
            )
            band = _calibrated_band(corpus, target, target_ensembles, fused[FUSION])
            if band is not None:
                bands[target] = band

    return FusedModel(
        columns={m: columns for m, columns in corpus.columns.items() if m in modalities},
        targets=corpus.targets,
        frame_period_ms=corpus.frame_period_ms,
        spec=spec,
        auto_encoders={name: ensemble.models for name, ensemble in encoders.items()},
        encoder_of=encoder_of,
        regressors={
            (target, modality): ensemble.models
            for target, target_ensembles in targets.items()
            for modality, ensemble in target_ensembles.regressors.items()
        },
        fusion_modalities={target: ensembles.modalities for target, ensembles in targets.items()},
        fusions={
            target: ensembles.fusion.models if ensembles.fusion is not None else ()
            for target, ensembles in targets.items()
        },
        fusions_without_difficulty={
            target: ensembles.without_difficulty.models
            for target, ensembles in targets.items()
            if ensembles.without_difficulty is not None
        },
        floor_weights=weights,
        difficulty_references={
            name: _difficulty_references(corpus, ensemble) for name, ensemble in encoders.items()
        },
        data=describe(corpus),
        out_of_fold=out_of_fold,
        difficulty_spearman={
            target: _difficulty_spearman(corpus, target, ensembles)
            for target, ensembles in targets.items()
        },
        study=study or {},
        max_held_frames={
            modality: limit
            for modality, limit in corpus.max_held_frames.items()
            if modality in modalities
        },
        set_aside={m: names for m, names in corpus.set_aside.items() if m in modalities},
        label_floors=LabelFloors.from_sessions(
            corpus.partition("train"), corpus.targets, corpus.frame_period_ms
        ),
        bands=bands,
        corrections=corrections,
        regressor_encoders={
            path: tuple(names[path[1], ensemble.keys] for ensemble in several)
            for path, several in further.items()
        },
        floor_of={
            target: ensembles.floor
            for target, ensembles in targets.items()
            if ensembles.fusion is None
        },
        resampling={
            modality: resampling
            for modality, resampling in corpus.resampling.items()
            if modality in modalities
        },
    )


def encoder_names(
    chosen: Mapping[tuple[str, str], Hashable],
) -> dict[tuple[str, str], str]:
    """Name the auto-encoders in use.

    A modality's first is named like the modality, further ones "voice (2)" and so on. No two
    auto-encoders share a name, even where another modality is really called "voice (2)".

    Args:
        chosen: (target, modality) -> whatever tells one auto-encoder of that modality from another.

    Returns:
        (target, modality) -> its name: `FusedModel.encoder_of`.
    """
    names = _encoder_names([(modality, encoder) for (_, modality), encoder in chosen.items()])
    return {path: names[path[1], encoder] for path, encoder in chosen.items()}


def _encoder_names(
    encoders: Sequence[tuple[str, Hashable]],
) -> dict[tuple[str, Hashable], str]:
    """Return (modality, encoder) -> name, the first of a modality named like it."""
    modalities = {modality for modality, _ in encoders}
    names: dict[tuple[str, Hashable], str] = {}

    for modality, encoder in encoders:
        if (modality, encoder) in names:
            continue
        taken = set(names.values())
        name = modality
        if modality in taken:
            numbered = (f"{modality} ({number})" for number in count(2))
            name = next(name for name in numbered if name not in taken | modalities)
        names[modality, encoder] = name

    return names


def describe(corpus: Corpus) -> dict[str, Any]:
    """Say what a model learned from, for its bundle."""
    sessions = {partition: corpus.partition(partition) for partition in PARTITIONS}
    shares = {
        target: label_variance_between_sessions(sessions["train"], target)
        for target in corpus.targets
    }
    return {
        "name": corpus.name,
        "digest": corpus.digest,
        "sessions": {partition: len(sessions[partition]) for partition in PARTITIONS},
        "subjects": {
            partition: len({session.subject for session in sessions[partition]})
            for partition in PARTITIONS
        },
        "label_variance_between_sessions": {
            target: share if np.isfinite(share) else None for target, share in shares.items()
        },
    }


def _floor_weights(corpus: Corpus, target: str, ensembles: TargetEnsembles) -> dict[str, float]:
    return floor_weights(
        {
            modality: _devel_ccc(corpus, target, ensemble.outputs)
            for modality, ensemble in ensembles.regressors.items()
        }
    )


def _devel_ccc(corpus: Corpus, target: str, predictions: Columns) -> float:
    """Return the CCC over all labelled devel frames; NaN where undefined."""
    devel = corpus.partition("devel")
    truth = np.concatenate([session.labels[target] for session in devel])
    predicted = np.concatenate([predictions[session.session_id][:, 0] for session in devel])
    is_known = np.isfinite(truth) & np.isfinite(predicted)
    return ccc(truth[is_known], predicted[is_known])


def _out_of_fold_fusions(
    corpus: Corpus, ensembles: TargetEnsembles, weights: Mapping[str, float]
) -> dict[str, Series]:
    """Return variant -> its predictions of the training sessions; a floor's without a fusion."""
    session_ids = [session.session_id for session in corpus.partition("train")]
    series: dict[str, Series] = {}
    if ensembles.fusion is None:
        series[FUSION] = _floor_series(ensembles, weights, session_ids)[ensembles.floor]

    for variant, ensemble in ensembles.variants.items():
        series[variant] = [ensemble.outputs[name][:, 0].astype(np.float64) for name in session_ids]
    return series


def _floor_series(
    ensembles: TargetEnsembles, weights: Mapping[str, float], session_ids: Sequence[str]
) -> dict[str, Series]:
    """Return floor -> its predictions of some sessions."""
    unimodal = ensembles.unimodal_predictions()
    by_session = [floors(unimodal[name], list(weights.values())) for name in session_ids]
    return {floor: [values[floor] for values in by_session] for floor in FLOORS}


def _sums(corpus: Corpus, target: str, series: Series) -> tuple[NDArray[np.float64], float]:
    """Return the sums of every training subject, and their centre."""
    sessions = corpus.partition("train")
    centre = float(np.nanmean(np.concatenate([session.labels[target] for session in sessions])))
    return subject_moments(sessions, target, series, centre=centre), centre


def _corrected_out_of_fold(corpus: Corpus, target: str, series: Series) -> Series:
    """Return the predictions of the training sessions, each corrected by what others teach."""
    sessions = corpus.partition("train")
    subjects = sorted({session.subject for session in sessions})
    corrections = corrections_without_each(*_sums(corpus, target, series))
    of_subject = dict(zip(subjects, corrections, strict=True))
    return [
        of_subject[session.subject].apply(predictions)
        for session, predictions in zip(sessions, series, strict=True)
    ]


def _calibrated_band(
    corpus: Corpus, target: str, ensembles: TargetEnsembles, fused: Series
) -> BandCalibration | None:
    """Calibrate the band of a target on the training subjects: neither devel nor test is read."""
    unimodal, errors = ensembles.unimodal_predictions(), ensembles.reconstruction_errors()
    labels: dict[str, list[NDArray[np.float64]]] = {}
    predictions: dict[str, list[NDArray[np.float64]]] = {}
    inputs: dict[str, list[NDArray[np.float64]]] = {}

    for session, values in zip(corpus.partition("train"), fused, strict=True):
        name, subject = session.session_id, session.subject
        is_known = np.isfinite(session.labels[target]) & np.isfinite(values)
        labels.setdefault(subject, []).append(session.labels[target][is_known])
        predictions.setdefault(subject, []).append(values[is_known])
        all_inputs = sigma_inputs(errors[name], unimodal[name])
        inputs.setdefault(subject, []).append(all_inputs[is_known])

    return calibrate(
        [
            CalibrationPerson(
                np.concatenate(labels[subject]),
                np.concatenate(predictions[subject]),
                np.concatenate(inputs[subject]),
            )
            for subject in sorted(labels)
        ]
    )


def _out_of_fold_scores(
    corpus: Corpus,
    plan: CrossFitPlan,
    target: str,
    ensembles: TargetEnsembles,
    weights: Mapping[str, float],
    fused: Mapping[str, Series],
) -> dict[str, Scores]:
    """Return the CCC, with its parts and intervals, on training subjects, out of fold.

    Each is predicted by models that held it out. There are more of them than in devel, and no fit
    was stopped by them. A modality's prediction for a subject owes nothing to that subject's
    labels. The fusions' does, at second hand: a fold's fusion learned from predictions for other
    subjects by regressors that had seen this one. It is optimistic here; on devel and test it is
    not.

    Args:
        corpus: whose training sessions are scored.
        target: what is predicted.
        ensembles: of the target.
        weights: modality -> its weight in the weighted mean.
        fused: variant -> its predictions of the training sessions; a correction of a subject's
            was learned from other subjects.

    Returns:
        Name of the prediction -> its score and interval.
    """
    sessions = corpus.partition("train")
    session_ids = [session.session_id for session in sessions]
    unimodal = ensembles.unimodal_predictions()

    predictions: dict[str, Sequence[NDArray[np.floating[Any]]]] = dict(fused)

    for key, floor_series in _floor_series(ensembles, weights, session_ids).items():
        predictions[FLOORS[key]] = floor_series
    for key, series in held_out_label_floors(corpus, plan, target).items():
        predictions[LABEL_FLOORS[key]] = series
    for column, modality in enumerate(weights):
        predictions[modality] = [unimodal[name][:, column] for name in session_ids]

    return {
        name: session_parts(sessions, target, series).to_json()
        for name, series in predictions.items()
    }


def _difficulty_references(corpus: Corpus, ensemble: Ensemble) -> list[float]:
    train = corpus.partition("train")
    return reference_percentiles([ensemble.outputs[session.session_id] for session in train])


def _difficulty_spearman(
    corpus: Corpus, target: str, ensembles: TargetEnsembles
) -> dict[str, float | None]:
    """Return whether difficulty says where a modality errs: rank correlation over training frames.

    Returns:
        Modality -> correlation; None where undefined.
    """
    train = corpus.partition("train")
    correlations: dict[str, float | None] = {}

    for modality, regressor in ensembles.regressors.items():
        errors = ensembles.auto_encoders[modality].outputs
        residuals = [
            regressor.outputs[session.session_id][:, 0] - session.labels[target]
            for session in train
        ]
        rho = spearman([errors[session.session_id][:, 0] for session in train], residuals)
        correlations[modality] = rho if np.isfinite(rho) else None

    return correlations
