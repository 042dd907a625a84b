"""The search as a plain Ray Tune script does it: what `study` is compared with.

Three stages, one after the other; for each a Tune experiment of all configurations of all its tasks, and one that
trains the finalists on every fold. A process per trial, `tune.report` after every epoch, `torch.nn.GRU`, one thread.
Every trial is trained until the fit's own end (its epochs, its patience): nobody compares it with others on the way,
and nothing that was trained is looked for before it is trained again.

The same code as in a study says what is not a matter of speed: settings, folds, networks but for the recurrent layers,
the loop over batches, the score that decides, which stages feed which.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ray import tune
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import pipeline.networks.sequence_regressor
from pipeline.corpus import Corpus
from pipeline.fitting.trainer import Trainer
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import held_out_name, say
from tuning.fitting.job import Job, stage_task
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import Finalist, Purpose, TaskCompleted, TrialProposed
from tuning.journal.history import History
from tuning.planning.configurations import Configurations, Fit, Values, fit_name
from tuning.planning.sampler import Sampler, seed_of
from tuning.planning.scoring import verdict
from tuning.spec.space import STAGES
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task, tasks

Score = tuple[float, str]
"""A fit's best score on devel, and the key of what it said."""


def plain_search(
    study: StudySpec, corpus: Corpus, folder: Path
) -> Mapping[Task, Sequence[Finalist]]:
    """Search all three stages; Ray must be running.

    Args:
        study: its samplers learn nothing from scores, so that a study tries the same configurations.
        corpus: what it learns from.
        folder: for what trials hand over and what Tune writes.

    Returns:
        Each task's finalists, the best first.
    """
    return _PlainSearch(study, corpus, folder).run()


class _PlainSearch:
    def __init__(self, study: StudySpec, corpus: Corpus, folder: Path) -> None:
        self._study, self._corpus, self._folder = study, corpus, folder
        self._plan = CrossFitPlan.of(corpus, study.base)
        self._settled = History()
        self._configurations = Configurations(study, self._plan, self._settled, "cpu")
        self._words = UpstreamPredictions(
            StageStore(folder / "said"), corpus, self._plan, study.base
        ).words
        self._trials = 0

    def run(self) -> Mapping[Task, Sequence[Finalist]]:
        for stage in STAGES:
            own = [
                t
                for t in tasks(self._study.modalities or (), self._study.targets or ())
                if t.stage == stage
            ]
            searched = self._experiment("search", {task: self._tried(task) for task in own})
            best = {task: self._best(task, searched[task]) for task in own}
            seeds = self._study.table(stage).seeds
            refits = {
                task: [
                    fit for values in best[task] for fit in self._configurations.fits(values, seeds)
                ]
                for task in own
            }
            for task, found in self._experiment("refit", refits).items():
                finalists = [self._finalist(task, values, seeds, found) for values in best[task]]
                ranked = tuple(sorted(finalists, key=lambda finalist: finalist.score, reverse=True))
                self._settled.apply(TaskCompleted(at=time.time(), task=str(task), finalists=ranked))
        return self._settled.settled

    def _tried(self, task: Task) -> list[Fit]:
        """The configurations that a study's search tries, on the first fold with the first seed."""
        kind, space = self._study.table(task.stage).sampler, self._configurations.space(task)
        assert kind != "tpe"
        sampler = Sampler(space, kind, seed_of(self._study.seed, str(task)))
        found = [sampler.propose() for _ in range(self._study.num_trials(task.stage))]
        return [(values, 0, self._study.seed) for values in found if values is not None]

    def _best(self, task: Task, searched: Mapping[str, Score]) -> list[Values]:
        fits = sorted(self._tried(task), key=lambda fit: searched[fit_name(*fit)][0], reverse=True)
        return [values for values, _, _ in fits[: self._study.table(task.stage).finalists]]

    def _finalist(
        self, task: Task, values: Values, seeds: int, refitted: Mapping[str, Score]
    ) -> Finalist:
        by_fold = [
            tuple(
                refitted[fit_name(values, fold, self._study.seed + seed)][1]
                for seed in range(seeds)
            )
            for fold in range(len(self._plan.folds))
        ]
        found = [
            verdict(
                task,
                self._corpus,
                self._words(tuple((fold[seed],) for fold in by_fold)),
                self._study.protocol,
            )
            for seed in range(seeds)
        ]
        return Finalist(
            values=values,
            keys=tuple(by_fold),
            scores=tuple(each.score for each in found),
            devel=tuple(each.devel for each in found),
            out_of_fold=tuple(each.out_of_fold for each in found),
            reads=self._configurations.space(task).ranks(values),
        )

    def _experiment(
        self, purpose: Purpose, fits: Mapping[Task, Sequence[Fit]]
    ) -> dict[Task, dict[str, Score]]:
        """One Tune experiment; what became of each fit."""
        jobs = {
            (task, fit_name(*fit)): self._job(task, purpose, fit)
            for task, named in fits.items()
            for fit in named
        }
        configs = {job.trial: job.to_config() for job in jobs.values()}
        spec, said = self._study.base.model_dump_json(), str(self._folder / "said")
        trainable = tune.with_parameters(
            train, configs=configs, corpus=self._corpus, spec=spec, said=said
        )
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"trial": tune.grid_search(list(configs))},
            run_config=tune.RunConfig(storage_path=str(self._folder / "tune"), verbose=0),
        ).fit()
        scores: dict[str, Score] = {}
        for result in (results[place] for place in range(len(results))):
            if result.error or not result.metrics or not result.config:
                raise RuntimeError(f"A plain trial failed: {result.error}")
            scores[result.config["trial"]] = result.metrics["best"], result.metrics["key"]
        return {
            task: {name: scores[job.trial] for (other, name), job in jobs.items() if other == task}
            for task in fits
        }

    def _job(self, task: Task, purpose: Purpose, fit: Fit) -> Job:
        values, fold, seed = fit
        self._trials += 1
        return self._configurations.job(
            TrialProposed(
                at=0.0,
                trial=f"{self._trials:04d}",
                task=str(task),
                purpose=purpose,
                values=values,
                fold=fold,
                seed=seed,
                key="",
            )
        )


