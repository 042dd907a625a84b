"""Trains stopped trials to the end, with their own keys and seeds: what they would have become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.util import ActorPool

from pipeline.corpus import Corpus
from pipeline.credentials.outlets import mask_outlets
from pipeline.errors import AffectuneError, InputError, SurroundingsError, only_masked_errors
from pipeline.fitting.resumable_fit import remove_checkpoint
from pipeline.fitting.shared_corpus import pack, unpack
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.trained_stage import Epoch
from pipeline.storage.stage_store import StageStore
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitContext, TrialFit
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.history import History, Trial
from tuning.planning.configurations import Configurations
from tuning.planning.outstanding_fits import Fit
from tuning.planning.planner import MAX_WORKER_LOSSES
from tuning.ray_backend.cluster import cluster


@dataclass(frozen=True)
class Retrained:
    """A trial that was trained to the end.

    Attributes:
        trial: its name.
        epochs: all of them.
        error: why it failed, if it did.
    """

    trial: str
    epochs: tuple[Epoch, ...]
    error: str | None


def retraining_jobs(
    history: History, corpus: Corpus, store: StageStore, trials: Sequence[Trial]
) -> list[Job]:
    """Return what a worker needs to train trials to the end.

    Raises:
        InputError: they cannot be trained as they were, or the store lacks what they read.
    """
    study = history.study
    plan = CrossFitPlan.from_spec(corpus, study.base)
    upstream = UpstreamPredictions(store, corpus, plan, study.base)
    configurations = [
        Configurations(study, corpus, plan, history, device) for device in ("cpu", "cuda")
    ]

    jobs = []
    for trial in trials:
        job = _job_of(trial, configurations)
        try:
            upstream.outputs(job.upstream_keys)
        except AffectuneError as error:
            raise InputError(
                f"The store '{store.uri}' does not have the stages that trial {trial.name} of "
                f"{trial.task} reads. Pass the store that the study used as --store."
            ) from error
        jobs.append(job)
    return jobs


def retrain(
    jobs: Sequence[Job], corpus: Corpus, spec: Spec, store: StageStore, workers: int
) -> Iterator[Retrained]:
    """Train jobs in this process, or several at a time; the first to end comes first.

    Raises:
        AffectuneError: workers were killed again and again.
    """
    workers = min(workers, len(jobs))
    if workers > 1:
        yield from _retrain_with_ray(jobs, corpus, spec, store, workers)
        return

    worker = Worker(corpus, spec.model_dump_json(), store.uri)
    for job in jobs:
        yield worker.retrain(job.to_config())


class Worker:
    """Trains jobs to the end with one thread, one after the other, through the store."""

    def __init__(self, corpus: Corpus, spec: str, store: str) -> None:
        mask_outlets()
        torch.set_num_threads(1)
        base = Spec.model_validate_json(spec)
        with only_masked_errors():
            self._context = FitContext.create(corpus, base, StageStore(store))

    def retrain(self, config: dict[str, str]) -> Retrained:
        """Train one job to the end.

        Raises:
            SurroundingsError: the store or the disk fails it.
        """
        job = Job.from_config(config)
        fit = TrialFit(job, self._context)
        epochs: list[Epoch] = []

        while True:
            report = fit.advance()
            epochs += report.epochs
            if report.end_reason is not None:
                break
            if report.fault:
                raise SurroundingsError(report.fault)

        remove_checkpoint(self._context.store, job.key)
        return Retrained(job.trial, tuple(epochs), report.error)


class SharedWorker:
    """One of several workers, each in its own process.

    It opens the shared corpus with its first job.
    """

    def __init__(self, spec: str, store: str) -> None:
        self._spec, self._store = spec, store
        self._worker: Worker | None = None

    def retrain(self, config: dict[str, str], head: bytes, packed: NDArray[np.uint8]) -> Retrained:
        """Train one job to the end: see `Worker.retrain`."""
        self._worker = self._worker or Worker(unpack(head, packed), self._spec, self._store)
        return self._worker.retrain(config)


def _job_of(trial: Trial, configurations: Sequence[Configurations]) -> Job:
    """Return a trial's job on the device on which its key is the same, without rungs.

    Raises:
        InputError: its key is another one today, or it needs a GPU.
    """
    proposed = trial.proposed
    fit = Fit(proposed.configuration, proposed.fold, proposed.seed)
    jobs = [c.job(trial.name, trial.task, proposed.purpose, fit) for c in configurations]
    job = next((job for job in jobs if job.key == proposed.key), None)

    if job is None:
        raise InputError(
            f"Trial {trial.name} cannot be trained as it was: the study was run with another "
            "version of Affectune or of its training code. Audit it with that version."
        )
    if job.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "The study was trained on a GPU, and torch finds no CUDA device. Audit it where one is."
        )
    return replace(job, rungs=())


def _retrain_with_ray(
    jobs: Sequence[Job], corpus: Corpus, spec: Spec, store: StageStore, workers: int
) -> Iterator[Retrained]:
    has_gpu_jobs = any(job.device != "cpu" for job in jobs)
    with cluster(None, workers):
        head, packed = pack(corpus)
        shared = ray.put(head), ray.put(packed)

        remote = ray.remote(
            num_cpus=1,
            num_gpus=1 / workers if has_gpu_jobs else 0,
            max_restarts=MAX_WORKER_LOSSES,
            max_task_retries=MAX_WORKER_LOSSES,
        )(SharedWorker)
        actors = [remote.remote(spec.model_dump_json(), store.uri) for _ in range(workers)]
        configs = [job.to_config() for job in jobs]

        try:
            yield from ActorPool(actors).map_unordered(
                lambda actor, config: actor.retrain.remote(config, *shared), configs
            )
        except AffectuneError:  # a worker's own
            raise
        except ray.exceptions.RayError as error:
            raise AffectuneError(
                "Worker processes were killed again and again (out of memory?). What is trained is "
                "kept: run the same command again, with fewer --workers if memory is short."
            ) from error
