"""How good a model is on a partition: CCCs with intervals over subjects, beside its floors.

Knows no files and no command line: what it returns is printed, drawn and written elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Partition, Session
from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError
from pipeline.evaluation.band_evaluation import BandEvaluation, evaluate_bands
from pipeline.evaluation.label_rows import at_label_rows
from pipeline.metrics.bootstrap import Score, paired_difference, subject_moments
from pipeline.metrics.ccc import ccc_from_moments
from pipeline.metrics.session_parts import (
    SessionParts,
    label_variance_between_sessions,
    session_parts,
)
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.preprocessing.columns import ColumnMistake, column_order
from pipeline.preprocessing.corruption import Corruption
from pipeline.stages.difficulty import spearman
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import LABEL_FLOORS
from pipeline.stages.requirements import raise_if_wrong

Series = Sequence[NDArray[np.float64]]
"""One prediction of every session, each of shape (frames,)."""

PERIOD_RATIOS = (0.9, 1.1)
"""Between which ratios two frame periods count as the same."""


@dataclass(frozen=True, repr=False)
class TargetEvaluation:
    """How good a model predicts one target on one partition.

    Attributes:
        scores: prediction -> its score. Predictions are "fusion", "without difficulty" (the fusion
            that reads none, where there is one), the floors, and each modality that the fusion
            reads. The floors of labels are absent for a bundle that has none, "stimulus alone" also
            where no session's stimulus was seen in training.
        between: prediction -> its CCC between sessions (see `session_parts`).
        within: prediction -> its CCC within sessions.
        label_variance_between_sessions: share of the label's variance, 0 to 1; NaN where undefined.
        differences: every other prediction -> the fusion's CCC minus its, as a paired bootstrap.
        session_mean_ccc: mean over the sessions whose CCC is defined.
        undefined_sessions: sessions with a constant label, whose CCC is undefined. Their frames
            count in the pooled one.
        frames: labelled frames.
        sessions: labelled sessions.
        subjects: subjects of the labelled sessions.
        difficulty_spearman: modality -> rank correlation of the reconstruction error at a frame
            with the absolute error of the unimodal prediction there.
        session_ccc: id of a labelled session -> the CCC of its fused prediction.
        bands: what the bands cover; None where the model has none.
        mean_weights: modality -> how much its prediction is trusted, 0 to 1, as a mean over the
            labelled frames at which any modality has a prediction; NaN where there are none. None
            if the fusion has no gate.
    """

    scores: Mapping[str, Score]
    between: Mapping[str, Score]
    within: Mapping[str, Score]
    label_variance_between_sessions: float
    differences: Mapping[str, Score]
    session_mean_ccc: float
    undefined_sessions: int
    frames: int
    sessions: int
    subjects: int
    difficulty_spearman: Mapping[str, float]
    session_ccc: Mapping[str, float]
    bands: BandEvaluation | None = None
    mean_weights: Mapping[str, float] | None = None

    def __repr__(self) -> str:
        return short_repr(
            self,
            fusion=str(self.fusion),
            frames=self.frames,
            sessions=self.sessions,
            subjects=self.subjects,
        )

    @property
    def fusion(self) -> Score:
        """Return the score of the model's own prediction."""
        return self.scores[FUSION]

    @property
    def floors(self) -> dict[str, Score]:
        """Return what the fusion has to beat: "mean", "weighted mean", "time alone" and so on."""
        names = (FLOORS | LABEL_FLOORS).values()
        return {name: self.scores[name] for name in names if name in self.scores}

    @property
    def unimodal(self) -> dict[str, Score]:
        """Return the score of what each modality alone predicts."""
        named = {FUSION, WITHOUT_DIFFICULTY, *self.floors}
        return {name: score for name, score in self.scores.items() if name not in named}

    def to_json(self) -> dict[str, Any]:
        """Return the target's part of `Evaluation.to_json`."""
        floors = FLOORS | LABEL_FLOORS
        without = self.scores.get(WITHOUT_DIFFICULTY)
        parts = {
            name: SessionParts(score, self.between[name], self.within[name]).to_json()
            for name, score in self.scores.items()
        }

        return {
            **parts[FUSION],
            "label_variance_between_sessions": _to_number(self.label_variance_between_sessions),
            "session_mean_ccc": _to_number(self.session_mean_ccc),
            "undefined_sessions": self.undefined_sessions,
            "frames": self.frames,
            "sessions": self.sessions,
            "subjects": self.subjects,
            "floors": {
                key: _to_number(self.scores[name].ccc)
                for key, name in floors.items()
                if name in self.scores
            },
            "unimodal": {
                modality: _to_number(score.ccc) for modality, score in self.unimodal.items()
            },
            "without_difficulty": None if without is None else _to_number(without.ccc),
            "predictions": parts,
            "bands": None if self.bands is None else self.bands.to_json(),
            "mean_weights": None
            if self.mean_weights is None
            else {modality: _to_number(mean) for modality, mean in self.mean_weights.items()},
        }


