"""How good a model is on a partition: CCC with intervals from a bootstrap of subjects, beside its floors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Partition, Session
from pipeline.errors import InputError
from pipeline.metrics.bootstrap import Score, bootstrap, subject_moments
from pipeline.metrics.ccc import ccc_from_moments
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.stages.difficulty import spearman
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT


@dataclass(frozen=True)
class TargetEvaluation:
    """What was found for one target.

    Attributes:
        scores: "fusion", "without difficulty" (the fusion that reads none, where there is one), the floors and each
            modality that the fusion reads -> its score.
        differences: the same names -> fusion minus that one, as a paired bootstrap of the same subjects.
        session_mean_ccc: mean of the sessions' own CCCs, where defined.
        undefined_sessions: sessions whose own CCC is undefined (a constant label); they count in the pooled one.
        difficulty_spearman: modality -> rank correlation of its `Prediction.difficulty` with its own prediction's
            absolute error.
        session_ccc: session id -> the fused prediction's CCC.
    """

    scores: Mapping[str, Score]
    differences: Mapping[str, Score]
    session_mean_ccc: float
    undefined_sessions: int
    frames: int
    sessions: int
    subjects: int
    difficulty_spearman: Mapping[str, float]
    session_ccc: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All targets on one partition, and the predictions they were computed from."""

    partition: Partition
    targets: Mapping[str, TargetEvaluation]
    sessions: tuple[Session, ...]
    predictions: tuple[Prediction, ...]

    def to_json(self, model: str) -> dict[str, Any]:
        """The object that `affectune evaluate --json` prints; what does not exist is None."""
        return {"model": model, "partition": self.partition} | {
            "targets": {target: _target_json(found) for target, found in self.targets.items()}
        }


