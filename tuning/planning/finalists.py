"""Finalists: which configurations of a search are refitted, and how they rank when they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.stages.task import StageKeys, Task
from tuning.fitting.scoring import finalist_score
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.clock import now
from tuning.journal.events import (
    Difference,
    Finalist,
    FinalistsChosen,
    Member,
    TaskCompleted,
)
from tuning.journal.history import History, Trial
from tuning.planning.ensembles import find_ensemble, joined_keys
from tuning.planning.outstanding_fits import (
    Fit,
    FitPlan,
    failed_configurations,
    trials_by_fit,
)
from tuning.spec.space import Space
from tuning.spec.study_spec import StudySpec


class EveryTrialFailed(AffectuneError):
    """Nothing is left that a task's winner could be chosen from."""


def choose_finalists(
    study: StudySpec, history: History, task: Task, share: float
) -> FinalistsChosen:
    """End a task's search: its best trials become finalists; complete ones before stopped ones.

    Where there was a race, they are those that continued after its last decision.

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
    num_finalists = number_of_finalists(study, history, task, share)
    if decisions := history.races.get(task):
        failed = failed_configurations(history.trials_of(task, "race"))
        winners = [each for each in decisions[-1].continuing if each not in failed]
        by_configuration = {str(trial.proposed.configuration): trial for trial in ranked}
        ranked = [by_configuration[str(each)] for each in winners] or ranked
    finalists = ranked[:num_finalists]
    base = searched[0]  # a search begins with the study's own settings
    has_room = num_finalists > 1 and table.sampler != "grid"
    if has_room and base in candidates and base not in finalists:
        finalists = [*finalists[: num_finalists - 1], base]

    return FinalistsChosen(
        at=now(),
        task=str(task),
        configurations=tuple(dict(trial.proposed.configuration) for trial in finalists),
        seeds=max(1, ceil(table.seeds * share - 0.5)),
    )


def number_of_finalists(study: StudySpec, history: History, task: Task, share: float) -> int:
    """Return how many finalists a task has: as planned, or as many as the time allows."""
    ended = [trial for trial in history.trials_of(task, "search") if trial.ended is not None]
    candidates = [t for t in ended if not t.has_failed and t.best_devel is not None]
    return max(1, floor(min(study.table(task.stage).finalists, len(candidates)) * share))


def rank_finalists(
    plan: FitPlan,
    history: History,
    task: Task,
    space: Space,
    corpus: Corpus,
    upstream: UpstreamPredictions,
) -> TaskCompleted:
    """Rank a task's finalists by their deciding score, as the mean over seeds.

    An ensemble of them comes first, where one is better: see `find_ensemble`.

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
            part = Member(configuration=configuration, upstream_ranks=ranks, count=1)
            finalists.append(_finalist(plan.study, task, [part], keys, corpus, upstream))
    if not finalists:
        errors = [trial.ended.error for trial in trials.values() if trial.ended]
        cause = next(error for error in errors if error is not None)
        raise EveryTrialFailed(f"Every finalist of {task} failed. The first cause: {cause}")

    ranked = sorted(finalists, key=lambda finalist: finalist.mean_deciding, reverse=True)
    if task.target and (ensemble := _ensemble(plan.study, task, ranked, corpus, upstream)):
        ranked = [ensemble, *ranked]
    return TaskCompleted(at=now(), task=str(task), finalists=tuple(ranked))


def comparison_keys(plan: FitPlan, history: History, task: Task) -> StageKeys | None:
    """Return the keys of the winning fusion trained without difficulty.

    Returns:
        None where it failed, or the winner reads no difficulty itself.
    """
    trials = trials_by_fit(history, task, "comparison")
    fits = plan.comparison_fits(history, task)
    has_all = all(fit in trials and trials[fit].is_complete for fit in fits)
    if not fits or not has_all:
        return None

    winner, *others = history.completed[task]
    keys = []
    for part in winner.parts:
        if plan.reads_difficulty(part.configuration):
            blind = plan.without_difficulty(part.configuration)
            fits_of_part = [fit for fit in fits if fit.configuration == blind]
            keys.append(keys_by_fold(fits_of_part, trials))
        else:
            own = (other for other in others if other.configuration == part.configuration)
            keys.append(next(own).keys)
    return joined_keys(keys)


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
    parts: Sequence[Member],
    keys: StageKeys,
    corpus: Corpus,
    upstream: UpstreamPredictions,
    gain: Difference | None = None,
) -> Finalist:
    """Score a finalist, or an ensemble with its gain, seed by seed."""
    num_parts = sum(part.count for part in parts)
    scores = []
    for first in range(0, len(keys[0]), num_parts):
        keys_of_seed = tuple(fold[first : first + num_parts] for fold in keys)
        outputs = upstream.stage_outputs(keys_of_seed)
        scores.append(finalist_score(task, corpus, outputs, study.protocol))

    return Finalist(
        configuration=parts[0].configuration,
        keys=keys,
        deciding=tuple(score.deciding for score in scores),
        devel=tuple(score.devel for score in scores),
        out_of_fold=tuple(score.out_of_fold for score in scores),
        upstream_ranks=parts[0].upstream_ranks,
        members=() if gain is None else tuple(parts),
        gain=gain,
    )


def _ensemble(
    study: StudySpec,
    task: Task,
    ranked: Sequence[Finalist],
    corpus: Corpus,
    upstream: UpstreamPredictions,
) -> Finalist | None:
    """Return the ensemble that comes before all finalists, if there is one."""
    max_members = study.table(task.stage).ensemble
    found = find_ensemble(task, ranked, corpus, upstream, study.protocol, max_members)
    if found is None:
        return None

    members, gain = found
    keys_of = {id(part): f.keys for part in members for f in ranked if _is_of(part, f)}
    keys = joined_keys([keys_of[id(part)] for part in members for _ in range(part.count)])
    return _finalist(study, task, members, keys, corpus, upstream, gain)


def _is_of(part: Member, finalist: Finalist) -> bool:
    return part.configuration == finalist.configuration