@dataclass(frozen=True, repr=False)
class Evaluation:
    """All targets on one partition, and the predictions they were computed from.

    Attributes:
        partition: which one.
        targets: target -> how good it is predicted.
        sessions: those with a label of any target, corrupted if the evaluation was.
        predictions: one per session.
        corruptions: what was done to the sessions first, such as ("head=noise:1.0",).
    """

    partition: Partition
    targets: Mapping[str, TargetEvaluation]
    sessions: tuple[Session, ...]
    predictions: tuple[Prediction, ...]
    corruptions: tuple[str, ...] = ()

    @property
    def data(self) -> str:
        """Return what was predicted, for titles: "devel", or "devel corrupted by head=drop"."""
        if not self.corruptions:
            return self.partition
        return f"{self.partition} corrupted by {' and '.join(self.corruptions)}"

    def __repr__(self) -> str:
        return short_repr(self, data=self.data, targets=tuple(self.targets))

    def to_json(self, model: str) -> dict[str, Any]:
        """Return what `affectune evaluate --json` prints; what is undefined is None.

        Args:
            model: the model's name, as it was given.
        """
        targets = {target: scores.to_json() for target, scores in self.targets.items()}
        record = {"model": model, "partition": self.partition, "targets": targets}
        if not self.corruptions:
            return record

        note = f"These are scores on {self.data}: not on the sessions as they were recorded."
        return record | {"corrupt": list(self.corruptions), "note": note}


