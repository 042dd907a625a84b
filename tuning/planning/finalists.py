"""Finalists: which configurations of a search are refitted, and how they rank when they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import ceil, floor

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.stages.task import StageKeys, Task
from tuning.fitting.scoring import finalist_score
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import Finalist, FinalistsChosen, TaskCompleted
from tuning.journal.history import History, Trial
from tuning.planning.outstanding_fits import (
    Fit,
    FitPlan,
    failed_configurations,
    trials_by_fit,
)
from tuning.spec.space import Configuration, Space
from tuning.spec.study_spec import StudySpec


class EveryTrialFailed(AffectuneError):
    """Nothing is left that a task's winner could be chosen from."""


def choose_finalists(
    study: StudySpec, history: History, task: Task, share: float
) -> FinalistsChosen:
    """End a task's search: its best trials become finalists; complete ones before stopped ones.

    Where there is room for two, the study's own settings are one of them: what the search found
    has to beat them on all folds.

    Args:
        study: says how many finalists and seeds there are.
        history: of the search.
        task: whose search has ended.
        share: of these, what the time allows.

    Raises:
        EveryTrialFailed: there is no finalist.
    """
    searched = history.trials_of(task, "search")
    candidates = [
        trial
        for trial in searched
        if trial.ended is not None and not trial.has_failed and trial.best_devel is not None
    ]
    if not candidates:
        causes = [trial.ended.error for trial in searched if trial.ended]
        cause = causes[0] if causes else "none was run"
        raise EveryTrialFailed(f"Every trial of {task} failed. The first cause: {cause}")

    ranked = sorted(candidates, key=_search_rank, reverse=True)
    table = study.table(task.stage)
    num_finalists = max(1, floor(min(table.finalists, len(ranked)) * share))

    base = searched[0]  # a search begins with the study's own settings
    if base in ranked[num_finalists:] and num_finalists > 1 and table.sampler != "grid":
        ranked[num_finalists - 1] = base

    return FinalistsChosen(
        at=time.time(),
        task=str(task),
        configurations=tuple(dict(t.proposed.configuration) for t in ranked[:num_finalists]),
        seeds=max(1, ceil(table.seeds * share - 0.5)),
    )


def rank_finalists(
    plan: FitPlan,
    history: History,
    task: Task,
    space: Space,
    corpus: Corpus,
    upstream: UpstreamPredictions,
) -> TaskCompleted:
    """Rank a task's finalists by their deciding score, as the mean over seeds.

    Raises:
        EveryTrialFailed: every finalist failed.
        AffectuneError: the store has lost what a finalist output.
    """
    trials = trials_by_fit(history, task, "refit")
    failed = failed_configurations(trials.values())
    chosen = history.chosen[task]

    finalists = []
    for configuration in chosen.configurations:
        if configuration not in failed:
            keys = keys_by_fold(plan.finalist_fits(configuration, chosen.seeds), trials)
            ranks = space.ranks(configuration)
            finalists.append(
                _finalist(plan.study, task, configuration, keys, ranks, corpus, upstream)
            )
    if not finalists:
        errors = [trial.ended.error for trial in trials.values() if trial.ended]
        cause = next(error for error in errors if error is not None)
        raise EveryTrialFailed(f"Every finalist of {task} failed. The first cause: {cause}")

    ranked = sorted(finalists, key=lambda finalist: finalist.mean_deciding, reverse=True)
    return TaskCompleted(at=time.time(), task=str(task), finalists=tuple(ranked))


def comparison_keys(plan: FitPlan, history: History, task: Task) -> StageKeys | None:
    """Return the keys of the winning fusion trained without difficulty.

    Returns:
        None where it failed, or the winner reads no difficulty itself.
    """
    trials = trials_by_fit(history, task, "comparison")
    fits = plan.comparison_fits(history, task)
    has_all = all(fit in trials and trials[fit].is_complete for fit in fits)
    return keys_by_fold(fits, trials) if fits and has_all else None


def keys_by_fold(fits: Sequence[Fit], trials: Mapping[Fit, Trial]) -> StageKeys:
    """Return for each fold the keys of a configuration's trained stages, one per seed."""
    keys: dict[int, list[str]] = {}
    for fit in fits:
        keys.setdefault(fit.fold, []).append(trials[fit].proposed.key)
    return tuple(tuple(seeds) for seeds in keys.values())


def _search_rank(trial: Trial) -> tuple[bool, float]:
    return trial.is_complete, trial.search_score or 0.0


def _finalist(
    study: StudySpec,
    task: Task,
    configuration: Configuration,
    keys: StageKeys,
    upstream_ranks: dict[str, int],
    corpus: Corpus,
    upstream: UpstreamPredictions,
) -> Finalist:
    scores = []
    for seed in range(len(keys[0])):
        keys_of_seed = tuple((fold[seed],) for fold in keys)
        outputs = upstream.stage_outputs(keys_of_seed)
        scores.append(finalist_score(task, corpus, outputs, study.protocol))

    return Finalist(
        configuration=configuration,
        keys=keys,
        deciding=tuple(score.deciding for score in scores),
        devel=tuple(score.devel for score in scores),
        out_of_fold=tuple(score.out_of_fold for score in scores),
        upstream_ranks=upstream_ranks,
    )
