"""Trains stopped trials to the end: with their own key and seed, so they go where they would have gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.util import ActorPool

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.stage import Epoch
from pipeline.storage.stage_store import StageStore
from tuning.fitting.job import Job, checkpoint_name, stage_task
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.history import History, Trial
from tuning.planning.configurations import Configurations
from tuning.planning.planner import WORKER_LOSSES
from tuning.ray_backend.cluster import cluster
from tuning.ray_backend.shared_corpus import pack, unpack
from tuning.ray_backend.trainable import ResumableFit


def jobs_of(
    found: History, corpus: Corpus, store: StageStore, trials: Sequence[Trial]
) -> list[Job]:
    """What a worker needs to train these trials to the end; proves that it can."""
    study = found.study
    plan = CrossFitPlan.of(corpus, study.base)
    upstream = UpstreamPredictions(store, corpus, plan, study.base)
    on = {device: Configurations(study, plan, found, device) for device in ("cpu", "cuda")}
    jobs = []
    for trial in trials:
        same = [
            job
            for device in on
            if stage_task(job := on[device].job(trial.proposed), corpus, plan).key
            == trial.proposed.key
        ]
        if not same:
            raise InputError(
                f"Trial {trial.name} cannot be trained as it was: the study was run with another version of Affectune "
                "or of its training code. Audit it with that version."
            )
        if same[0].device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "The study was trained on a GPU, and torch finds no CUDA device. Audit it where one is."
            )
        try:
            upstream.difficulty(same[0].sources)
            upstream.predictions(same[0].sources)
        except AffectuneError as error:
            raise InputError(
                f"The store '{store.uri}' does not have the stages that trial {trial.name} of {trial.task} reads. "
                "Pass the store that the study used as --store."
            ) from error
        jobs.append(replace(same[0], rungs=()))
    return jobs


def train(
    jobs: Sequence[Job], corpus: Corpus, spec: Spec, store: StageStore, workers: int
) -> Iterator[tuple[str, tuple[Epoch, ...], str | None]]:
    """Train jobs in this process, or several at a time; what is done first comes first."""
    workers = min(workers, len(jobs))
    if workers < 2:
        worker = Worker(corpus, spec.model_dump_json(), store.uri)
        yield from (worker.train(job.to_config()) for job in jobs)
        return
    gpus = 1 / workers if any(job.device != "cpu" for job in jobs) else 0
    with cluster(None, workers):
        head, packed = pack(corpus)
        shared = ray.put(head), ray.put(packed)
        remote = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=WORKER_LOSSES, max_task_retries=WORKER_LOSSES
        )(SharedWorker)
        pool = ActorPool([remote.remote(spec.model_dump_json(), store.uri) for _ in range(workers)])
        configs = [job.to_config() for job in jobs]
        try:
            yield from pool.map_unordered(
                lambda actor, config: actor.train.remote(config, *shared), configs
            )
        except ray.exceptions.RayError as error:
            raise AffectuneError(
                "Worker processes were killed again and again (out of memory?). What is trained is kept: "
                "run the same command again, with fewer --workers if memory is short."
            ) from error


class Worker:
    """Trains jobs to the end with one thread, one after the other; every few seconds its state is kept in the store."""

    def __init__(self, corpus: Corpus, spec: str, store: str) -> None:
        torch.set_num_threads(1)
        base = Spec.model_validate_json(spec)
        self._corpus, self._plan, self._store = (
            corpus,
            CrossFitPlan.of(corpus, base),
            StageStore(store),
        )
        self._upstream = UpstreamPredictions(self._store, corpus, self._plan, base)

    def train(self, config: dict[str, str]) -> tuple[str, tuple[Epoch, ...], str | None]:
        """The trial's name, its epochs, and why it failed, if it did."""
        job = Job.from_config(config)
        fit = ResumableFit(job, self._corpus, self._plan, self._store, self._upstream)
        epochs: list[Epoch] = []
        ended = None
        while ended is None:
            report = fit.advance()
            epochs += [Epoch(*epoch) for epoch in report["epochs"]]
            ended = report["ended"]
        self._store.remove(checkpoint_name(stage_task(job, self._corpus, self._plan).key))
        return job.trial, tuple(epochs), report.get("error")


class SharedWorker:
    """One of several, in a process of its own; it opens the corpus that they share with its first job."""

    def __init__(self, spec: str, store: str) -> None:
        self._spec, self._store = spec, store
        self._worker: Worker | None = None

    def train(
        self, config: dict[str, str], head: bytes, packed: NDArray[np.uint8]
    ) -> tuple[str, tuple[Epoch, ...], str | None]:
        """See `Worker.train`."""
        self._worker = self._worker or Worker(unpack(head, packed), self._spec, self._store)
        return self._worker.train(config)
