"""An audit: a sample of the stopped trials is trained to the end, and held against those that were kept.

The study's folder is only read; what is trained goes through its store, so a second audit trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.storage.stage_store import StageStore
from tuning.audit.estimates import Findings, findings
from tuning.audit.retrain import jobs_of, train
from tuning.audit.sample import Course, Search, draw_sample, searches_of
from tuning.fitting.held_out_predictions import HeldOutPredictions, held_out_name
from tuning.journal.history import History, Trial


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        study: its name.
        seed: of the sample, and of every bootstrap.
        trained: fits that were made for it; the rest was in the store.
        failed: of the trials trained again, those that broke on the way; they count as never the best.
        reproduced: of the trials trained again, those whose epochs until the stop are the study's own.
        tasks: in which early stopping stopped something, by name.
        pooled: the same by stage, and all whose score is a CCC.
        notes: what a reader must know.
    """

    study: str
    seed: int
    trained: int
    failed: int
    reproduced: int
    tasks: Mapping[str, Findings]
    pooled: Mapping[str, Findings]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """audit.json."""
        found = {
            name: {key: each.to_json() for key, each in getattr(self, name).items()}
            for name in ("tasks", "pooled")
        }
        return {**vars(self), **found, "notes": list(self.notes)}


def audit(
    found: History,
    corpus: Corpus,
    store: StageStore,
    *,
    sample: int = 20,
    workers: int = 1,
    seed: int = 0,
    on_trained: Callable[[int, int], None] = lambda done, wanted: None,
) -> Audit:
    """Train a random sample of the stopped trials to the end, and tell what stopping them cost.

    Args:
        found: the study; it may be running.
        corpus: that of the study.
        store: that of the study.
        sample: trials, spread over the tasks; a larger sample holds the smaller ones of the same seed.
        workers: fits at a time, one thread each; 1 fits in this process.
        seed: of the sample.
        on_trained: hears how many of the fits that were not in the store are done.

    Raises:
        InputError: nothing was stopped, the data or the training code differ, or the store lacks stages that the trials
            read or cannot be written.
        AffectuneError: workers were killed again and again. What was trained until then is in the store.
    """
    if found.opened is None or found.opened.corpus["digest"] != corpus.digest:
        raise InputError(
            f"The study was run on other data than corpus '{corpus.name}' has. Pass the corpus as it was then."
        )
    searches = searches_of(found)
    if not searches:
        raise InputError(
            "Early stopping has stopped no trial of this study yet: there is nothing to audit."
        )
    wanted = draw_sample({search.task: search.stopped for search in searches}, sample, seed)
    known = {trial.name: course for trial in wanted if (course := _from_store(store, trial))}
    jobs = jobs_of(found, corpus, store, [trial for trial in wanted if trial.name not in known])
    if jobs:
        store.check()
    errors = []
    for done, (name, epochs, error) in enumerate(
        train(jobs, corpus, found.study.base, store, workers), start=1
    ):
        trial = found.trials[name]
        if error is not None:
            store.check()  # a full disk is no fault of the trial
            known[name] = Course(trial, epochs, -np.inf)
            errors.append(f"{trial.task}, trial {name}: {error}")
        elif course := _from_store(store, trial):
            known[name] = course
        else:
            raise AffectuneError(
                f"The store '{store.uri}' lost trial {name} as soon as it was trained. Try again."
            )
        on_trained(done, len(jobs))
    audited = [
        replace(s, again=tuple(known[t.name] for t in s.stopped if t.name in known))
        for s in searches
    ]
    reproduced = sum(_reproduced(course) for course in known.values())
    tasks, pooled = findings(audited, seed)
    notes = _notes(found, audited, tasks, errors, reproduced)
    return Audit(found.study.name, seed, len(jobs), len(errors), reproduced, tasks, pooled, notes)


def _from_store(store: StageStore, trial: Trial) -> Course | None:
    said = store.read(held_out_name(trial.proposed.key), HeldOutPredictions.from_files)
    return Course(trial, said.history, said.score) if said else None


def _reproduced(course: Course) -> bool:
    """Whether it went as in the study, until it was stopped there."""
    before = [epoch.score for epoch in course.trial.epochs]
    return [epoch.score for epoch in course.epochs[: len(before)]] == before


def _notes(
    found: History,
    audited: Sequence[Search],
    tasks: Mapping[str, Findings],
    errors: Sequence[str],
    reproduced: int,
) -> tuple[str, ...]:
    again, stopped = (
        sum(getattr(one, name) for one in tasks.values()) for name in ("again", "stopped")
    )
    notes = []
    if again < stopped:
        notes.append(
            f"{again} of {stopped} stopped trials were trained again. What the others would have reached is estimated "
            "from these; a larger --sample knows more."
        )
    if errors:
        notes.append(
            f"{len(errors)} of the trials broke on the way, and count as never the best. First: {errors[0]}"
        )
    if reproduced < again:
        notes.append(
            f"{again - reproduced} trials did not go as they did in the study (another kind of machine?): they show "
            "what such trials reach."
        )
    if unfinished := sum(trial.ended is None for trial in found.trials.values()):
        notes.append(f"The study is not finished: {unfinished} of its trials have not ended.")
    if any(search.best_kept is None for search in audited):
        notes.append("A task none of whose trials was trained to the end yet has no regret.")
    return tuple(notes)
