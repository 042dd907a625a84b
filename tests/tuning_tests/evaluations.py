"""Fabricates the evaluation of a winner: sessions and predictions from a seed, without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.evaluation.evaluate import Evaluation, TargetEvaluation
from pipeline.metrics.bootstrap import Score, bootstrap, subject_moments
from pipeline.metrics.session_parts import label_variance_between_sessions, session_parts
from pipeline.model.fused_model import Difficulty, FusedModel, Prediction
from pipeline.stages.fusion import FUSION, WITHOUT_DIFFICULTY


def fabricate_evaluation(
    modalities: tuple[str, ...] = ("pupil", "gaze", "head"),
    targets: tuple[str, ...] = ("arousal", "valence"),
    *,
    num_sessions: int = 12,
    num_frames: int = 120,
    prefix: str = "P",
) -> Evaluation:
    """Return an evaluation of six devel subjects.

    The first session of the last target has a constant label, and the first modality is missing
    in the first frames of every session.

    Args:
        modalities: that the fusion reads.
        targets: that it predicts.
        num_sessions: of all subjects together.
        num_frames: of each session.
        prefix: of the names of sessions.
    """
    random = np.random.default_rng(0)
    sessions = [
        _session(f"{prefix}{number:02d}", f"S{number % 6}", targets, num_frames, random)
        for number in range(num_sessions)
    ]
    predictions = [_prediction(session, modalities, targets, random) for session in sessions]
    results = {target: _evaluate_target(target, sessions, predictions) for target in targets}
    return Evaluation("devel", results, tuple(sessions), tuple(predictions))


def fabricate_model(evaluation: Evaluation) -> FusedModel:
    """Return what a report reads of a model: out-of-fold scores, each 0.1 below that of devel."""
    out_of_fold: dict[str, dict[str, dict[str, float | None]]] = {}
    for target, result in evaluation.targets.items():
        out_of_fold[target] = {}
        for name, score in result.scores.items():
            lower = Score(score.ccc - 0.1, score.low - 0.1, score.high - 0.1)
            out_of_fold[target][name] = lower.to_json()
    return cast(FusedModel, SimpleNamespace(out_of_fold=out_of_fold))


def _session(
    name: str, subject: str, targets: tuple[str, ...], num_frames: int, random: np.random.Generator
) -> Session:
    labels = {target: np.cumsum(random.normal(size=num_frames)) / 6 for target in targets}
    if name.endswith("00"):
        labels[targets[-1]] = np.zeros(num_frames)

    return Session(
        session_id=name,
        subject=subject,
        partition="devel",
        timestamps_ms=np.arange(num_frames, dtype=np.int64) * 500,
        segment_ids=np.full(num_frames, "1"),
        features={},
        present={},
        labels=labels,
    )


def _prediction(
    session: Session,
    modalities: tuple[str, ...],
    targets: tuple[str, ...],
    random: np.random.Generator,
) -> Prediction:
    num_frames = len(session.timestamps_ms)

    def noisy_label(target: str, noise: float) -> NDArray[np.float64]:
        smooth = np.convolve(random.normal(size=num_frames), np.ones(9) / 9, "same")
        return 0.6 * session.labels[target] + noise * smooth

    difficulty = {}
    for modality in modalities:
        percentile = np.clip(50 + 30 * random.normal(size=num_frames), 0, 100)
        if modality == modalities[0]:
            percentile[:20] = np.nan
        difficulty[modality] = Difficulty(percentile / 100, percentile)

    values = {target: noisy_label(target, 0.8) for target in targets}
    unimodal: dict[str, dict[str, NDArray[np.float64]]] = {}
    floors = {}
    for target in targets:
        unimodal[target] = {modality: noisy_label(target, 1.6) for modality in modalities}
    for target in targets:
        floors[target] = {floor: noisy_label(target, 0.9) for floor in ("mean", "weighted_mean")}

    return Prediction(
        timestamps_ms=session.timestamps_ms,
        values=values,
        difficulty=difficulty,
        unimodal=unimodal,
        floors=floors,
        without_difficulty={target: noisy_label(target, 0.8) for target in targets},
    )


def _evaluate_target(
    target: str, sessions: list[Session], predictions: list[Prediction]
) -> TargetEvaluation:
    series = {
        FUSION: [prediction.values[target] for prediction in predictions],
        WITHOUT_DIFFICULTY: [prediction.without_difficulty[target] for prediction in predictions],
        "mean": [prediction.floors[target]["mean"] for prediction in predictions],
        "weighted mean": [prediction.floors[target]["weighted_mean"] for prediction in predictions],
    }
    for modality in predictions[0].unimodal[target]:
        series[modality] = [prediction.unimodal[target][modality] for prediction in predictions]

    parts = {name: session_parts(sessions, target, values) for name, values in series.items()}
    moments = {name: subject_moments(sessions, target, values) for name, values in series.items()}
    differences = {}
    for name in series:
        if name != FUSION:
            differences[name] = bootstrap(moments[FUSION], moments[name])

    session_ccc = {}
    for session, prediction in zip(sessions, series[FUSION], strict=True):
        label = session.labels[target]
        # A correlation stands in for the CCC: a report only prints it.
        is_constant = np.ptp(label) == 0
        ccc = float("nan") if is_constant else float(np.corrcoef(label, prediction)[0, 1])
        session_ccc[session.session_id] = ccc

    return TargetEvaluation(
        scores={name: part.pooled for name, part in parts.items()},
        between={name: part.between for name, part in parts.items()},
        within={name: part.within for name, part in parts.items()},
        label_variance_between_sessions=label_variance_between_sessions(sessions, target),
        differences=differences,
        session_mean_ccc=0.5,
        undefined_sessions=sum(np.isnan(ccc) for ccc in session_ccc.values()),
        frames=sum(len(session.timestamps_ms) for session in sessions),
        sessions=len(sessions),
        subjects=len({session.subject for session in sessions}),
        difficulty_spearman=dict.fromkeys(predictions[0].difficulty, 0.1),
        session_ccc=session_ccc,
    )
