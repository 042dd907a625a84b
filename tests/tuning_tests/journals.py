"""Journals of studies that never ran: what a study would have written, fabricated from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np

from pipeline.stages.task import Task
from tuning.journal.events import (
    Candidate,
    CandidateKind,
    Difference,
    Event,
    Finalist,
    FinalistsChosen,
    Judgement,
    Purpose,
    Reason,
    RungDecision,
    StudyFinished,
    StudyJudged,
    StudyOpened,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.journal.history import History, Trial
from tuning.planning.asha import Rung, RungScore, rungs
from tuning.spec.space import Choice, Configuration, Dimension, IntRange, Value
from tuning.spec.study_spec import StudySpec, for_corpus
from tuning.spec.tasks import study_tasks

EventKind = TypeVar("EventKind", bound=Event)
FOLDS = ("fold 1", "fold 2", "fold 3")
BEGIN = 1_790_000_000.0
EPOCH_S = 0.3
REPORT_S = 2.0
FAILING_TRIAL = 7
"""Counted from 0: in the search of every unimodal task, this one fails."""
STUDY: dict[str, Any] = {
    "name": "fabricated",
    "folds": 3,
    "auto_encoder": {"fit": {"max_epochs": 30}},
    "unimodal": {"fit": {"max_epochs": 40}},
    "fusion": {"fit": {"max_epochs": 30}},
    "search": {
        "auto_encoder": {
            "sampler": "grid",
            "grace_epochs": 5,
            "finalists": 2,
            "seeds": 1,
            "space": {
                "network.bottleneck_size": {"choice": [2, 4, 8]},
                "fit.input_noise": {"choice": [0.0, 0.3]},
            },
        },
        "unimodal": {
            "trials": 36,
            "sampler": "tpe",
            "race_folds": 1,
            "grace_epochs": 4,
            "finalists": 2,
            "seeds": 2,
            "space": {
                "network.cell": {"choice": ["gru", "lstm"]},
                "network.bidirectional": {"choice": [True, False]},
                "network.num_layers": {"int": [1, 3]},
                "network.dropout": {"uniform": [0.0, 0.5], "when": {"network.num_layers": [2, 3]}},
                "fit.learning_rate": {"loguniform": [0.0005, 0.01]},
                "fit.loss": {"choice": ["ccc", "mse", "l1"]},
                "difficulty": {"choice": [True, False]},
                "auto_encoder": {"top": 2},
            },
        },
        "fusion": {
            "trials": 30,
            "sampler": "random",
            "race_folds": 1,
            "grace_epochs": 5,
            "finalists": 2,
            "seeds": 2,
            "space": {
                "modalities": {"subsets": 2},
                "difficulty": {"choice": [True, False]},
                "fit.learning_rate": {"choice": [0.001, 0.003]},
                "unimodal": {"top": 2},
            },
        },
    },
}


def events(
    seed: int = 0,
    modalities: tuple[str, ...] = ("pupil", "gaze", "head"),
    targets: tuple[str, ...] = ("arousal", "valence"),
    study: Mapping[str, Any] | None = None,
) -> list[Event]:
    """Fabricate all events of a study, from its opening to its end.

    Args:
        seed: of its configurations and scores.
        modalities: of the corpus.
        targets: of the corpus.
        study: its settings; `STUDY` by default.
    """
    spec = for_corpus(StudySpec.model_validate(study or STUDY), modalities, targets)
    return list(_Fabricator(spec, seed).events())


@dataclass(frozen=True)
class _Fit:
    """A fit that is fabricated; `error` is its cause where it fails."""

    task: Task
    purpose: Purpose
    configuration: Configuration
    fold: int = 0
    seed: int = 0
    error: str | None = None


class _Fabricator:
    """Makes up the events of one study, in order."""

    def __init__(self, study: StudySpec, seed: int) -> None:
        self.study = study
        self.tasks = study_tasks(study.modalities or (), study.targets or ())
        self.history = History()
        self._random = np.random.default_rng(seed)
        self._now = BEGIN

    def events(self) -> Iterator[Event]:
        yield self._apply(_opened(self.study, self._now))

        for task in self.tasks:
            yield from self._search(task)
            yield from self._refits(task)
        for task in self.tasks:
            if task.stage == "fusion":
                yield from self._comparison(task)

        for task in self.tasks:
            for fold in range(len(FOLDS)):
                yield from self._fit(_Fit(task, "default", {}, fold))
        yield self._apply(_judged(self.study, self._now))

        summary = _summary(self.study, len(self.history.trials))
        yield self._apply(StudyFinished(at=self._now, summary=summary))

    def _search(self, task: Task) -> Iterator[Event]:
        for number, configuration in enumerate(self._proposals(task)):
            fails = task.stage == "unimodal" and number == FAILING_TRIAL
            error = "non-finite loss at epoch 2" if fails else None
            yield from self._fit(_Fit(task, "search", configuration, error=error))

    def _proposals(self, task: Task) -> list[Configuration]:
        space = self.study.space(task.stage)
        if self.study.table(task.stage).sampler == "grid":
            return list(space.grid())
        return [space.sample(self._draw) for _ in range(self.study.num_trials(task.stage))]

    def _draw(self, dimension: Dimension) -> Value:
        domain = dimension.domain
        if isinstance(domain, Choice):
            return domain.values[self._random.integers(len(domain.values))]
        if isinstance(domain, IntRange):
            return int(self._random.integers(domain.low, domain.high + 1))
        if domain.log:
            return float(np.exp(self._random.uniform(np.log(domain.low), np.log(domain.high))))
        return float(self._random.uniform(domain.low, domain.high))

    def _refits(self, task: Task) -> Iterator[Event]:
        table = self.study.table(task.stage)
        candidates = [trial for trial in self.history.trials_of(task) if not trial.has_failed]
        ranked = sorted(candidates, key=_search_rank, reverse=True)[: table.finalists]
        chosen = tuple(dict(trial.proposed.configuration) for trial in ranked)
        yield self._apply(
            FinalistsChosen(at=self._now, task=str(task), configurations=chosen, seeds=table.seeds)
        )

        finalists = []
        for configuration in chosen:
            scores = []
            for seed, fold in product(range(table.seeds), range(len(FOLDS))):
                if (seed, fold) != (0, 0):
                    yield from self._fit(_Fit(task, "refit", configuration, fold, seed))
                offset = 0.0 if task.target else -1.0  # minus a reconstruction error
                scores.append(0.4 + 0.03 * self._random.normal() + offset)
            finalists.append(_finalist(configuration, scores, table.seeds))

        finalists.sort(key=lambda finalist: finalist.mean_deciding, reverse=True)
        yield self._apply(TaskCompleted(at=self._now, task=str(task), finalists=tuple(finalists)))

    def _comparison(self, task: Task) -> Iterator[Event]:
        winner = self.history.completed[task][0].configuration
        if not winner.get("difficulty", True):
            return

        configuration = {**winner, "difficulty": False}
        for seed, fold in product(range(2), range(len(FOLDS))):
            yield from self._fit(_Fit(task, "comparison", configuration, fold, seed))

    def _fit(self, fit: _Fit) -> Iterator[Event]:
        name = f"{len(self.history.trials) + 1:04d}"
        yield self._apply(_proposed(fit, name, self._now))
        trial = self.history.trials[name]

        max_epochs = self._max_epochs(fit.task)
        scores = self._learning_curve(fit, max_epochs)
        reason: Reason = "max_epochs" if len(scores) == max_epochs else "patience"
        rungs_of_fit = self._rungs(fit)

        first = 1
        for epoch in range(1, len(scores) + 1):
            if epoch in rungs_of_fit or epoch == len(scores):
                yield self._progress(trial, scores, first, epoch)
                first = epoch + 1
            if epoch in rungs_of_fit:
                decision = self._decide(trial, epoch, max(scores[:epoch]))
                yield self._apply(decision)
                if not decision.continues:
                    reason = "asha"
                    break
            if fit.error and epoch == 1:
                reason = "error"
                break

        yield self._apply(_ended(trial, reason, fit.error, self._now))

    def _max_epochs(self, task: Task) -> int:
        return int(getattr(self.study.base, task.stage).fit.max_epochs)

    def _rungs(self, fit: _Fit) -> tuple[int, ...]:
        if fit.purpose != "search":
            return ()
        table = self.study.table(fit.task.stage)
        return rungs(table.grace_epochs, table.reduction_factor, self._max_epochs(fit.task))

    def _progress(
        self, trial: Trial, scores: list[float], first: int, last: int
    ) -> TrialProgressed:
        self._now += REPORT_S
        epochs = tuple(
            (epoch, 1.0 - scores[epoch - 1], scores[epoch - 1]) for epoch in range(first, last + 1)
        )
        fit_s = EPOCH_S * last
        return self._apply(
            TrialProgressed(
                at=self._now, trial=trial.name, epochs=epochs, cpu_s=fit_s, wall_s=fit_s
            )
        )

    def _decide(self, trial: Trial, rung: int, score: float) -> RungDecision:
        searched = self.history.trials_of(trial.task, "search")
        others = [other for other in searched if other.name != trial.name]
        factor = self.study.table(trial.task.stage).reduction_factor
        continues = Rung(rung, others).may_continue(RungScore(score), factor)
        return RungDecision(
            at=self._now, trial=trial.name, rung=rung, score=score, continues=continues
        )

    def _learning_curve(self, fit: _Fit, max_epochs: int) -> list[float]:
        """Return scores by epoch.

        What they tend to depends on the task, and a little on the configuration.
        """
        task, configuration = fit.task, fit.configuration
        limit = 0.34 + 0.03 * (len(task.modality) % 5) + 0.06 * (task.target == "valence")
        limit += 0.04 * self._random.normal()
        limit += 0.05 * (configuration.get("network.cell") == "gru")
        limit += 0.04 * (configuration.get("fit.loss", "ccc") == "ccc")
        limit += 0.02 * bool(configuration.get("difficulty", False))
        limit += 0.015 * str(configuration.get("modalities", "")).count(",")

        epochs = int(self._random.integers(max_epochs // 2, max_epochs + 1))
        rise = 1 - np.exp(-np.arange(1, epochs + 1) / self._random.uniform(3, 8))
        scores = limit * rise + 0.015 * self._random.normal(size=epochs)
        if not task.target:
            scores = scores - 1.0  # minus a reconstruction error
        return [round(float(score), 5) for score in scores]

    def _apply(self, event: EventKind) -> EventKind:
        self.history.apply(event)
        return event


def _opened(study: StudySpec, at: float) -> StudyOpened:
    return StudyOpened(
        at=at,
        study=study.model_dump(mode="json"),
        digest="ab" * 32,
        corpus={
            "name": "made up",
            "path": "somewhere/made-up",
            "digest": "cd" * 32,
            "sessions": {"train": 40, "devel": 12, "test": 12},
            "subjects": {"train": 20, "devel": 6, "test": 6},
        },
        folds=FOLDS,
        versions={"affectune": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        git_commit="0123456789abcdef0123456789abcdef01234567",
    )


def _proposed(fit: _Fit, name: str, at: float) -> TrialProposed:
    return TrialProposed(
        at=at,
        trial=name,
        task=str(fit.task),
        purpose=fit.purpose,
        configuration=fit.configuration,
        fold=fit.fold,
        seed=fit.seed,
        key=name * 16,
    )


def _ended(trial: Trial, reason: Reason, error: str | None, at: float) -> TrialEnded:
    scores = [epoch.score for epoch in trial.epochs]
    is_complete = reason in ("patience", "max_epochs")
    fit_s = EPOCH_S * len(scores)
    return TrialEnded(
        at=at,
        trial=trial.name,
        reason=reason,
        devel=max(scores, default=None),
        best_epoch=1 + scores.index(max(scores)) if scores else 0,
        epochs=len(scores),
        cpu_s=fit_s,
        wall_s=fit_s,
        held_out=max(scores) - 0.05 if is_complete else None,
        error=error,
    )


def _search_rank(trial: Trial) -> tuple[bool, float]:
    """Return what a search's trials are ranked by: complete ones come before stopped ones."""
    assert trial.best_devel is not None
    return trial.is_complete, trial.best_devel


