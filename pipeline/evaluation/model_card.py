"""The model card: what a person must know before using a model, as Markdown.

Knows no files: the card is written with the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pipeline.evaluation.evaluate import (
    Evaluation,
    TargetEvaluation,
    counts_text,
    interval_note,
    score_table,
    text_of,
)
from pipeline.evaluation.markdown import code, literal
from pipeline.metrics.bootstrap import Score
from pipeline.metrics.session_parts import SessionParts
from pipeline.model.bands import LEVEL, fewest_people
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.fusion import FLOORS, FUSION
from pipeline.stages.label_floors import EXPLANATIONS, LABEL_FLOORS

QUESTIONS = {
    "subject": "new people, shown what the training people were shown",
    "stimulus": "known people, shown what none of them was shown in training",
    "both": "new people, shown what nobody was shown in training",
}
"""Split -> whom out-of-fold scores speak of."""
UNSEEN = {"subject": "subject", "stimulus": "stimulus", "both": "subject nor the stimulus"}
"""Split -> what the models that predict a training session never saw."""
HELD_OUT = {"subject": "subject", "stimulus": "stimulus", "both": "subject or the stimulus"}
"""Split -> whose labels those models did not learn from."""


def model_card(model: FusedModel, evaluation: Evaluation, warnings: Sequence[str]) -> str:
    """Return the card: data, protocol, scores with intervals and floors, difficulty, limits.

    Args:
        model: what the card is about.
        evaluation: of the model on devel.
        warnings: sentences that must not be overlooked, such as those of `floor_warnings`.
    """
    targets, modalities = literal(", ".join(model.targets)), literal(", ".join(model.modalities))
    lines = [
        f"# Affectune model: {targets} from {modalities}",
        "",
        "Multimodal, time-continuous prediction after Hamieh et al. (2021): "
        "an auto-encoder per feature set whose",
        "reconstruction error says how hard a frame is, "
        "a recurrent regressor per feature set and target, a fusion.",
        "",
        *_data_section(model),
        *_protocol_section(model),
        *_distillation_section(model),
        *_study_section(model.study),
        *_scores_section(model, evaluation),
        *_weights_section(evaluation),
        *_out_of_fold_section(model),
        *_bands_section(model, evaluation),
        *_limits_section(model, warnings),
    ]

    return "\n".join(lines)


def floor_warnings(evaluation: Evaluation) -> list[str]:
    """Return a sentence for every floor whose CCC is above that of the fusion.

    A fusion below what time or the stimulus alone gives is no better than a guess without features.
    """
    sentences = []
    for target, evaluated in evaluation.targets.items():
        fusion_ccc = evaluated.scores[FUSION].ccc
        for floor in FLOORS.values():
            floor_ccc = evaluated.scores[floor].ccc
            if fusion_ccc < floor_ccc:
                sentences.append(
                    f"{target}: fusion ({fusion_ccc:.3f}) is below the {floor} ({floor_ccc:.3f})."
                )
        floor_cccs = {name: score.ccc for name, score in evaluated.scores.items()}
        sentences += _no_better_than(f"{target}: fusion", fusion_ccc, floor_cccs)

    return sentences


def out_of_fold_warnings(
    out_of_fold: Mapping[str, Mapping[str, Mapping[str, float | None]]],
) -> list[str]:
    """Return a sentence for every floor of labels alone that is above the fusion out of fold.

    Args:
        out_of_fold: see `FusedModel.out_of_fold`.
    """
    sentences = []
    for target, records in out_of_fold.items():
        cccs = {
            name: np.nan if record["ccc"] is None else record["ccc"]
            for name, record in records.items()
        }
        sentences += _no_better_than(
            f"{target} out of fold: fusion", cccs.get(FUSION, np.nan), cccs
        )
    return sentences


def folds_text(spec: Spec) -> str:
    """Return what the folds of a spec are, such as "5 folds grouped by subject"."""
    if spec.split == "both":
        return f"folds of {spec.folds} groups of people by {spec.stimulus_groups} groups of stimuli"
    return f"{spec.folds} folds grouped by {spec.split}"


def _no_better_than(subject: str, fusion_ccc: float, floor_cccs: Mapping[str, float]) -> list[str]:
    """Return a sentence for every floor of labels alone that is above a fusion."""
    return [
        f"{subject} ({fusion_ccc:.3f}) is no better than {floor} ({floor_cccs[floor]:.3f}): "
        f"{EXPLANATIONS[floor]}, without any feature."
        for floor in LABEL_FLOORS.values()
        if floor in floor_cccs and fusion_ccc < floor_cccs[floor]
    ]


def _data_section(model: FusedModel) -> list[str]:
    data = model.data
    rows = [
        f"| {partition} | {data['sessions'][partition]} | {data['subjects'][partition]} |"
        for partition in data["sessions"]
    ]

    averaged = [f"{code(name)} ({kind})" for name, kind in model.resampling.items()]
    resampling = ["", f"Averaged onto frames: {', '.join(averaged)}."] if averaged else []

    return [
        "## Data",
        f"Corpus {code(data['name'])} (digest `{data['digest'][:16]}`), "
        f"one frame every {model.frame_period_ms:g} ms.",
        *resampling,
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
    questions = []
    if spec.protocol == "cross_fit":
        method = f" with {folds_text(spec)}, inference by `{spec.inference}` ({model.composition})"
        questions = [
            f"Split by `{spec.split}`: out-of-fold scores are those for {QUESTIONS[spec.split]}."
        ]
    else:
        method = " (later stages see optimistic inputs)"

    return [
        "## Protocol",
        f"`{spec.protocol}`{method}, seed {spec.seed}. Test sessions were not read in training.",
        *questions,
        "Devel scores are optimistic: devel decided when each fit stopped, "
        "and sets the weights of the weighted mean.",
        *_correction_lines(model),
        "",
    ]


def _correction_lines(model: FusedModel) -> list[str]:
    """Return how fused predictions are corrected; nothing where they are not."""
    if not model.corrections:
        return []

    corrected = [
        f"{literal(target)} * {corrections[FUSION].scale:.3f} {corrections[FUSION].bias:+.3f}"
        for target, corrections in model.corrections.items()
    ]
    return [
        "",
        "Fused predictions are corrected in scale and bias, as learned out of fold: "
        f"{', '.join(corrected)}.",
        "Floors and modalities are not.",
    ]


def distillation_note(model: FusedModel) -> str:
    """Return a sentence on what came of distilling a model."""
    record = model.distillation
    if not record["is_kept"]:
        return f"{record['reason']} What predicts is the {record['teacher']}."

    networks = record["networks"]
    return (
        f"{networks['student']} networks predict what {networks['teacher']} did. {record['reason']}"
    )


def _distillation_section(model: FusedModel) -> list[str]:
    """Return how the model was distilled, or why not; nothing where that was not asked for."""
    record = model.distillation
    if not record:
        return []

    rows = []
    for target, scores in record["targets"].items():
        teacher, student = (Score.from_json(scores[name]) for name in ("teacher", "student"))
        gap = Score.from_json(scores["difference"]).with_sign()
        rows.append(f"| {literal(target)} | {teacher} | {student} | {gap} |")

    sessions = record["sessions"]
    return [
        "## Distillation",
        literal(distillation_note(model)),
        f"One network per task learned the outputs of the {record['teacher']} on "
        f"{sessions['clean']} training sessions,",
        f"{sessions['corrupted']} corrupted copies and {sessions['mixtures']} mixtures of them. "
        "It saw no label; that each fit stopped where it is",
        "nearest to the ensemble's output on devel, and this comparison on devel, are all it has "
        "of devel.",
        "",
        "| CCC on devel | ensemble | distilled | distilled minus ensemble |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "The ensemble's own devel score owes something to devel's labels, which stopped its fits. "
        "Scores out of fold are the ensemble's.",
        "",
    ]


def _study_section(study: Mapping[str, Any]) -> list[str]:
    """Return what the study that the model won was; nothing where there was none."""
    if not study:
        return []

    figures = [
        f"- {key.replace('_', ' ')}: {literal(str(value))}"
        for key, value in study.items()
        if key not in {"name", "trials"} and isinstance(value, int | float | str)
    ]
    spreads = [
        f"- {literal(target)}: {_seed_spread(seeds['scores'])}"
        for target, seeds in study.get("seeds", {}).items()
    ]
    return [
        "## Search",
        f"The winner of the study {code(study['name'])}.",
        f"Trials searched: {study['trials']}, so devel scores are optimistic.",
        "",
        *figures,
        *spreads,
        "",
        *_verdicts(study.get("verdicts", {})),
    ]


def _verdicts(verdicts: Mapping[str, str]) -> list[str]:
    """Return what the model is clearly better than, and what not, target by target."""
    if not verdicts:
        return []
    return [
        "Compared on devel and on training subjects whom its models held out, paired over people. "
        "On training subjects, scores of",
        "fusions are slightly optimistic; those of modalities and means are not.",
        "",
        *(f"- {literal(verdict)}" for verdict in verdicts.values()),
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
        remark = "They leave out how uncertain the choice among trials is."
    else:
        remark = "They are of one set of networks: another seed would give others."

    lines = [
        f"## CCC on {literal(evaluation.data)}",
        "Each CCC is pooled over all frames. Brackets are 95% intervals from a bootstrap of "
        f"subjects. {remark}",
        "Between sessions: the CCC of the sessions' means, each counted once per frame. "
        "Within sessions: the CCC after each",
        "session's own mean is taken off its labels and its predictions. "
        "The pooled CCC is a weighted mean of the two.",
        *_floor_lines(evaluation),
    ]
    for target, rows in score_table(evaluation).items():
        lines += _target_section(target, evaluation.targets[target], rows)

    return lines


def _floor_lines(evaluation: Evaluation) -> list[str]:
    """Say what the floors of labels alone are, as far as there are any."""
    names = {name for evaluated in evaluation.targets.values() for name in evaluated.scores}
    return [
        f"{floor.capitalize()}: {explanation}, without any feature."
        for floor, explanation in EXPLANATIONS.items()
        if floor in names
    ]


def _target_section(
    target: str, evaluated: TargetEvaluation, rows: Sequence[tuple[str, str, str]]
) -> list[str]:
    table = [
        f"| {'**fusion**' if name == FUSION else literal(name)} | {score} | {gap} "
        f"| {evaluated.between[name]} | {evaluated.within[name]} |"
        for name, score, gap in rows
    ]
    share = evaluated.label_variance_between_sessions
    shares = [f"Of the label's variance, {share:.0%} lies between sessions."]
    correlations = [
        f"{literal(modality)} {f'{rho:+.2f}' if np.isfinite(rho) else 'undefined'}"
        for modality, rho in evaluated.difficulty_spearman.items()
    ]
    note = interval_note(evaluated)

    return [
        "",
        f"### {literal(target)}: {counts_text(evaluated)}",
        "",
        *([note, ""] if note else []),
        "| prediction | CCC | fusion minus it | between sessions | within sessions |",
        "| --- | --- | --- | --- | --- |",
        *table,
        "",
        *(shares if np.isfinite(share) else []),
        f"Mean of the sessions' own CCCs: {text_of(evaluated.session_mean_ccc)} "
        f"({evaluated.undefined_sessions} undefined).",
        "Rank correlation of difficulty with absolute error: " + ", ".join(correlations) + ".",
    ]


def _weights_section(evaluation: Evaluation) -> list[str]:
    """Return how much each modality is trusted on average; nothing where no fusion has a gate."""
    weights = {
        target: evaluated.mean_weights
        for target, evaluated in evaluation.targets.items()
        if evaluated.mean_weights is not None
    }
    if not weights:
        return []

    modalities = dict.fromkeys(modality for means in weights.values() for modality in means)
    rows = []
    for modality in modalities:
        # A cell is empty where the fusion of the target does not read the modality.
        cells = [
            f"{means[modality]:.2f}" if modality in means else "" for means in weights.values()
        ]
        rows.append(f"| {literal(modality)} | {' | '.join(cells)} |")

    return [
        "",
        f"## Weights on {literal(evaluation.data)}",
        "How much the fusion trusts each modality's prediction at a frame, from 0 to 1, "
        "on average over labelled frames.",
        "The weights of a frame sum to 1; every prediction comes with them.",
        "",
        f"| modality | {_cells(weights)} |",
        f"| --- |{' --- |' * len(weights)}",
        *rows,
    ]


def _out_of_fold_section(model: FusedModel) -> list[str]:
    """Return the CCCs on training subjects; nothing where no model held any out."""
    if not model.out_of_fold:
        return []

    warnings = [f"- {literal(sentence)}" for sentence in out_of_fold_warnings(model.out_of_fold)]

    return [
        "",
        "## CCC on training subjects out of fold",
        "Each training session is predicted by models that never saw its "
        f"{UNSEEN[model.spec.split]}. No fit was stopped by these scores.",
        "Those of the two fusions are slightly optimistic: what a fusion reads was learned with "
        f"labels of the {HELD_OUT[model.spec.split]}, too.",
        "Those of single modalities and of the means are not.",
        "",
        f"| prediction | {_cells(model.targets)} |",
        f"| --- |{' --- |' * len(model.targets)}",
        *_out_of_fold_rows(model, "pooled"),
        *_out_of_fold_parts(model),
        *(["", *warnings] if warnings else []),
    ]


def _out_of_fold_parts(model: FusedModel) -> list[str]:
    """Return the same between and within sessions; nothing for a model of an earlier version."""
    records = [record for scores in model.out_of_fold.values() for record in scores.values()]
    if not any("between_ccc" in record for record in records):
        return []

    shares = model.data.get("label_variance_between_sessions", {})
    lines = [
        f"{literal(target)} {share:.0%}"
        for target, share in shares.items()
        if target in model.out_of_fold and share is not None
    ]
    head = [
        f"| prediction | {_cells(model.targets)} |",
        f"| --- |{' --- |' * len(model.targets)}",
    ]
    return [
        "",
        f"Between sessions (of the labels' variance {', '.join(lines)}):",
        "",
        *head,
        *_out_of_fold_rows(model, "between"),
        "",
        "Within sessions:",
        "",
        *head,
        *_out_of_fold_rows(model, "within"),
    ]


def _out_of_fold_rows(model: FusedModel, part: Literal["pooled", "between", "within"]) -> list[str]:
    """Return a row for every prediction, with a cell for every target.

    A cell is empty where the fusion of the target does not read the modality.
    """
    scores = [model.out_of_fold[target] for target in model.targets]
    names = dict.fromkeys(name for target_scores in scores for name in target_scores)

    rows = []
    for name in names:
        cells = [_out_of_fold_cell(target_scores.get(name), part) for target_scores in scores]
        rows.append(f"| {literal(name)} | {' | '.join(cells)} |")

    return rows


def _out_of_fold_cell(
    record: Mapping[str, float | None] | None, part: Literal["pooled", "between", "within"]
) -> str:
    return str(getattr(SessionParts.from_json(record), part)) if record else ""


def _bands_section(model: FusedModel, evaluation: Evaluation) -> list[str]:
    """Return what the bands cover, and whether difficulty narrows them."""
    evaluated = {
        target: scores.bands
        for target, scores in evaluation.targets.items()
        if scores.bands is not None
    }
    if not evaluated:
        return ["", "## Bands", f"There are none: {_why_no_bands(model)}."]

    rows, verdicts = [], []
    for target, bands in evaluated.items():
        worst = bands.subject_coverage[bands.worst_subject]
        rows.append(
            f"| {literal(target)} | {bands.coverage:.1%} | "
            f"{worst:.1%} ({literal(bands.worst_subject)}) | "
            f"{bands.mean_width:.3f} | {bands.constant_width:.3f} ({bands.constant_coverage:.1%}) |"
        )
        narrowed = Score(
            bands.width_difference, bands.width_difference_low, bands.width_difference_high
        )
        verdicts.append(
            f"- {literal(target)}: difficulty and disagreement {bands.verdict}: "
            f"{narrowed.with_sign()} against the constant band. One standard deviation more of an "
            f"input multiplies the width by {_widening(model, target)}."
        )

    levels = sorted({f"{bands.level:.0%}" for bands in evaluated.values()})
    people = sorted({str(model.bands[target].people) for target in evaluated})
    return [
        "",
        "## Bands",
        f"On average over new people, a band covers {' or '.join(levels)} of a person's frames; of "
        "a single person it may cover fewer.",
        f"Bands were calibrated on {' or '.join(people)} training people out of fold, each of whom "
        f"counts alike; devel and test were not read. On {literal(evaluation.data)}:",
        "",
        "| target | coverage | worst person | mean width | constant band (coverage) |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        "A band's width grows with the difficulties and with how much the modalities disagree. "
        "Its mean width, minus that of a",
        "constant band of the same level, with 95% intervals from a bootstrap of subjects:",
        "",
        *verdicts,
    ]


def _widening(model: FusedModel, target: str) -> str:
    """Return by which factor a band widens with a deviation more of each input of sigma."""
    inputs = [f"difficulty of {literal(modality)}" for modality in model.fusion_modalities[target]]
    weights = model.bands[target].weights
    named = zip([*inputs, "disagreement"][: len(weights)], weights, strict=True)
    return ", ".join(f"{np.exp(weight):.2f} ({name})" for name, weight in named)


def _why_no_bands(model: FusedModel) -> str:
    if model.spec.protocol == "in_sample":
        return "in sample no person is held out to calibrate them on"
    people = model.data["subjects"]["train"]
    if people < fewest_people(LEVEL):
        return (
            f"bands of {LEVEL:.0%} need at least {fewest_people(LEVEL)} training people, and there "
            f"are {people}"
        )
    return "the errors of the training people differ too much to bound those of a new one"


def _limits_section(model: FusedModel, warnings: Sequence[str]) -> list[str]:
    return [
        "",
        "## Limits",
        "- Whole sessions are needed: networks may read backwards in time, "
        "and scale columns within the session, too.",
        "- A missing frame is imputed by the training mean and counts as hard; "
        "so does a missing feature set.",
        *_stuck_limit(model),
        "- Subjects, devices and situations unlike the corpus's are untested. "
        "Not a medical device.",
        *(f"- {literal(warning)}" for warning in warnings),
        "",
    ]


def _stuck_limit(model: FusedModel) -> list[str]:
    """Return for how long each feature set may hold its values; nothing where any time will do."""
    seconds = {
        modality: limit * model.frame_period_ms / 1000
        for modality, limit in model.max_held_frames.items()
    }
    if not seconds:
        return []

    limits = ", ".join(f"{literal(modality)} {limit:g} s" for modality, limit in seconds.items())
    return [f"- A feature set is missing where its row stays the same for longer than: {limits}."]


def _cells(names: Iterable[str]) -> str:
    return " | ".join(map(literal, names))
