"""Rows of a report's tables: the winner's scores, finalists over seeds, and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.evaluate import Evaluation
from pipeline.metrics.bootstrap import Score
from pipeline.metrics.session_parts import SessionParts
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import LABEL_FLOORS
from pipeline.stages.task import Task
from tuning.journal.events import Finalist, Judgement
from tuning.journal.history import History
from tuning.planning.judgement import label, verdict
from tuning.report.formats import Mean, display_sign, value_text, values_text
from tuning.report.search_trials import Searches


@dataclass(frozen=True)
class WinnerScores:
    """The CCCs of the winner for one target; every mapping is from the name of a prediction.

    Attributes:
        devel: on the devel partition.
        differences: the fusion's devel CCC minus that of the prediction; {} without an evaluation.
        out_of_fold: on all training subjects, each predicted by models that held it out; {} where
            it is unknown, or the protocol is `in_sample`.
        devel_parts: the devel CCC between and within sessions; {} where a summary lacks them.
        out_of_fold_parts: the out-of-fold CCC likewise.
    """

    devel: Mapping[str, Score]
    differences: Mapping[str, Score]
    out_of_fold: Mapping[str, Score]
    devel_parts: Mapping[str, SessionParts]
    out_of_fold_parts: Mapping[str, SessionParts]


@dataclass(frozen=True)
class FinalistRow:
    """A finalist; the error instead of the score where the task is an auto-encoder's.

    Attributes:
        rank: 1 for the winner.
        values: path -> value as text; of an ensemble "mean of" -> the ranks of its members.
        num_seeds: how many seeds the means are over.
        deciding: the mean of the score that ranks finalists.
        devel: the mean of the devel score.
        out_of_fold: the mean of the out-of-fold score; None where it is unknown.
    """

    rank: int
    values: Mapping[str, str]
    num_seeds: int
    deciding: Mean | None
    devel: Mean | None
    out_of_fold: Mean | None


@dataclass(frozen=True)
class CandidateRow:
    """What could be registered for a target: its scores, and the registered one minus it."""

    name: str
    deciding: str
    devel: str
    out_of_fold: str
    difference: Score | None

    @property
    def is_chosen(self) -> bool:
        """Whether it is what is registered."""
        return self.difference is None


@dataclass(frozen=True)
class JudgementTable:
    """The candidates of a target.

    Attributes:
        verdict: in a sentence.
        is_doubtful: what is registered is not clearly better than everything else.
        rows: one per candidate.
    """

    verdict: str
    is_doubtful: bool
    rows: tuple[CandidateRow, ...]


@dataclass(frozen=True)
class FailedTrial:
    """A trial that failed, with its configuration in one line."""

    name: str
    task: str
    purpose: str
    num_epochs: int
    cause: str
    configuration: str


def winner_scores(
    history: History, evaluation: Evaluation | None, model: FusedModel | None
) -> dict[str, WinnerScores]:
    """Gather the scores of the winner.

    Args:
        history: of the study; its summary replaces an evaluation or a model that is not given.
        evaluation: of the winner on devel.
        model: the winner.

    Returns:
        Target -> scores, as far as they are known.
    """
    summary = history.finished.summary if history.finished is not None else {}
    out_of_fold = model.out_of_fold if model is not None else summary.get("out_of_fold") or {}
    devel = _devel_scores(summary)
    devel_parts = {
        target: _parts(record.get("predictions") or {})
        for target, record in (summary.get("targets") or {}).items()
    }
    differences: dict[str, Mapping[str, Score]] = {}
    if evaluation is not None:
        devel = {target: dict(result.scores) for target, result in evaluation.targets.items()}
        differences = {target: result.differences for target, result in evaluation.targets.items()}
        devel_parts = {
            target: {
                name: SessionParts(score, result.between[name], result.within[name])
                for name, score in result.scores.items()
            }
            for target, result in evaluation.targets.items()
        }

    scores = {}
    for target, devel_scores in devel.items():
        records = out_of_fold.get(target) or {}
        scores[target] = WinnerScores(
            devel=devel_scores,
            differences=differences.get(target, {}),
            out_of_fold={name: Score.from_json(record) for name, record in records.items()},
            devel_parts=devel_parts.get(target, {}),
            out_of_fold_parts=_parts(records),
        )
    return scores


def judgement_tables(history: History) -> dict[str, JudgementTable]:
    """Return target -> its candidates, once they were compared."""
    if history.judged is None:
        return {}
    return {
        target: _judgement_table(target, judgement)
        for target, judgement in history.judged.targets.items()
    }


def prediction_label(name: str) -> str:
    """Return how a prediction is called in tables and charts: floors are marked as such."""
    is_floor = name in (FLOORS | LABEL_FLOORS).values()
    return f"floor: {name}" if is_floor else name


def finalist_rows(searches: Searches) -> dict[Task, tuple[FinalistRow, ...]]:
    """Return the finalists of every completed task, the winner first."""
    rows = {}
    for task in searches.tasks:
        if task in searches.history.completed:
            ranked = enumerate(searches.history.completed[task], start=1)
            rows[task] = tuple(
                _finalist_row(task, rank, finalist, searches.history.completed[task])
                for rank, finalist in ranked
            )
    return rows


def winner_rows(
    finalists: Mapping[Task, tuple[FinalistRow, ...]],
) -> dict[str, dict[str, FinalistRow]]:
    """Return the winner of every task that predicts a target.

    Returns:
        Modality, or "fusion" -> target -> the finalist with the highest deciding CCC.
    """
    winners: dict[str, dict[str, FinalistRow]] = {}
    for task, rows in finalists.items():
        if task.target:
            winners.setdefault(task.modality or FUSION, {})[task.target] = rows[0]
    return winners


def failed_trials(history: History) -> list[FailedTrial]:
    """Return the trials that failed, in order."""
    return [
        FailedTrial(
            name=trial.name,
            task=str(trial.task),
            purpose=trial.proposed.purpose,
            num_epochs=trial.ended.epochs,
            cause=trial.ended.error or "unknown",
            configuration=values_text(trial.proposed.configuration),
        )
        for trial in history.trials.values()
        if trial.ended is not None and trial.ended.reason == "error"
    ]


def _parts(
    records: Mapping[str, Mapping[str, float | None]],
) -> dict[str, SessionParts]:
    """Read prediction -> parts; predictions of an earlier version, without parts, are left out."""
    return {
        name: SessionParts.from_json(record)
        for name, record in records.items()
        if "between_ccc" in record
    }


def _judgement_table(target: str, judgement: Judgement) -> JudgementTable:
    rows = []
    for candidate in judgement.candidates:
        difference = candidate.chosen_minus_it
        score = None if difference is None else Score.from_json(difference.model_dump())
        rows.append(
            CandidateRow(
                name=label(candidate),
                deciding=f"{candidate.deciding:.3f}",
                devel=f"{candidate.devel:.3f}",
                out_of_fold="-"
                if candidate.out_of_fold is None
                else f"{candidate.out_of_fold:.3f}",
                difference=score,
            )
        )
    others = [row.difference for row in rows if row.difference is not None]
    is_doubtful = any(not difference.low > 0 for difference in others)
    return JudgementTable(verdict(target, judgement), is_doubtful, tuple(rows))


def _finalist_row(
    task: Task, rank: int, finalist: Finalist, finalists: Sequence[Finalist]
) -> FinalistRow:
    sign = display_sign(task)
    out_of_fold = [score for score in finalist.out_of_fold if score is not None]

    return FinalistRow(
        rank=rank,
        values=_values(finalist, finalists),
        num_seeds=len(finalist.deciding),
        deciding=Mean.from_values([sign * score for score in finalist.deciding]),
        devel=Mean.from_values([sign * score for score in finalist.devel]),
        out_of_fold=Mean.from_values([sign * score for score in out_of_fold]),
    )


def _values(finalist: Finalist, finalists: Sequence[Finalist]) -> dict[str, str]:
    if not finalist.members:
        return {path: value_text(value) for path, value in finalist.configuration.items()}

    rank_of = {str(f.configuration): r for r, f in enumerate(finalists, 1) if not f.members}
    members = [
        f"rank {rank_of[str(member.configuration)]}"
        + (f" ({member.count} times)" if member.count > 1 else "")
        for member in finalist.members
    ]
    return {"mean of": ", ".join(members)}


def _devel_scores(summary: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    """Read target -> prediction -> devel CCC from a summary; only the fusion has an interval."""
    scores: dict[str, dict[str, Score]] = {}
    for target, record in (summary.get("targets") or {}).items():
        others = {WITHOUT_DIFFICULTY: record.get("without_difficulty")}
        for floor, ccc in (record.get("floors") or {}).items():
            others[(FLOORS | LABEL_FLOORS).get(floor, floor)] = ccc
        others |= record.get("unimodal") or {}

        interval = {name: record.get(name) for name in ("ccc", "ccc_low", "ccc_high")}
        scores[target] = {FUSION: Score.from_json(interval)}
        for name, ccc in others.items():
            if ccc is not None:
                scores[target][name] = Score(ccc, np.nan, np.nan)
    return scores
