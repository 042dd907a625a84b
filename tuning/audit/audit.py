"""An audit of early stopping: a sample of the stopped trials is trained to the end.

Writes nothing to the study's folder. What it trains goes into the study's store, so a second audit
trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.storage.stage_store import StageStore
from tuning.audit.retrain import Retrained, retrain, retraining_jobs
from tuning.audit.sample import FinishedTrial, TaskTrials, draw_sample, split_search_trials
from tuning.audit.stopping_cost import StoppingCost, estimate_costs
from tuning.fitting.held_out_predictions import read_held_out
from tuning.journal.history import History, Trial


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        study: the study's name.
        seed: of the sample, and of all draws.
        num_fits: fits that the audit made; its other retrained trials were in the store already.
        num_failed: retrained trials whose fit failed; they count as never the best.
        num_reproduced: retrained trials whose epochs until the stop are the study's.
        tasks: cost of early stopping by task, for tasks in which it stopped a trial.
        pooled: cost of early stopping over several tasks: by stage, and "CCC".
        notes: what a reader must know, in sentences.
    """

    study: str
    seed: int
    num_fits: int
    num_failed: int
    num_reproduced: int
    tasks: Mapping[str, StoppingCost]
    pooled: Mapping[str, StoppingCost]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the content of audit.json."""
        return {
            **vars(self),
            "tasks": {name: cost.to_json() for name, cost in self.tasks.items()},
            "pooled": {name: cost.to_json() for name, cost in self.pooled.items()},
            "notes": list(self.notes),
        }


def audit(
    history: History,
    corpus: Corpus,
    store: StageStore,
    *,
    sample: int = 20,
    workers: int = 1,
    seed: int = 0,
    on_trained: Callable[[int, int], None] = lambda num_done, num_fits: None,
) -> Audit:
    """Train a random sample of the stopped trials to the end, and estimate what stopping them cost.

    Args:
        history: of the study, which may be running.
        corpus: the study's corpus.
        store: the study's store.
        sample: how many trials; they are spread over the tasks. A larger sample contains the
            smaller ones of the same seed.
        workers: fits at a time, one thread each; 1 fits in this process.
        seed: of the sample.
        on_trained: called after each fit with the number of fits done, and of all that are made.

    Raises:
        InputError: no trial was stopped, the data or the training code are others, or the store
            lacks stages that the trials read or cannot be written.
        AffectuneError: workers were killed too often. What was trained is in the store.
    """
    tasks = _tasks_to_audit(history, corpus)
    sampled = draw_sample({trials.task: trials.stopped for trials in tasks}, sample, seed)

    outcome = _train_to_the_end(sampled, history, corpus, store, workers, on_trained)
    audited = [_with_retrained(trials, outcome.finished) for trials in tasks]

    costs, pooled_costs = estimate_costs(audited, seed)
    num_reproduced = sum(_is_reproduced(trial) for trial in outcome.finished.values())
    return Audit(
        study=history.study.name,
        seed=seed,
        num_fits=outcome.num_fits,
        num_failed=len(outcome.errors),
        num_reproduced=num_reproduced,
        tasks=costs,
        pooled=pooled_costs,
        notes=tuple(_notes(history, audited, outcome.errors, num_reproduced)),
    )


@dataclass(frozen=True)
class _SampleOutcome:
    """The sampled trials, trained to the end.

    Attributes:
        finished: by name.
        num_fits: fits that were made; the other trials were in the store.
        errors: of the fits that failed, with the names of task and trial.
    """

    finished: Mapping[str, FinishedTrial]
    num_fits: int
    errors: Sequence[str]


def _tasks_to_audit(history: History, corpus: Corpus) -> list[TaskTrials]:
    """Return the tasks in which trials were stopped.

    Raises:
        InputError: there is none, or the corpus is not that of the study.
    """
    if history.opened is None or history.opened.corpus["digest"] != corpus.digest:
        raise InputError(
            f"The study was run on other data than corpus '{corpus.name}' has. "
            "Pass the corpus as it was then."
        )

    tasks = split_search_trials(history)
    if not tasks:
        raise InputError(
            "Early stopping has stopped no trial of this study yet: there is nothing to audit."
        )
    return tasks


def _train_to_the_end(
    sampled: Sequence[Trial],
    history: History,
    corpus: Corpus,
    store: StageStore,
    workers: int,
    on_trained: Callable[[int, int], None],
) -> _SampleOutcome:
    """Train those of the sampled trials that are not in the store: see `audit`."""
    stored = [_read_finished(store, trial) for trial in sampled]
    finished = {trial.trial.name: trial for trial in stored if trial is not None}
    missing = [trial for trial in sampled if trial.name not in finished]

    jobs = retraining_jobs(history, corpus, store, missing)
    if jobs:
        store.raise_if_unusable()

    errors = []
    results = retrain(jobs, corpus, history.study.base, store, workers)
    for num_done, result in enumerate(results, start=1):
        trial = history.trials[result.trial]
        finished[trial.name] = _finish(trial, result, store)
        if result.error is not None:
            errors.append(f"{trial.task}, trial {trial.name}: {result.error}")
        on_trained(num_done, len(jobs))

    return _SampleOutcome(finished, len(jobs), errors)


def _read_finished(store: StageStore, trial: Trial) -> FinishedTrial | None:
    """Return a trial as the store has it; None where it was not trained to the end yet."""
    predictions = read_held_out(store, trial.proposed.key)
    if predictions is None:
        return None
    return FinishedTrial(trial, predictions.history, predictions.devel)


def _finish(trial: Trial, result: Retrained, store: StageStore) -> FinishedTrial:
    """Return a retrained trial, whether its fit failed or not.

    Raises:
        AffectuneError: the store cannot be written, or lost the trial.
    """
    if result.error is not None:
        # The fit may have failed because the disk is full: that says nothing about the trial.
        store.raise_if_unusable()
        return FinishedTrial(trial, result.epochs, -np.inf)

    finished = _read_finished(store, trial)
    if finished is None:
        raise AffectuneError(
            f"The store '{store.uri}' lost trial {trial.name} as soon as it was trained. Try again."
        )
    return finished


def _with_retrained(trials: TaskTrials, finished: Mapping[str, FinishedTrial]) -> TaskTrials:
    retrained = [finished[trial.name] for trial in trials.stopped if trial.name in finished]
    return replace(trials, retrained=tuple(retrained))


def _is_reproduced(retrained: FinishedTrial) -> bool:
    """Return whether the scores until the stop are those of the study, to the last bit."""
    scores = [epoch.score for epoch in retrained.epochs]
    study_scores = [epoch.score for epoch in retrained.trial.epochs]
    return scores[: len(study_scores)] == study_scores


def _notes(
    history: History, tasks: Sequence[TaskTrials], errors: Sequence[str], num_reproduced: int
) -> Iterator[str]:
    num_stopped = sum(len(trials.stopped) for trials in tasks)
    num_retrained = sum(len(trials.retrained) for trials in tasks)
    num_unfinished = sum(trial.ended is None for trial in history.trials.values())

    if num_retrained < num_stopped:
        yield (
            f"{num_retrained} of {num_stopped} stopped trials were trained to the end. What the "
            "others would have reached is estimated from these; a larger --sample makes the "
            "estimate more certain."
        )
    if errors:
        yield (
            f"{len(errors)} of the trials failed on the way, and count as never the best. "
            f"First: {errors[0]}"
        )
    if num_reproduced < num_retrained:
        yield (
            f"{num_retrained - num_reproduced} trials did not train as they did in the study "
            "(another kind of machine?): they show what such trials reach."
        )
    if num_unfinished:
        yield f"The study is not finished: {num_unfinished} of its trials have not ended."
    if any(trials.best_kept_score is None for trials in tasks):
        yield "A task has no regret until one of its trials was trained to the end in the study."
