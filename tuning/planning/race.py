"""The race for a task's finalists: the better trials of a search are tried on further folds.

One fold with one seed picks luck. So the trials that are ahead on the first fold are tried on a
second and a third, fewer each time (successive halving, in folds), and one is dropped as soon as it
is clearly behind the leader on the people that both predicted without having seen them (racing:
Maron, O. and Moore, A. W. (1994): Hoeffding races. Proc. NIPS; here with a paired bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.metrics.bootstrap import Score, paired_difference
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import Task
from pipeline.stages.trained_stage import Columns
from tuning.fitting.scoring import score
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.clock import now
from tuning.journal.events import Difference, RaceDecision, Standing
from tuning.journal.history import History
from tuning.planning.outstanding_fits import Fit, FitPlan, failed_configurations, trials_by_fit
from tuning.spec.space import Configuration


def race_decision(
    plan: FitPlan,
    folds: CrossFitPlan,
    history: History,
    task: Task,
    num_finalists: int,
    corpus: Corpus,
    upstream: UpstreamPredictions,
) -> RaceDecision | None:
    """Decide who is tried on the next fold; after the last one, who becomes a finalist.

    The study's own settings stay, as they are a finalist in any case.

    Args:
        plan: says how many folds and contenders there are.
        folds: whom each fold holds out.
        history: in which all fits of the race so far have ended.
        task: whose search has ended.
        num_finalists: for which the race is.
        corpus: holds the labels.
        upstream: holds what the trials output.

    Returns:
        None where the race is over, or there is none: all have a place, or the study wants none.
    """
    decisions = history.races.get(task, [])
    num_folds = len(decisions) + 1
    contenders = _contenders(history, task)
    if num_folds > plan.race_folds(task.stage) or not contenders:
        return None
    if not decisions and (plan.race_folds(task.stage) == 1 or len(contenders) <= num_finalists):
        return None

    trials = trials_by_fit(history, task, "refit")
    outputs = []
    for configuration in contenders:
        fits = [Fit(configuration, fold, plan.study.seed) for fold in range(num_folds)]
        keys = [trials[fit].proposed.key for fit in fits]
        outputs.append(upstream.outputs_so_far(keys))

    held_out = [name for fold in folds.folds[:num_folds] for name in fold.held_out_ids]
    sessions = [*map(corpus.session, held_out), *corpus.partition("devel")]
    base = history.trials_of(task, "search")[0].proposed.configuration
    is_base = [plan.keeps_base(task.stage, num_finalists) and each == base for each in contenders]
    places = plan.race_places(task.stage, num_finalists, num_folds)
    ranked = rank_contenders(task, sessions, outputs, places, is_base)

    standings = tuple(
        Standing(
            configuration=contenders[place],
            score=value,
            behind=None if difference is None else Difference.from_score(difference),
            continues=continues,
        )
        for place, value, difference, continues in ranked
    )
    return RaceDecision(at=now(), task=str(task), folds=num_folds, standings=standings)


def rank_contenders(
    task: Task,
    sessions: Sequence[Session],
    outputs: Sequence[Columns],
    places: int,
    is_kept: Sequence[bool],
) -> list[tuple[int, float, Score | None, bool]]:
    """Rank contenders by their score, and say which of them continue.

    Args:
        task: that predicts a target.
        sessions: of people whom no contender has seen.
        outputs: what each of them predicts there.
        places: so many continue at most, those that are clearly behind excepted.
        is_kept: which of them continue in any case, in the last of the places.

    Returns:
        For each of them, the leader first: its number, its score, its CCC minus the leader's (None
        for the leader) and whether it continues.
    """
    scores = [_defined(score(task, sessions, columns)) for columns in outputs]
    order = sorted(range(len(outputs)), key=lambda number: scores[number], reverse=True)
    leader = _series(outputs[order[0]], sessions)
    differences = {
        number: paired_difference(sessions, task.target, _series(outputs[number], sessions), leader)
        for number in order[1:]
    }

    in_race = [n for n in order if n not in differences or not differences[n].high < 0]
    continuing = in_race[:places]
    kept = [number for number in order if is_kept[number] and number not in continuing]
    if kept:
        continuing = [*continuing[: places - len(kept)], *kept]
    return [
        (number, scores[number], differences.get(number), number in continuing) for number in order
    ]


def _contenders(history: History, task: Task) -> list[Configuration]:
    """Return who is in the race: complete trials of the search, then those that continued."""
    decisions = history.races.get(task, [])
    if not decisions:
        searched = history.trials_of(task, "search")
        return [trial.proposed.configuration for trial in searched if trial.is_complete]
    failed = failed_configurations(history.trials_of(task, "race"))
    return [each for each in decisions[-1].continuing if each not in failed]


def _series(columns: Columns, sessions: Sequence[Session]) -> list[NDArray[np.float32]]:
    return [columns[session.session_id][:, 0] for session in sessions]


def _defined(value: float) -> float:
    return value if np.isfinite(value) else -1.0