def evaluate(
    model: FusedModel,
    corpus: Corpus,
    partition: Partition = "devel",
    *,
    corrupt: Callable[[Session], Session] | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Predict the sessions of a partition, and compare the predictions with the labels.

    Args:
        model: what is evaluated.
        corpus: read with the model's modalities and targets.
        partition: which sessions to predict; those without any label are left out.
        corrupt: applied to every session first; what it freezes is then missing to the model. All
            titles name it.
        device: "cpu" or "cuda".

    Raises:
        InputError: the corpus is not one that the model can read, reading it found an error, or the
            partition has no labels.
    """
    corpus = as_model_reads(model, corpus)
    raise_if_wrong(corpus)
    labelled = [
        session
        for session in corpus.partition(partition)
        if any(_is_labelled(session, target) for target in model.targets)
    ]
    if not labelled:
        raise InputError(
            f"Corpus {corpus.name!r}: no {partition} session has labels to compare with. "
            "Use `predict` instead."
        )

    sessions = tuple(corrupt(session) if corrupt else session for session in labelled)
    predictions = tuple(model.predict_sessions(sessions, device=device))
    targets = {
        target: _evaluate_target(model, target, *at_label_rows(target, sessions, predictions))
        for target in model.targets
    }
    return Evaluation(partition, targets, sessions, predictions, _texts(corrupt))


def _texts(corrupt: Callable[[Session], Session] | None) -> tuple[str, ...]:
    """Return what a corruption is called."""
    if corrupt is None:
        return ()
    return corrupt.texts if isinstance(corrupt, Corruption) else ("a function",)


def score_table(evaluation: Evaluation) -> Mapping[str, list[tuple[str, str, str]]]:
    """Return the scores as text: target -> rows of prediction, CCC, and fusion minus it.

    The last two have the form "CCC [low, high]"; the last one is empty for the fusion itself.
    """
    return {target: _score_rows(scores) for target, scores in evaluation.targets.items()}


def session_score_table(evaluation: Evaluation) -> Mapping[str, list[tuple[str, str, str]]]:
    """Return the parts of the scores as text: target -> rows of prediction, between, within.

    The last two are CCCs between and within sessions, of the form "CCC [low, high]".
    """
    return {
        target: [
            (name, str(scores.between[name]), str(scores.within[name])) for name in scores.scores
        ]
        for target, scores in evaluation.targets.items()
    }


def session_score_title(evaluation: Evaluation, target: str) -> str:
    """Return what stands above a target's rows of `session_score_table`."""
    share = evaluation.targets[target].label_variance_between_sessions
    if not np.isfinite(share):
        return f"{target} on {evaluation.data}, between and within sessions"
    return f"{target} on {evaluation.data}: {share:.0%} of its variance between sessions"


def counts_text(evaluated: TargetEvaluation) -> str:
    """Return what was scored, such as "240 frames of 2 sessions, 1 subject"."""
    sessions, subjects = evaluated.sessions, evaluated.subjects
    return (
        f"{evaluated.frames:,} frames of {sessions} session{'s' if sessions != 1 else ''}, "
        f"{subjects} subject{'s' if subjects != 1 else ''}"
    )


def interval_note(evaluated: TargetEvaluation) -> str:
    """Return why scores have no interval, as a sentence; "" where they have one."""
    if evaluated.subjects != 1:
        return ""
    return "All sessions are of one person, so there are no intervals: they would be over people."


def text_of(value: float) -> str:
    """Return a score without an interval as text, such as "0.512"; "undefined" where it is NaN."""
    return f"{value:z.3f}" if np.isfinite(value) else "undefined"


def raise_if_incompatible(model: FusedModel, corpus: Corpus) -> None:
    """Refuse a corpus that differs from what the model was trained on.

    Args:
        model: what is to read the corpus.
        corpus: its columns and frame period are compared with the model's, columns by the rule of
            `preprocessing.columns`.

    Raises:
        InputError: another frame rate, a modality is missing, or its columns are others.
    """
    lowest, highest = PERIOD_RATIOS
    if not lowest < corpus.frame_period_ms / model.frame_period_ms < highest:
        raise InputError(
            f"Corpus {corpus.name!r} has a frame every {corpus.frame_period_ms:g} ms; "
            f"the model learned from one every {model.frame_period_ms:g} ms."
        )

    for modality, columns in model.columns.items():
        if modality not in corpus.columns:
            raise InputError(
                f"The model reads {modality!r}, which corpus {corpus.name!r} does not have."
            )
        _column_order(modality, columns, corpus)


def as_model_reads(model: FusedModel, corpus: Corpus) -> Corpus:
    """Return the corpus with its columns in the model's order.

    Raises:
        InputError: see `raise_if_incompatible`.
    """
    raise_if_incompatible(model, corpus)
    orders = {
        modality: _column_order(modality, columns, corpus)
        for modality, columns in model.columns.items()
    }
    changed = {m: order for m, order in orders.items() if order != list(range(len(order)))}
    if not changed:
        return corpus

    sessions = []
    for session in corpus.sessions:
        rearranged = {m: session.features[m][:, order] for m, order in changed.items()}
        sessions.append(replace(session, features={**session.features, **rearranged}))
    return replace(corpus, columns={**corpus.columns, **model.columns}, sessions=tuple(sessions))


def _column_order(modality: str, expected: Sequence[str], corpus: Corpus) -> list[int]:
    columns = corpus.columns[modality]
    try:
        return column_order(expected, columns)
    except ColumnMistake as mistake:
        count = ""
        if len(columns) != len(expected):
            count = f" has {len(columns)} columns, the model reads {len(expected)}"
        raise InputError(f"{modality!r}{count} in corpus {corpus.name!r}: {mistake}.") from None


def _evaluate_target(
    model: FusedModel, target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> TargetEvaluation:
    series = _predicted_series(model, target, sessions, predictions)
    parts = {name: session_parts(sessions, target, values) for name, values in series.items()}
    differences = {
        name: paired_difference(sessions, target, series[FUSION], values)
        for name, values in series.items()
        if name != FUSION
    }

    session_ccc = {
        session.session_id: _session_ccc(session, target, values)
        for session, values in zip(sessions, series[FUSION], strict=True)
        if _is_labelled(session, target)
    }
    defined = [coefficient for coefficient in session_ccc.values() if np.isfinite(coefficient)]
    subjects = {session.subject for session in sessions if session.session_id in session_ccc}

    return TargetEvaluation(
        scores={name: part.pooled for name, part in parts.items()},
        between={name: part.between for name, part in parts.items()},
        within={name: part.within for name, part in parts.items()},
        label_variance_between_sessions=label_variance_between_sessions(sessions, target),
        differences=differences,
        session_mean_ccc=float(np.mean(defined)) if defined else float("nan"),
        undefined_sessions=len(session_ccc) - len(defined),
        frames=_num_frames(sessions, target, series[FUSION]),
        sessions=len(session_ccc),
        subjects=len(subjects),
        difficulty_spearman={
            modality: _difficulty_spearman(modality, target, sessions, predictions)
            for modality in model.fusion_modalities[target]
        },
        session_ccc=session_ccc,
        bands=_evaluate_bands(model, target, sessions, predictions),
        mean_weights=_mean_weights(target, sessions, predictions),
    )


def _evaluate_bands(
    model: FusedModel, target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> BandEvaluation | None:
    calibration = model.bands.get(target)
    if calibration is None:
        return None
    bands = [prediction.bands[target] for prediction in predictions]
    constant_bands = [calibration.constant_band(each.values[target]) for each in predictions]
    return evaluate_bands(sessions, target, calibration.level, bands, constant_bands)


def _predicted_series(
    model: FusedModel, target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> dict[str, Series]:
    """Return every prediction of a target, by the name that scores have."""
    series: dict[str, Series] = {FUSION: [each.values[target] for each in predictions]}
    if target in model.fusions_without_difficulty:
        series[WITHOUT_DIFFICULTY] = [each.without_difficulty[target] for each in predictions]

    for floor, name in FLOORS.items():
        series[name] = [each.floors[target][floor] for each in predictions]

    if model.label_floors is not None:
        for floor, values in model.label_floors.predict(sessions, target).items():
            series[LABEL_FLOORS[floor]] = values

    for modality in model.fusion_modalities[target]:
        series[modality] = [each.unimodal[target][modality] for each in predictions]

    return series


def _session_ccc(session: Session, target: str, prediction: NDArray[np.float64]) -> float:
    """Return the CCC of one session.

    It is NaN where the label is constant: `ccc` would give 0 for any prediction, however good.
    """
    labels = session.labels[target]
    if np.ptp(labels[np.isfinite(labels)]) == 0:
        return float("nan")

    (sums,) = subject_moments([session], target, [prediction])
    return float(ccc_from_moments(sums))


def _difficulty_spearman(
    modality: str, target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> float:
    errors, residuals = [], []
    for session, prediction in zip(sessions, predictions, strict=True):
        errors.append(prediction.difficulty[modality].error)
        residuals.append(prediction.unimodal[target][modality] - session.labels[target])

    return spearman(errors, residuals)


def _num_frames(sessions: Sequence[Session], target: str, predictions: Series) -> int:
    """Return how many frames have a label and a prediction."""
    pairs = zip(sessions, predictions, strict=True)
    return sum(
        int((np.isfinite(session.labels[target]) & np.isfinite(values)).sum())
        for session, values in pairs
    )


def _mean_weights(
    target: str, sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> dict[str, float] | None:
    """Return each modality's mean weight, see `TargetEvaluation`; None without a gate."""
    if target not in predictions[0].weights:
        return None

    series = [prediction.weights[target] for prediction in predictions]
    weights = {
        modality: np.concatenate([each[modality] for each in series]) for modality in series[0]
    }
    is_labelled = np.isfinite(np.concatenate([session.labels[target] for session in sessions]))
    is_counted = is_labelled & (sum(weights.values()) > 0)
    return {
        modality: float(values[is_counted].mean()) if is_counted.any() else float("nan")
        for modality, values in weights.items()
    }


def _is_labelled(session: Session, target: str) -> bool:
    return bool(np.isfinite(session.labels[target]).any())


def _score_rows(evaluation: TargetEvaluation) -> list[tuple[str, str, str]]:
    rows = []
    for name, score in evaluation.scores.items():
        gap = ""
        if name != FUSION:
            gap = evaluation.differences[name].with_sign()
        rows.append((name, str(score), gap))

    return rows


def _to_number(value: float) -> float | None:
    """Return a number that JSON can hold; None where it is not finite."""
    return float(value) if np.isfinite(value) else None