def _finalist(configuration: Configuration, scores: list[float], seeds: int) -> Finalist:
    deciding = tuple(float(np.mean(scores[seed::seeds])) for seed in range(seeds))
    keys = tuple(tuple(f"{fold}-{seed}" for seed in range(seeds)) for fold in FOLDS)
    return Finalist(
        configuration=configuration,
        keys=keys,
        deciding=deciding,
        devel=tuple(score + 0.05 for score in deciding),
        out_of_fold=tuple(score - 0.02 for score in deciding),
        upstream_ranks={},
    )


def _judged(study: StudySpec, at: float) -> StudyJudged:
    """Return a judgement by which the winner is better than all but the default."""
    differences: dict[CandidateKind, Difference | None] = {
        "winner": None,
        "single": Difference(ccc=0.02, ccc_low=0.005, ccc_high=0.04),
        "default": Difference(ccc=0.01, ccc_low=-0.02, ccc_high=0.04),
        "modality": Difference(ccc=0.1, ccc_low=0.05, ccc_high=0.15),
        "mean": Difference(ccc=0.05, ccc_low=0.01, ccc_high=0.09),
        "weighted_mean": Difference(ccc=0.04, ccc_low=0.01, ccc_high=0.07),
    }
    candidates = tuple(
        Candidate(
            kind=kind,
            modality=(study.modalities or ("",))[0] if kind == "modality" else "",
            deciding=0.45 - (difference.ccc or 0.0 if difference else 0.0),
            devel=0.47,
            out_of_fold=0.44,
            chosen_minus_it=difference,
        )
        for kind, difference in differences.items()
    )
    judgement = Judgement(candidates=candidates)
    return StudyJudged(at=at, targets=dict.fromkeys(study.targets or (), judgement))


def _summary(study: StudySpec, num_trials: int) -> dict[str, Any]:
    scores = {
        "ccc": 0.476,
        "ccc_low": 0.351,
        "ccc_high": 0.574,
        "between_ccc": 0.558,
        "between_ccc_low": 0.447,
        "between_ccc_high": 0.63,
        "within_ccc": 0.283,
        "within_ccc_low": 0.103,
        "within_ccc_high": 0.439,
        "label_variance_between_sessions": 0.64,
        "session_mean_ccc": 0.3,
        "undefined_sessions": 1,
        "frames": 1440,
        "sessions": 12,
        "subjects": 6,
        "floors": {"mean": 0.459, "weighted_mean": 0.482, "time": 0.011, "stimulus": 0.479},
        "unimodal": dict.fromkeys(study.modalities or (), 0.3),
        "without_difficulty": 0.47,
    }
    return {
        "model": "study/model",
        "partition": "devel",
        "targets": dict.fromkeys(study.targets or (), scores),
        "trials": num_trials,
        "epochs_trained": 1234,
        "wall_s": 600.0,
        "cpu_s": 1100.0,
        "store_hits": 0,
    }