def train(
    config: dict[str, str], configs: dict[str, dict[str, str]], corpus: Corpus, spec: str, said: str
) -> None:
    """One trial, in a process of its own."""
    torch.set_num_threads(1)
    pipeline.networks.sequence_regressor.recurrent_layers = plain_layers  # type: ignore[attr-defined]  # in this process alone
    base, job, store = (
        Spec.model_validate_json(spec),
        Job.from_config(configs[config["trial"]]),
        StageStore(said),
    )
    plan = CrossFitPlan.of(corpus, base)
    upstream = UpstreamPredictions(store, corpus, plan, base)
    difficulty, predictions = upstream.difficulty(job.sources), upstream.predictions(job.sources)
    task = stage_task(job, corpus, plan, difficulty, predictions)
    training, key = Trainer(task, corpus), f"{job.trial}-{task.key}"
    while not training.over:
        epoch = training.step()
        if training.over:
            store.write(
                held_out_name(key),
                say(training.solution(), job, corpus, plan, difficulty, predictions).to_files(),
            )
        tune.report(
            {"score": epoch.score, "best": training.best.score, "loss": epoch.loss, "key": key}
        )


def plain_layers(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
) -> nn.Module:
    """Recurrent layers as torch has them."""
    assert cell == "gru"
    return PlainGRU(
        input_size,
        hidden_size,
        num_layers,
        batch_first=True,
        bidirectional=bidirectional,
        dropout=dropout if num_layers > 1 else 0.0,
    )


class PlainGRU(nn.GRU):
    """torch.nn.GRU on padded sequences."""

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:  # type: ignore[override]  # lengths in, no states
        """The states of the last layer; packing is slow on a CPU, so sequences of one length are not packed."""
        if (lengths_B == x_BTF.shape[1]).all():
            states_BTS: Tensor = super().forward(x_BTF)[0]
            return states_BTS
        packed = pack_padded_sequence(x_BTF, lengths_B, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            super().forward(packed)[0], batch_first=True, total_length=x_BTF.shape[1]
        )[0]
