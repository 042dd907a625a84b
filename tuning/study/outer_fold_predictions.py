"""What winner, default and floors predict for people set apart, and the files that keep it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.errors import AffectuneError
from pipeline.evaluation.paired_scores import Predictions
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.stages.fusion import FLOORS
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.csv_text import csv_text
from tuning.report.nested_scores import BEST_MODALITY, DEFAULT, WINNER

FRAME_COLUMNS = ("timestamp", "segment_id")


def best_modality(default: FusedModel, target: str) -> str:
    """Return the modality that predicts a target best, by the people that the default trained on.

    By its score out of fold; with `in_sample`, where there is none, by devel.
    """
    scores: Mapping[str, float | None] = default.floor_weights[target]
    if target in default.out_of_fold:
        scores = {name: score["ccc"] for name, score in default.out_of_fold[target].items()}

    def score_of(modality: str) -> float:
        score = scores[modality]
        return float("-inf") if score is None else score

    return max(default.fusion_modalities[target], key=score_of)


def predict_set_apart(
    winner: FusedModel,
    default: FusedModel,
    modalities: Mapping[str, str],
    sessions: Sequence[Session],
    device: str,
) -> Predictions:
    """Return what all predictors make of the people set apart.

    Args:
        winner: the model that the study found.
        default: the study's own settings, trained on the same people.
        modalities: target -> the modality of the default that predicts it alone.
        sessions: of the people set apart.
        device: "cpu" or "cuda".

    Returns:
        Target -> "winner" and "default", the floors of each ("winner mean"), "best modality".
    """
    predicted = {
        name: model.predict_sessions(sessions, device=device)
        for name, model in ((WINNER, winner), (DEFAULT, default))
    }

    by_target: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for target in winner.targets:
        series = by_target[target] = {}
        for name, predictions in predicted.items():
            series[name] = [each.values[target] for each in predictions]
            for floor, title in FLOORS.items():
                series[f"{name} {title}"] = [each.floors[target][floor] for each in predictions]
        series[BEST_MODALITY] = _unimodal(predicted[DEFAULT], target, modalities[target])
    return by_target


def write_predictions(
    folder: Path,
    sessions: Sequence[Session],
    predictions: Mapping[str, Sequence[NDArray[np.float64]]],
) -> None:
    """Write `<session>.csv` for each session: a column per prediction, in the label's unit.

    Raises:
        AffectuneError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, session in enumerate(sessions):
        frames = (session.timestamps_ms, session.segment_ids)
        columns: dict[str, Iterable[object]] = dict(zip(FRAME_COLUMNS, frames, strict=True))
        columns |= {name: series[number] for name, series in predictions.items()}
        write_atomically(folder / f"{session.session_id}.csv", csv_text(columns))


def read_predictions(
    folder: Path, sessions: Sequence[Session]
) -> dict[str, list[NDArray[np.float64]]]:
    """Return prediction -> one series per session, as `write_predictions` wrote them.

    Raises:
        AffectuneError: a file is missing, or no longer what was written.
    """
    series: dict[str, list[NDArray[np.float64]]] = {}
    for session in sessions:
        path = folder / f"{session.session_id}.csv"
        try:
            table = pd.read_csv(path, dtype={"segment_id": str})
        except (OSError, ValueError) as error:
            raise AffectuneError(
                f"Cannot read the predictions '{path}': {error}. "
                f"Remove '{folder.parent.parent}', and run the same command again: trained stages "
                "are reused."
            ) from error
        for name in table.columns.drop(list(FRAME_COLUMNS)):
            series.setdefault(name, []).append(table[name].to_numpy(dtype=np.float64))
    return series


def _unimodal(
    predictions: Sequence[Prediction], target: str, modality: str
) -> list[NDArray[np.float64]]:
    return [prediction.unimodal[target][modality] for prediction in predictions]
