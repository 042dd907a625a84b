"""Journals of studies that never ran: what a study over three modalities would have written, from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from tuning.journal.events import (
    Event,
    Finalist,
    FinalistsChosen,
    Purpose,
    Reason,
    RungDecision,
    StudyFinished,
    StudyOpened,
    TaskCompleted,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.journal.history import History
from tuning.planning.asha import goes_on, rungs
from tuning.spec.space import Choice, Dimension, IntRange, Value
from tuning.spec.study_spec import StudySpec, for_corpus
from tuning.spec.tasks import Task, tasks

Values = dict[str, Value]
FOLDS = ("fold 1", "fold 2", "fold 3")
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
    """A whole study, from its opening to its end."""
    spec = for_corpus(StudySpec.model_validate(study or STUDY), modalities, targets)
    return list(_Fabricator(spec, seed).events())


class _Fabricator:
    def __init__(self, study: StudySpec, seed: int) -> None:
        self.study = study
        self.random = np.random.default_rng(seed)
        self.history = History()
        self.now = 1_790_000_000.0

    def events(self) -> Iterator[Event]:
        modalities, targets = self.study.modalities or (), self.study.targets or ()
        yield self._happened(
            StudyOpened(
                at=self.now,
                study=self.study.model_dump(mode="json"),
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
        )
        for task in tasks(modalities, targets):
            yield from self._search(task)
            yield from self._refits(task)
        for task in tasks(modalities, targets):
            if task.stage == "fusion" and self.history.settled[task][0].values.get(
                "difficulty", True
            ):
                values = {**self.history.settled[task][0].values, "difficulty": False}
                for seed, fold in product(range(2), range(len(FOLDS))):
                    yield from self._fit(task, "comparison", values, fold, seed)
        yield self._happened(StudyFinished(at=self.now, summary=self._summary(targets)))

    def _search(self, task: Task) -> Iterator[Event]:
        space = self.study.space(task.stage)
        if self.study.table(task.stage).sampler == "grid":
            proposals = list(space.grid())
        else:
            proposals = [
                space.sample(self._drawn) for _ in range(self.study.num_trials(task.stage))
            ]
        for number, values in enumerate(proposals):
            fails = task.stage == "unimodal" and number == 7
            yield from self._fit(
                task, "search", values, 0, 0, error="non-finite loss at epoch 2" if fails else None
            )

    def _drawn(self, dimension: Dimension) -> Value:
        domain = dimension.domain
        if isinstance(domain, Choice):
            return domain.values[self.random.integers(len(domain.values))]
        if isinstance(domain, IntRange):
            return int(self.random.integers(domain.low, domain.high + 1))
        if domain.log:
            return float(np.exp(self.random.uniform(np.log(domain.low), np.log(domain.high))))
        return float(self.random.uniform(domain.low, domain.high))

    def _fit(
        self,
        task: Task,
        purpose: Purpose,
        values: Values,
        fold: int,
        seed: int,
        error: str | None = None,
    ) -> Iterator[Event]:
        name = f"{len(self.history.trials) + 1:04d}"
        table, max_epochs = (
            self.study.table(task.stage),
            getattr(self.study.base, task.stage).fit.max_epochs,
        )
        yield self._happened(
            TrialProposed(
                at=self.now,
                trial=name,
                task=str(task),
                purpose=purpose,
                values=values,
                fold=fold,
                seed=seed,
                key=f"{name}" * 16,
            )
        )
        judged_at = (
            rungs(table.grace_epochs, table.reduction_factor, max_epochs)
            if purpose == "search"
            else ()
        )
        curve = self._curve(task, values, max_epochs)
        reason: Reason = "patience"
        passed: list[tuple[int, float, float]] = []
        for epoch, score in enumerate(curve, start=1):
            passed.append((epoch, 1.0 - score, score))
            if epoch in judged_at or epoch == len(curve):
                self.now += 2.0
                yield self._happened(
                    TrialProgressed(
                        at=self.now,
                        trial=name,
                        epochs=tuple(passed),
                        cpu_s=0.3 * epoch,
                        wall_s=0.3 * epoch,
                    )
                )
                passed = []
            if epoch in judged_at:
                others = [
                    t
                    for t in self.history.of(task)
                    if t.name != name and t.proposed.purpose == "search"
                ]
                best = max(curve[:epoch])
                on = goes_on(others, epoch, best, table.reduction_factor)
                yield self._happened(
                    RungDecision(at=self.now, trial=name, rung=epoch, score=best, goes_on=on)
                )
                if not on:
                    reason = "asha"
                    break
            if error and epoch == 1:
                reason = "error"
                break
        if len(curve) == max_epochs and reason == "patience":
            reason = "max_epochs"
        epochs = self.history.trials[name].epochs or []
        done = [epoch.score for epoch in epochs]
        yield self._happened(
            TrialEnded(
                at=self.now,
                trial=name,
                reason=reason,
                score=max(done, default=None),
                best_epoch=1 + done.index(max(done)) if done else 0,
                epochs=len(done),
                cpu_s=0.3 * len(done),
                wall_s=0.3 * len(done),
                held_out=max(done) - 0.05 if reason in ("patience", "max_epochs") else None,
                error=error,
            )
        )

    def _curve(self, task: Task, values: Values, max_epochs: int) -> list[float]:
        """Scores by epoch: what they tend to depends on the task and a little on the configuration."""
        modality = 0.03 * (len(task.modality) % 5) + (0.06 if task.target == "valence" else 0.0)
        top = 0.34 + modality + 0.04 * self.random.normal()
        top += 0.05 * (values.get("network.cell") == "gru") + 0.04 * (
            values.get("fit.loss", "ccc") == "ccc"
        )
        top += 0.02 * bool(values.get("difficulty", False)) + 0.015 * str(
            values.get("modalities", "")
        ).count(",")
        epochs = int(self.random.integers(max_epochs // 2, max_epochs + 1))
        rise = 1 - np.exp(-np.arange(1, epochs + 1) / self.random.uniform(3, 8))
        curve = top * rise + 0.015 * self.random.normal(size=epochs)
        if not task.target:
            curve = curve - 1.0  # minus a reconstruction error
        return [round(float(score), 5) for score in curve]

    def _refits(self, task: Task) -> Iterator[Event]:
        table = self.study.table(task.stage)
        found = [t for t in self.history.of(task) if t.ended and t.ended.reason != "error"]
        ranked = sorted(found, key=lambda trial: (trial.complete, trial.best), reverse=True)[
            : table.finalists
        ]
        chosen = tuple(dict(trial.proposed.values) for trial in ranked)
        yield self._happened(
            FinalistsChosen(at=self.now, task=str(task), finalists=chosen, seeds=table.seeds)
        )
        finalists = []
        for values in chosen:
            scores = []
            for seed, fold in product(range(table.seeds), range(len(FOLDS))):
                if (seed, fold) != (0, 0):
                    yield from self._fit(task, "refit", values, fold, seed)
                scores.append(0.4 + 0.03 * self.random.normal() - (0.0 if task.target else 1.0))
            by_seed = tuple(
                float(np.mean(scores[seed :: table.seeds])) for seed in range(table.seeds)
            )
            finalists.append(
                Finalist(
                    values=values,
                    keys=tuple(
                        tuple(f"{fold}-{seed}" for seed in range(table.seeds)) for fold in FOLDS
                    ),
                    scores=by_seed,
                    devel=tuple(score + 0.05 for score in by_seed),
                    out_of_fold=tuple(score - 0.02 for score in by_seed),
                    reads={},
                )
            )
        ranking = tuple(sorted(finalists, key=lambda finalist: finalist.score, reverse=True))
        yield self._happened(TaskCompleted(at=self.now, task=str(task), finalists=ranking))

    def _summary(self, targets: tuple[str, ...]) -> dict[str, Any]:
        found = {
            "ccc": 0.476,
            "ccc_low": 0.351,
            "ccc_high": 0.574,
            "session_mean_ccc": 0.3,
            "undefined_sessions": 1,
            "frames": 1440,
            "sessions": 12,
            "subjects": 6,
            "floors": {"mean": 0.459, "weighted_mean": 0.482},
            "unimodal": {modality: 0.3 for modality in self.study.modalities or ()},
            "without_difficulty": 0.47,
        }
        return {
            "model": "study/model",
            "partition": "devel",
            "targets": dict.fromkeys(targets, found),
            "trials": len(self.history.trials),
            "epochs_trained": 1234,
            "wall_s": 600.0,
            "cpu_s": 1100.0,
            "store_hits": 0,
        }

    def _happened(self, event: Event) -> Event:
        self.history.apply(event)
        return event
