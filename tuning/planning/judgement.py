"""The judgement at a study's end: what the search found, beside what it has to beat.

For each target the candidates are the winner of the search, its best single configuration, the
untuned default, the best modality alone, and the floors. The one with the highest deciding score
is registered. The scores of fusions on training subjects are a little optimistic, because what they
read was learned with those subjects' labels; those of modalities and floors are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.corpus import Corpus
from pipeline.metrics.bootstrap import paired_difference
from pipeline.stages.fusion import FusionTask, floor_weights, floors, join_columns
from pipeline.stages.trained_stage import Columns
from pipeline.stages.unimodal import UnimodalTask
from tuning.fitting.scoring import deciding_sessions, finalist_score
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.clock import now
from tuning.journal.events import (
    Candidate,
    CandidateKind,
    Difference,
    Judgement,
    StudyJudged,
)
from tuning.journal.history import History
from tuning.planning.outstanding_fits import FitPlan, default_keys

LABELS: Mapping[CandidateKind, str] = {
    "winner": "the winner of the search",
    "single": "the leading single configuration",
    "default": "the untuned default",
    "modality": "one modality",
    "mean": "the mean of the modalities",
    "weighted_mean": "the weighted mean of the modalities",
}


@dataclass(frozen=True)
class _Prediction:
    """What a candidate predicts of every train and devel session, shape (frames, 1)."""

    kind: CandidateKind
    modality: str
    outputs: Columns


def judge(
    plan: FitPlan, history: History, corpus: Corpus, upstream: UpstreamPredictions
) -> StudyJudged:
    """Compare the candidates of every target; choose the one with the highest deciding score.

    A candidate that predicts no number where the winner does is left out: a modality that some
    session lacks. Of candidates that are equally good, the first counts.

    Args:
        plan: of the study, complete.
        history: of the study.
        corpus: holds the labels.
        upstream: holds what every stage output.

    Raises:
        AffectuneError: the store has lost what a stage output.
    """
    targets = {}
    for target in plan.study.targets or ():
        predictions = list(_predictions(plan, history, corpus, upstream, target))
        targets[target] = _judgement(plan, corpus, target, predictions)
    return StudyJudged(at=now(), targets=targets)


def label(candidate: Candidate) -> str:
    """Return what a candidate is called in a sentence."""
    return f"{candidate.modality} alone" if candidate.modality else LABELS[candidate.kind]


def verdict(target: str, judgement: Judgement) -> str:
    """Say in a sentence what is registered for a target, and what it is not clearly better than.

    It is better than another candidate where the interval of the paired difference is above 0.
    Scores are those of sessions as they are, so of one modality alone it also says what it lacks.
    """
    chosen = judgement.chosen
    better, no_better, unknown = [], [], []
    for other in judgement.candidates:
        difference = other.chosen_minus_it
        if difference is None:
            continue
        if difference.ccc_low is None:
            unknown.append(f"{label(other)} ({_signed(difference)})")
        elif difference.ccc_low > 0:
            better.append(label(other))
        else:
            no_better.append(f"{label(other)} ({_signed(difference)})")

    clauses = [f"{target}: {label(chosen)} is registered"]
    if no_better:
        clauses.append(f"not clearly better than {_listed(no_better)}")
    if better:
        clauses.append(f"better than {_listed(better)}")
    if unknown:
        clauses.append(f"without an interval, so not shown to differ from {_listed(unknown)}")
    sentence = "; ".join(clauses) + "."
    has_others = any(other.kind == "mean" for other in judgement.candidates)
    if chosen.kind == "modality" and has_others:
        sentence += f" Nothing stands in for {chosen.modality} when its sensor fails."
    return sentence


def _predictions(
    plan: FitPlan, history: History, corpus: Corpus, upstream: UpstreamPredictions, target: str
) -> Iterator[_Prediction]:
    """Yield the candidates of a target, those first that win where scores are equal."""
    task, outputs = FusionTask(target=target), upstream.stage_outputs
    completed = history.completed
    winner = completed[task][0]
    yield _Prediction("winner", "", outputs(winner.keys))

    if winner.members:
        single = next(finalist for finalist in completed[task] if not finalist.members)
        yield _Prediction("single", "", outputs(single.keys))
    if default := default_keys(history, task, plan.num_folds):
        yield _Prediction("default", "", outputs(default))

    modalities = plan.study.modalities or ()
    for modality in modalities:
        keys = completed[UnimodalTask(modality, target)][0].keys
        yield _Prediction("modality", modality, outputs(keys))

    if len(winner.upstream_ranks) > 1:
        read = {
            modality: outputs(completed[UnimodalTask(modality, target)][rank - 1].keys)
            for modality, rank in winner.upstream_ranks.items()
        }
        devel = {
            modality: finalist_score(task, corpus, columns, plan.study.protocol).devel
            for modality, columns in read.items()
        }
        weights = list(floor_weights(devel).values())
        beside = join_columns(list(read.values()))
        for kind in ("mean", "weighted_mean"):
            columns = {
                session_id: floors(values, weights)[kind].astype(np.float32)[:, None]
                for session_id, values in beside.items()
            }
            yield _Prediction(kind, "", columns)


def _judgement(
    plan: FitPlan, corpus: Corpus, target: str, predictions: list[_Prediction]
) -> Judgement:
    task, protocol = FusionTask(target=target), plan.study.protocol
    sessions = deciding_sessions(corpus, protocol)
    names = [session.session_id for session in sessions]

    def misses_frames(columns: Columns) -> bool:
        winner = predictions[0].outputs
        return any((np.isfinite(winner[n]) & ~np.isfinite(columns[n])).any() for n in names)

    complete = [each for each in predictions if not misses_frames(each.outputs)]
    scores = {id(each): finalist_score(task, corpus, each.outputs, protocol) for each in complete}

    alone = [each for each in complete if each.kind == "modality"]
    best_alone = max(alone, key=lambda each: scores[id(each)].deciding, default=None)
    candidates = [each for each in complete if each.kind != "modality" or each is best_alone]
    chosen = max(candidates, key=lambda each: scores[id(each)].deciding)

    chosen_series = [chosen.outputs[name][:, 0] for name in names]
    records = []
    for each in candidates:
        difference = None
        if each is not chosen:
            series = [each.outputs[name][:, 0] for name in names]
            score = paired_difference(sessions, target, chosen_series, series)
            difference = Difference.from_score(score)
        score_of = scores[id(each)]
        records.append(
            Candidate(
                kind=each.kind,
                modality=each.modality,
                deciding=score_of.deciding,
                devel=score_of.devel,
                out_of_fold=score_of.out_of_fold,
                chosen_minus_it=difference,
            )
        )
    return Judgement(candidates=tuple(records))


def _signed(difference: Difference) -> str:
    if difference.ccc is None:
        return "undefined"
    if difference.ccc_low is None or difference.ccc_high is None:
        return f"{difference.ccc:+.3f}"
    return f"{difference.ccc:+.3f} [{difference.ccc_low:+.3f}, {difference.ccc_high:+.3f}]"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
