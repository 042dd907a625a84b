"""What a study found, as rows for tables: the winner with its floors, finalists over seeds, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.evaluate import Evaluation
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT
from tuning.journal.events import Finalist
from tuning.journal.history import History
from tuning.report.comparisons import Mean
from tuning.report.search_trials import Searches
from tuning.spec.space import Value
from tuning.spec.tasks import Task

DEVEL, OUT_OF_FOLD = "devel", "out of fold"


@dataclass(frozen=True)
class Ranked:
    """A finalist as a row.

    Attributes:
        values: path -> value as text.
        deciding: mean over seeds of the score that decides.
    """

    rank: int
    values: Mapping[str, str]
    seeds: int
    deciding: Mean | None
    devel: Mean | None
    out_of_fold: Mean | None


@dataclass(frozen=True)
class Failure:
    """A trial that failed."""

    trial: str
    task: str
    purpose: str
    epochs: int
    cause: str
    values: str


def scores(
    history: History, evaluation: Evaluation | None, model: FusedModel | None
) -> dict[str, dict[str, dict[str, Score]]]:
    """Target -> "devel" and "out of fold" -> prediction -> CCC with its interval, as far as they are known.

    What the evaluation does not say is taken from the study's summary.
    """
    summary = history.finished.summary if history.finished is not None else {}
    devel = _devel(evaluation) if evaluation is not None else _from_summary(summary)
    held_out = model.out_of_fold if model is not None else summary.get("out_of_fold") or {}
    found: dict[str, dict[str, dict[str, Score]]] = {}
    for target, said in devel.items():
        found[target] = {DEVEL: said}
        if held_out.get(target):
            found[target][OUT_OF_FOLD] = {
                name: Score.from_json(each) for name, each in held_out[target].items()
            }
    return found


def finalists(searches: Searches) -> dict[Task, tuple[Ranked, ...]]:
    """Of every task that is settled; an auto-encoder's scores are reconstruction errors."""
    return {
        task: tuple(
            _ranked(task, rank, finalist)
            for rank, finalist in enumerate(searches.history.settled[task], 1)
        )
        for task in searches.tasks
        if task in searches.history.settled
    }


def best_of_each(ranked: Mapping[Task, tuple[Ranked, ...]]) -> dict[str, dict[str, Ranked]]:
    """Modality, or "fusion" -> target -> the best finalist."""
    found: dict[str, dict[str, Ranked]] = {}
    for task, rows in ranked.items():
        if task.target:
            found.setdefault(task.modality or FUSION, {})[task.target] = rows[0]
    return found


def failures(history: History) -> list[Failure]:
    """Trials that failed, in order."""
    return [
        Failure(
            trial=trial.name,
            task=str(trial.task),
            purpose=trial.proposed.purpose,
            epochs=trial.ended.epochs,
            cause=trial.ended.error or "unknown",
            values=", ".join(
                f"{path} = {value_text(value)}" for path, value in trial.proposed.values.items()
            ),
        )
        for trial in history.trials.values()
        if trial.ended is not None and trial.ended.reason == "error"
    ]


def value_text(value: Value) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace(",", ", ")


def _ranked(task: Task, rank: int, finalist: Finalist) -> Ranked:
    sign = 1.0 if task.target else -1.0
    return Ranked(
        rank=rank,
        values={path: value_text(value) for path, value in finalist.values.items()},
        seeds=len(finalist.scores),
        deciding=Mean.of([sign * score for score in finalist.scores]),
        devel=Mean.of([sign * score for score in finalist.devel]),
        out_of_fold=Mean.of([sign * score for score in finalist.out_of_fold if score is not None]),
    )


def _devel(evaluation: Evaluation) -> dict[str, dict[str, Score]]:
    return {target: dict(found.scores) for target, found in evaluation.targets.items()}


def _from_summary(summary: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    """The same names; only fusion has its interval there."""
    found: dict[str, dict[str, Score]] = {}
    for target, record in (summary.get("targets") or {}).items():
        others = {WITHOUT: record.get("without_difficulty")}
        others |= {
            FLOORS.get(floor, floor): value for floor, value in (record.get("floors") or {}).items()
        }
        others |= record.get("unimodal") or {}
        found[target] = {
            FUSION: Score.from_json(
                {name: record.get(name) for name in ("ccc", "ccc_low", "ccc_high")}
            )
        }
        found[target] |= {
            name: Score(value, np.nan, np.nan)
            for name, value in others.items()
            if value is not None
        }
    return found
