"""The model card: what a person must know before using a model, as Markdown.

Knows no files: the card is written with the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.evaluate import Evaluation, TargetEvaluation, score_table
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION


def model_card(model: FusedModel, evaluation: Evaluation, warnings: Sequence[str]) -> str:
    """Return the card: data, protocol, scores with intervals and floors, difficulty, limits.

    Args:
        model: what the card is about.
        evaluation: of the model on devel.
        warnings: sentences that must not be overlooked, such as those of `floor_warnings`.
    """
    lines = [
        f"# Affectune model: {', '.join(model.targets)} from {', '.join(model.modalities)}",
        "",
        "Multimodal, time-continuous prediction after Hamieh et al. (2021): "
        "an auto-encoder per feature set whose",
        "reconstruction error says how hard a frame is, "
        "a recurrent regressor per feature set and target, a fusion.",
        "",
        *_data_section(model),
        *_protocol_section(model),
        *_study_section(model.study),
        *_scores_section(model, evaluation),
        *_out_of_fold_section(model),
        *_limits_section(warnings),
    ]

    return "\n".join(lines)


def floor_warnings(evaluation: Evaluation) -> list[str]:
    """Return a sentence for every floor whose CCC is above that of the fusion."""
    sentences = []
    for target, evaluated in evaluation.targets.items():
        fusion_ccc = evaluated.scores[FUSION].ccc
        for floor in FLOORS.values():
            floor_ccc = evaluated.scores[floor].ccc
            if fusion_ccc < floor_ccc:
                sentences.append(
                    f"{target}: fusion ({fusion_ccc:.3f}) is below the {floor} ({floor_ccc:.3f})."
                )

    return sentences


def _data_section(model: FusedModel) -> list[str]:
    data = model.data
    rows = [
        f"| {partition} | {data['sessions'][partition]} | {data['subjects'][partition]} |"
        for partition in data["sessions"]
    ]

    return [
        "## Data",
        f"Corpus `{data['name']}` (digest `{data['digest'][:16]}`), "
        f"one frame every {model.frame_period_ms:g} ms.",
        "",
        "| partition | sessions | subjects |",
        "| --- | --- | --- |",
        *rows,
        "",
        "The licence of the corpus binds this model, too.",
        "",
    ]


def _protocol_section(model: FusedModel) -> list[str]:
    spec = model.spec
    if spec.protocol == "cross_fit":
        method = f" with {spec.folds} folds grouped by subject, inference by `{spec.inference}`"
    else:
        method = " (later stages see optimistic inputs)"

    return [
        "## Protocol",
        f"`{spec.protocol}`{method}, seed {spec.seed}. Test sessions were not read in training.",
        "Devel decided when each fit stopped and weights the weighted mean, "
        "so devel scores are optimistic.",
        "",
    ]


def _study_section(study: Mapping[str, Any]) -> list[str]:
    """Return what the study that the model won was; nothing where there was none."""
    if not study:
        return []

    figures = [
        f"- {key.replace('_', ' ')}: {value}"
        for key, value in study.items()
        if key not in {"name", "trials"} and isinstance(value, int | float | str)
    ]
    spreads = [
        f"- {target}: {_seed_spread(seeds['scores'])}"
        for target, seeds in study.get("seeds", {}).items()
    ]
    return [
        "## Search",
        f"The winner of the study `{study['name']}`.",
        f"Trials searched: {study['trials']}, so devel scores are optimistic.",
        "",
        *figures,
        *spreads,
        "",
        *_verdicts(study.get("verdicts", {})),
    ]


def _verdicts(verdicts: Mapping[str, str]) -> list[str]:
    """Return what the model is better than, and what it is no better than, target by target."""
    if not verdicts:
        return []
    return [
        "Compared, paired over people, on devel and training subjects that its models held out "
        "(where fusions, but not",
        "modalities and means, are slightly optimistic):",
        *(f"- {verdict}" for verdict in verdicts.values()),
        "",
    ]


def _seed_spread(scores: Sequence[float]) -> str:
    """Return how much the deciding score depends on the seed."""
    seeds = "seed" if len(scores) == 1 else "seeds"
    mean = f"CCC of {len(scores)} {seeds} {np.mean(scores):.3f}"
    if len(scores) == 1:
        return mean

    deviation = f"standard deviation {np.std(scores, ddof=1):.3f}"
    return f"{mean} on average, {deviation}, {min(scores):.3f} to {max(scores):.3f}"


def _scores_section(model: FusedModel, evaluation: Evaluation) -> list[str]:
    if model.study:
        remark = "they say nothing of the choice among trials."
    else:
        remark = "one set of networks was trained for it."

    lines = [
        f"## CCC on {evaluation.partition}",
        f"Pooled over frames, with 95% intervals from a bootstrap of subjects; {remark}",
    ]
    for target, rows in score_table(evaluation).items():
        lines += _target_section(target, evaluation.targets[target], rows)

    return lines


def _target_section(
    target: str, evaluated: TargetEvaluation, rows: Sequence[tuple[str, str, str]]
) -> list[str]:
    table = [
        f"| {'**fusion**' if name == FUSION else name} | {score} | {gap} |"
        for name, score, gap in rows
    ]
    correlations = [
        f"{modality} {rho:+.2f}" for modality, rho in evaluated.difficulty_spearman.items()
    ]

    return [
        "",
        f"### {target}: {evaluated.sessions} sessions of {evaluated.subjects} subjects, "
        f"{evaluated.frames} frames",
        "",
        "| prediction | CCC | fusion minus it |",
        "| --- | --- | --- |",
        *table,
        "",
        f"Mean of the sessions' own CCCs: {evaluated.session_mean_ccc:.3f} "
        f"({evaluated.undefined_sessions} undefined).",
        "Rank correlation of difficulty with absolute error: " + ", ".join(correlations) + ".",
    ]


def _out_of_fold_section(model: FusedModel) -> list[str]:
    """Return the CCCs on training subjects; nothing where no model held any out."""
    if not model.out_of_fold:
        return []

    return [
        "",
        "## CCC on training subjects out of fold",
        "More subjects than devel, and no fit was stopped by them. "
        "A modality's own prediction owes nothing to the",
        "subject's labels; the two fusions' does, at second hand, and is optimistic.",
        "",
        f"| prediction | {' | '.join(model.targets)} |",
        f"| --- |{' --- |' * len(model.targets)}",
        *_out_of_fold_rows(model),
    ]


def _out_of_fold_rows(model: FusedModel) -> list[str]:
    """Return a row for every prediction, with a cell for every target.

    A cell is empty where the fusion of the target does not read the modality.
    """
    scores = [model.out_of_fold[target] for target in model.targets]
    names = dict.fromkeys(name for target_scores in scores for name in target_scores)

    rows = []
    for name in names:
        cells = [_out_of_fold_cell(target_scores.get(name)) for target_scores in scores]
        rows.append(f"| {name} | {' | '.join(cells)} |")

    return rows


def _out_of_fold_cell(record: Mapping[str, float | None] | None) -> str:
    return str(Score.from_json(record)) if record else ""


def _limits_section(warnings: Sequence[str]) -> list[str]:
    return [
        "",
        "## Limits",
        "- Whole sessions are needed: networks may read backwards in time, "
        "and scale columns within the session, too.",
        "- A missing frame is imputed by the training mean and counts as hard; "
        "so does a missing feature set.",
        "- Subjects, devices and situations unlike the corpus's are untested. "
        "Not a medical device.",
        *(f"- {warning}" for warning in warnings),
        "",
    ]
