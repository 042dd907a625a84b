"""What an evaluation of a winner would say, without a winner: sessions and predictions from a seed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np

from pipeline.corpus import Session
from pipeline.evaluation.evaluate import Evaluation, TargetEvaluation
from pipeline.metrics.bootstrap import Score, bootstrap, subject_moments
from pipeline.model.fused_model import Difficulty, FusedModel, Prediction
from pipeline.stages.fusion import FUSION, WITHOUT

NAMES = (FUSION, WITHOUT, "mean", "weighted mean")


def evaluation(
    modalities: tuple[str, ...] = ("pupil", "gaze", "head"),
    targets: tuple[str, ...] = ("arousal", "valence"),
    *,
    sessions: int = 12,
    frames: int = 120,
    prefix: str = "P",
) -> Evaluation:
    """Six devel subjects; the first session of the last target has a constant label, and a modality is missing once."""
    random = np.random.default_rng(0)
    made = [
        _session(f"{prefix}{n:02d}", f"S{n % 6}", targets, frames, random) for n in range(sessions)
    ]
    predictions = [_prediction(session, modalities, targets, random) for session in made]
    found = {target: _target(target, made, predictions) for target in targets}
    return Evaluation("devel", found, tuple(made), tuple(predictions))


def model_of(found: Evaluation) -> FusedModel:
    """Only what a report reads of a model."""
    out_of_fold = {
        target: {
            name: Score(score.ccc - 0.1, score.low - 0.1, score.high - 0.1).to_json()
            for name, score in e.scores.items()
        }
        for target, e in found.targets.items()
    }
    return cast(FusedModel, SimpleNamespace(out_of_fold=out_of_fold))


def _session(
    name: str, subject: str, targets: tuple[str, ...], frames: int, random: np.random.Generator
) -> Session:
    labels = {target: np.cumsum(random.normal(size=frames)) / 6 for target in targets}
    if name.endswith("00"):
        labels[targets[-1]] = np.zeros(frames)
    return Session(
        session_id=name,
        subject=subject,
        partition="devel",
        timestamps_ms=np.arange(frames, dtype=np.int64) * 500,
        segment_ids=np.full(frames, "1"),
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
    frames = len(session.timestamps_ms)

    def near(target: str, noise: float) -> np.ndarray:
        return 0.6 * session.labels[target] + noise * np.convolve(
            random.normal(size=frames), np.ones(9) / 9, "same"
        )

    percentile = {
        modality: np.clip(50 + 30 * random.normal(size=frames), 0, 100) for modality in modalities
    }
    percentile[modalities[0]][:20] = np.nan
    return Prediction(
        timestamps_ms=session.timestamps_ms,
        values={target: near(target, 0.8) for target in targets},
        difficulty={
            modality: Difficulty(percentile[modality] / 100, percentile[modality])
            for modality in modalities
        },
        unimodal={
            target: {modality: near(target, 1.6) for modality in modalities} for target in targets
        },
        floors={
            target: {"mean": near(target, 0.9), "weighted_mean": near(target, 0.9)}
            for target in targets
        },
        without_difficulty={target: near(target, 0.8) for target in targets},
    )


def _target(
    target: str, sessions: list[Session], predictions: list[Prediction]
) -> TargetEvaluation:
    ways = {
        FUSION: [p.values[target] for p in predictions],
        WITHOUT: [p.without_difficulty[target] for p in predictions],
        "mean": [p.floors[target]["mean"] for p in predictions],
        "weighted mean": [p.floors[target]["weighted_mean"] for p in predictions],
    }
    for modality in predictions[0].unimodal[target]:
        ways[modality] = [p.unimodal[target][modality] for p in predictions]
    sums = {name: subject_moments(sessions, target, series) for name, series in ways.items()}
    own = {s.session_id: float(np.corrcoef(s.labels[target], p)[0, 1]) if np.ptp(s.labels[target]) else float("nan")
           for s, p in zip(sessions, ways[FUSION], strict=True)}  # fmt: skip
    return TargetEvaluation(
        scores={name: bootstrap(found) for name, found in sums.items()},
        differences={
            name: bootstrap(sums[FUSION], found) for name, found in sums.items() if name != FUSION
        },
        session_mean_ccc=0.5,
        undefined_sessions=sum(np.isnan(value) for value in own.values()),
        frames=sum(len(s.timestamps_ms) for s in sessions),
        sessions=len(sessions),
        subjects=len({s.subject for s in sessions}),
        difficulty_spearman=dict.fromkeys(predictions[0].difficulty, 0.1),
        session_ccc=own,
    )
