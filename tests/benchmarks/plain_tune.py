"""The search as a plain Ray Tune script does it: what `study` is compared with.

Three stages, one after the other. For each there is a Tune experiment of all configurations of all
its tasks, and one that trains the finalists on every fold. Each trial is a process with one thread,
uses `torch.nn.GRU`, and reports after every epoch. It is trained until the fit's own end (its
epochs, its patience): nobody compares it with others on the way, and no stored fit is reused.

What is not a matter of speed is decided by the same code as in a study: settings, folds, networks
but for the recurrent layers, the loop over batches, the deciding score, which stages are upstream.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ray import tune

from pipeline.corpus import Corpus
from pipeline.fitting.trainer import Trainer
from pipeline.spec import Spec, StageName
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import Task
from pipeline.storage.stage_store import StageStore
from tests.benchmarks.plain_torch import networks_in_plain_torch
from tuning.fitting.held_out_predictions import held_out_name
from tuning.fitting.job import Job
from tuning.fitting.scoring import FinalistScore, finalist_score
from tuning.fitting.trial_fit import FitContext, predict_held_out
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import Finalist, Purpose, TaskCompleted
from tuning.journal.history import History
from tuning.planning.configurations import Configurations
from tuning.planning.outstanding_fits import Fit, FitPlan
from tuning.planning.sampling.sampler import Sampler, derive_seed
from tuning.spec.space import STAGES, Configuration
from tuning.spec.study_spec import StudySpec


@dataclass(frozen=True)
class FitResult:
    """What a fit reached.

    Attributes:
        devel: its best score on devel.
        key: of its held-out predictions in the store.
    """

    devel: float
    key: str


Results = Mapping[tuple[Task, Fit], FitResult]


def plain_search(
    study: StudySpec, corpus: Corpus, folder: Path
) -> Mapping[Task, Sequence[Finalist]]:
    """Search all three stages; Ray must be running.

    Args:
        study: its samplers do not learn from scores, so that a study tries the same configurations.
        corpus: what it learns from.
        folder: for what trials hand over and what Tune writes.

    Returns:
        Each task's finalists, the best first.
    """
    search = _PlainSearch(study, corpus, folder)
    for stage in STAGES:
        search.complete(stage)
    return search.history.completed


class _PlainSearch:
    """A search, stage by stage; its history holds the finalists of the stages that are complete."""

    def __init__(self, study: StudySpec, corpus: Corpus, folder: Path) -> None:
        self.history = History()
        self._study, self._corpus, self._folder = study, corpus, folder
        self._plan = CrossFitPlan.from_spec(corpus, study.base)
        self._fits = FitPlan(study, len(self._plan.folds))
        self._configurations = Configurations(study, corpus, self._plan, self.history)
        store = StageStore(folder / "store")
        self._upstream = UpstreamPredictions(store, corpus, self._plan, study.base)
        self._num_trials = 0

    def complete(self, stage: StageName) -> None:
        """Search the configurations of a stage's tasks, and rank the finalists of each."""
        stage_tasks = [task for task in self._fits.tasks if task.stage == stage]

        candidates = {task: self._candidates(task) for task in stage_tasks}
        results = self._train_all("search", candidates)
        best = {task: self._best(task, candidates[task], results) for task in stage_tasks}

        refits = {task: self._refits(task, best[task]) for task in stage_tasks}
        results = self._train_all("refit", refits)
        for task in stage_tasks:
            finalists = [self._finalist(task, winner, results) for winner in best[task]]
            ranked = tuple(
                sorted(finalists, key=lambda finalist: finalist.mean_deciding, reverse=True)
            )
            self.history.apply(TaskCompleted(at=time.time(), task=str(task), finalists=ranked))

    def _candidates(self, task: Task) -> list[Fit]:
        """Return what a study's search tries, each on the first fold with the first seed."""
        kind, space = self._study.table(task.stage).sampler, self._configurations.space(task)
        assert kind != "tpe"
        sampler = Sampler(space, kind, derive_seed(self._study.seed, str(task)))
        proposals = [sampler.propose() for _ in range(self._study.num_trials(task.stage))]

        seed = self._study.seed
        return [Fit(proposal, 0, seed) for proposal in proposals if proposal is not None]

    def _best(self, task: Task, candidates: Sequence[Fit], results: Results) -> list[Configuration]:
        """Return the configurations that become finalists."""
        ranked = sorted(candidates, key=lambda fit: results[task, fit].devel, reverse=True)
        num_finalists = self._study.table(task.stage).finalists
        return [fit.configuration for fit in ranked[:num_finalists]]

    def _refits(self, task: Task, best: Sequence[Configuration]) -> list[Fit]:
        seeds = self._study.table(task.stage).seeds
        fits: list[Fit] = []
        for configuration in best:
            fits += self._fits.finalist_fits(configuration, seeds)
        return fits

    def _finalist(self, task: Task, configuration: Configuration, results: Results) -> Finalist:
        num_folds, num_seeds = len(self._plan.folds), self._study.table(task.stage).seeds
        keys_by_fold = []
        for fold in range(num_folds):
            fits = [Fit(configuration, fold, self._study.seed + seed) for seed in range(num_seeds)]
            keys_by_fold.append(tuple(results[task, fit].key for fit in fits))

        scores = [self._score(task, keys_by_fold, seed) for seed in range(num_seeds)]
        return Finalist(
            configuration=configuration,
            keys=tuple(keys_by_fold),
            deciding=tuple(score.deciding for score in scores),
            devel=tuple(score.devel for score in scores),
            out_of_fold=tuple(score.out_of_fold for score in scores),
            upstream_ranks=self._configurations.space(task).ranks(configuration),
        )

    def _score(
        self, task: Task, keys_by_fold: Sequence[tuple[str, ...]], seed: int
    ) -> FinalistScore:
        """Score one seed of a finalist on all its folds."""
        outputs = self._upstream.stage_outputs(tuple((keys[seed],) for keys in keys_by_fold))
        return finalist_score(task, self._corpus, outputs, self._study.protocol)

    def _train_all(self, purpose: Purpose, fits: Mapping[Task, Sequence[Fit]]) -> Results:
        """Train all fits in one Tune experiment."""
        jobs: dict[tuple[Task, Fit], Job] = {}
        for task, task_fits in fits.items():
            for fit in task_fits:
                self._num_trials += 1
                trial = f"{self._num_trials:04d}"
                jobs[task, fit] = self._configurations.job(trial, task, purpose, fit)

        results = self._run_tune(list(jobs.values()))
        return {name: results[job.trial] for name, job in jobs.items()}

    def _run_tune(self, jobs: Sequence[Job]) -> dict[str, FitResult]:
        """Return the result of each job by the name of its trial."""
        configs = {job.trial: job.to_config() for job in jobs}
        trainable = tune.with_parameters(
            train_plainly,
            configs=configs,
            corpus=self._corpus,
            spec=self._study.base.model_dump_json(),
            store_path=str(self._folder / "store"),
        )
        grid = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"trial": tune.grid_search(list(configs))},
            run_config=tune.RunConfig(storage_path=str(self._folder / "tune"), verbose=0),
        ).fit()

        results = {}
        for result in (grid[index] for index in range(len(grid))):
            if result.error or not result.metrics or not result.config:
                raise RuntimeError(f"A plain trial failed: {result.error}")
            metrics = result.metrics
            results[result.config["trial"]] = FitResult(metrics["best"], metrics["key"])
        return results


def train_plainly(
    config: dict[str, str],
    configs: dict[str, dict[str, str]],
    corpus: Corpus,
    spec: str,
    store_path: str,
) -> None:
    """Train one trial in a process of its own, with recurrent layers of plain torch."""
    torch.set_num_threads(1)
    with networks_in_plain_torch():
        job = Job.from_config(configs[config["trial"]])
        _train(job, corpus, Spec.model_validate_json(spec), StageStore(store_path))


def _train(job: Job, corpus: Corpus, base: Spec, store: StageStore) -> None:
    context = FitContext.create(corpus, base, store)
    trainer = Trainer(context.problem(job), corpus)
    key = f"{job.trial}-{job.key}"

    while not trainer.is_done:
        epoch = trainer.train_epoch()
        if trainer.is_done:
            stage = trainer.trained_stage()
            held_out = predict_held_out(stage, job, context)
            store.write(held_out_name(key), held_out.to_files())
        metrics = {
            "score": epoch.score,
            "best": trainer.best.score,
            "loss": epoch.loss,
            "key": key,
        }
        tune.report(metrics)