def evaluate(
    model: FusedModel,
    corpus: Corpus,
    partition: Partition = "devel",
    *,
    corrupt: Callable[[Session], Session] | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Predict a partition's sessions and compare with their labels.

    Args:
        model: reads the corpus's feature sets.
        corpus: read with the model's feature sets and targets.
        corrupt: applied to every session first.

    Raises:
        InputError: the corpus does not fit the model, or the partition has no labels.
    """
    check_fits(model, corpus)
    labelled = [
        session
        for session in corpus.partition(partition)
        if any(np.isfinite(session.labels[target]).any() for target in model.targets)
    ]
    if not labelled:
        raise InputError(
            f"Corpus {corpus.name!r}: no {partition} session has labels to compare with. Use `predict` instead."
        )
    sessions = tuple(corrupt(session) if corrupt else session for session in labelled)
    predictions = tuple(model.predict_sessions(sessions, device=device))
    targets = {
        target: _evaluate_target(model, target, sessions, predictions) for target in model.targets
    }
    return Evaluation(partition, targets, sessions, predictions)


def score_table(evaluation: Evaluation) -> Mapping[str, list[tuple[str, str, str]]]:
    """Target -> rows of (name, "CCC [low, high]", "fusion minus it [low, high]")."""
    return {
        target: [
            (
                name,
                str(score),
                ""
                if name == FUSION
                else f"{(gap := found.differences[name]).ccc:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]",
            )
            for name, score in found.scores.items()
        ]
        for target, found in evaluation.targets.items()
    }


def check_fits(model: FusedModel, corpus: Corpus) -> None:
    """Refuse a corpus whose columns are not those the model was trained on.

    Raises:
        InputError: another frame rate, a feature set missing, or other columns.
    """
    if not 0.9 < corpus.frame_period_ms / model.frame_period_ms < 1.1:
        raise InputError(
            f"Corpus {corpus.name!r} has a frame every {corpus.frame_period_ms:g} ms; the model learned from one every "
            f"{model.frame_period_ms:g} ms."
        )
    for modality, columns in model.columns.items():
        if modality not in corpus.columns:
            raise InputError(
                f"The model reads {modality!r}, which corpus {corpus.name!r} does not have."
            )
        found = corpus.columns[modality]
        if len(found) != len(columns):
            raise InputError(
                f"{modality!r} has {len(found)} columns in corpus {corpus.name!r}; the model reads {len(columns)}."
            )
        wrong = [
            (ours, theirs) for ours, theirs in zip(columns, found, strict=True) if ours != theirs
        ]
        # Numbered columns are read by position: real files of one set start at 0 or at 1.
        if wrong and not all(name.isdigit() for pair in wrong for name in pair):
            raise InputError(
                f"{modality!r}: column {wrong[0][1]!r} of corpus {corpus.name!r} stands where the model reads "
                f"{wrong[0][0]!r}."
            )


def _evaluate_target(
    model: FusedModel, target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> TargetEvaluation:
    ways = {FUSION: [prediction.values[target] for prediction in predictions]}
    if target in model.fusions_without_difficulty:
        ways[WITHOUT] = [prediction.without_difficulty[target] for prediction in predictions]
    for floor, name in FLOORS.items():
        ways[name] = [prediction.floors[target][floor] for prediction in predictions]
    for modality in model.fusion_modalities[target]:
        ways[modality] = [prediction.unimodal[target][modality] for prediction in predictions]
    sums = {name: subject_moments(sessions, target, series) for name, series in ways.items()}
    by_session = {
        session.session_id: _session_ccc(session, target, values)
        for session, values in zip(sessions, ways[FUSION], strict=True)
        if np.isfinite(session.labels[target]).any()
    }
    defined = [value for value in by_session.values() if np.isfinite(value)]
    return TargetEvaluation(
        scores={name: bootstrap(found) for name, found in sums.items()},
        differences={
            name: _difference(sessions, target, ways[FUSION], series)
            for name, series in ways.items()
            if name != FUSION
        },
        session_mean_ccc=float(np.mean(defined)) if defined else float("nan"),
        undefined_sessions=len(by_session) - len(defined),
        frames=int(sums[FUSION][:, 0].sum()),
        sessions=len(by_session),
        subjects=len({session.subject for session in sessions if session.session_id in by_session}),
        difficulty_spearman={
            modality: spearman(
                [prediction.difficulty[modality].error for prediction in predictions],
                [
                    prediction.unimodal[target][modality] - session.labels[target]
                    for session, prediction in zip(sessions, predictions, strict=True)
                ],
            )
            for modality in model.fusion_modalities[target]
        },
        session_ccc=by_session,
    )


def _difference(
    sessions: Sequence[Session],
    target: str,
    one: Sequence[NDArray[np.float64]],
    other: Sequence[NDArray[np.float64]],
) -> Score:
    """One prediction's CCC minus another's, on the frames that both have."""
    common = [np.isfinite(a) & np.isfinite(b) for a, b in zip(one, other, strict=True)]
    sums = [
        subject_moments(
            sessions,
            target,
            [np.where(use, a, np.nan) for use, a in zip(common, series, strict=True)],
        )
        for series in (one, other)
    ]
    return bootstrap(*sums)


def _session_ccc(session: Session, target: str, values: NDArray[np.float64]) -> float:
    """One session's CCC; NaN where its label is constant: a session without variation cannot be agreed with."""
    known = session.labels[target][np.isfinite(session.labels[target])]
    if np.ptp(known) == 0:
        return float("nan")
    return float(ccc_from_moments(subject_moments([session], target, [values])[0]))


def _target_json(found: TargetEvaluation) -> dict[str, Any]:
    fusion = found.scores[FUSION]
    named = [FUSION, WITHOUT, *FLOORS.values()]
    return {
        **fusion.to_json(),
        "session_mean_ccc": _number(found.session_mean_ccc),
        "undefined_sessions": found.undefined_sessions,
        "frames": found.frames,
        "sessions": found.sessions,
        "subjects": found.subjects,
        "floors": {floor: _number(found.scores[name].ccc) for floor, name in FLOORS.items()},
        "unimodal": {
            name: _number(score.ccc) for name, score in found.scores.items() if name not in named
        },
        "without_difficulty": _number(found.scores[WITHOUT].ccc)
        if WITHOUT in found.scores
        else None,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
