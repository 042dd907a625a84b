"""The model card: what a person must know before using a model, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.evaluate import Evaluation, score_table
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION


def model_card(model: FusedModel, evaluation: Evaluation, warnings: list[str]) -> str:
    """Data, protocol, scores with intervals and floors, difficulty, limits.

    Args:
        model: what the card is about.
        evaluation: of the model on devel.
        warnings: sentences that must not be overlooked.
    """
    data, spec = model.data, model.spec
    lines = [
        f"# Affectune model: {', '.join(model.targets)} from {', '.join(model.modalities)}",
        "",
        "Multimodal, time-continuous prediction after Hamieh et al. (2021): an auto-encoder per feature set whose",
        "reconstruction error says how hard a frame is, a recurrent regressor per feature set and target, a fusion.",
        "",
        "## Data",
        f"Corpus `{data['name']}` (digest `{data['digest'][:16]}`), one frame every {model.frame_period_ms:g} ms.",
        "",
        "| partition | sessions | subjects |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {data['sessions'][name]} | {data['subjects'][name]} |"
            for name in data["sessions"]
        ),
        "",
        "The licence of the corpus binds this model, too.",
        "",
        "## Protocol",
        f"`{spec.protocol}`"
        + (
            f" with {spec.folds} folds grouped by subject"
            if spec.protocol == "cross_fit"
            else " (later stages see optimistic inputs)"
        )
        + (f", inference by `{spec.inference}`" if spec.protocol == "cross_fit" else "")
        + f", seed {spec.seed}. Test sessions were not read in training.",
        "Devel decided when each fit stopped and weights the weighted mean, so devel scores are optimistic.",
        "",
        *_search(model.study),
        f"## CCC on {evaluation.partition}",
        "Pooled over frames, with 95% intervals from a bootstrap of subjects; "
        + (
            "they say nothing of the choice among trials."
            if model.study
            else "one set of networks was trained for it."
        ),
    ]
    for target, rows in score_table(evaluation).items():
        found = evaluation.targets[target]
        lines += [
            "",
            f"### {target}: {found.sessions} sessions of {found.subjects} subjects, {found.frames} frames",
            "",
            "| prediction | CCC | fusion minus it |",
            "| --- | --- | --- |",
            *(
                f"| {'**fusion**' if name == FUSION else name} | {score} | {gap} |"
                for name, score, gap in rows
            ),
            "",
            f"Mean of the sessions' own CCCs: {found.session_mean_ccc:.3f} ({found.undefined_sessions} undefined).",
            "Rank correlation of difficulty with absolute error: "
            + ", ".join(f"{name} {rho:+.2f}" for name, rho in found.difficulty_spearman.items())
            + ".",
        ]
    if model.out_of_fold:
        lines += [
            "",
            "## CCC on training subjects out of fold",
            "More subjects than devel, and no fit was stopped by them. A modality's own prediction owes nothing to the",
            "subject's labels; the two fusions' does, at second hand, and is optimistic.",
            "",
            f"| prediction | {' | '.join(model.targets)} |",
            f"| --- |{' --- |' * len(model.targets)}",
            *_rows(model.out_of_fold, model.targets),
        ]
    lines += [
        "",
        "## Limits",
        "- Whole sessions are needed: networks may read backwards in time, and scale columns within the session, too.",
        "- A missing frame is imputed by the training mean and counts as hard; so does a missing feature set.",
        "- Subjects, devices and situations unlike the corpus's are untested. Not a medical device.",
        *(f"- {warning}" for warning in warnings),
        "",
    ]
    return "\n".join(lines)


def lost_to_floors(evaluation: Evaluation) -> list[str]:
    """Fusion never loses silently: a sentence for every floor above it."""
    return [
        f"{target}: fusion ({found.scores[FUSION].ccc:.3f}) is below the {floor} ({found.scores[floor].ccc:.3f})."
        for target, found in evaluation.targets.items()
        for floor in FLOORS.values()
        if found.scores[FUSION].ccc < found.scores[floor].ccc
    ]


def _rows(
    out_of_fold: Mapping[str, Mapping[str, Mapping[str, float | None]]], targets: Sequence[str]
) -> Iterator[str]:
    """A row for every prediction, a cell for every target; empty where a target's fusion does not read the modality."""
    for name in dict.fromkeys(name for target in targets for name in out_of_fold[target]):
        scores = [out_of_fold[target].get(name) for target in targets]
        yield f"| {name} | {' | '.join(str(Score.from_json(score)) if score else '' for score in scores)} |"


def _search(study: Mapping[str, Any]) -> list[str]:
    """What the search that the model won was; nothing where there was none."""
    if not study:
        return []
    figures = [
        f"- {key.replace('_', ' ')}: {value}"
        for key, value in study.items()
        if key not in {"name", "trials"} and isinstance(value, int | float | str)
    ]
    return [
        "## Search",
        f"The winner of the study `{study['name']}`.",
        f"Trials searched: {study['trials']}, so devel scores are optimistic.",
        "",
        *figures,
        *(
            f"- {target}: {_spread(found['scores'])}"
            for target, found in study.get("seeds", {}).items()
        ),
        "",
    ]


def _spread(scores: Sequence[float]) -> str:
    """How much the score that decided depends on the seed."""
    said = f"CCC of {len(scores)} {'seed' if len(scores) == 1 else 'seeds'} {np.mean(scores):.3f}"
    if len(scores) == 1:
        return said
    return f"{said} on average, standard deviation {np.std(scores, ddof=1):.3f}, {min(scores):.3f} to {max(scores):.3f}"
