"""A trial as a worker gets it, and the StageTask that it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.corpus import Corpus
from pipeline.spec import Spec
from pipeline.stages.auto_encoder import auto_encoder_task
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.fusion import fusion_task
from pipeline.stages.stage import Columns, StageTask, task_key
from pipeline.stages.unimodal import unimodal_task
from tuning.spec.tasks import Task, parse_task

Keys = tuple[tuple[str, ...], ...]
"""For each fold the keys of a stage's models, one per seed."""


@dataclass(frozen=True)
class UpstreamKeys:
    """What a stage reads from those above it.

    Attributes:
        encoders: modality -> the auto-encoders whose error is its difficulty; empty where none is read.
        regressors: modality -> the regressors whose predictions are fused; empty but for fusion.
    """

    encoders: Mapping[str, Keys]
    regressors: Mapping[str, Keys]

    def keys(self) -> list[str]:
        """All of them, in a fixed order."""
        return [
            key
            for named in (self.encoders, self.regressors)
            for keys in named.values()
            for key in flat(keys)
        ]


@dataclass(frozen=True)
class Job:
    """One fit.

    Attributes:
        trial: its name.
        task: of the study.
        spec: the settings, this configuration's and this trial's seed laid over the base.
        fold: which training of the plan.
        sources: what it reads.
        rungs: epochs after which the trial waits to hear whether it goes on.
        device: "cpu" or "cuda".
    """

    trial: str
    task: Task
    spec: Spec
    fold: int
    sources: UpstreamKeys
    rungs: tuple[int, ...]
    device: str

    def to_config(self) -> dict[str, str]:
        """As the config of a Tune trial: flat and small, for Tune copies it with every result."""
        record = {
            "spec": self.spec.model_dump(mode="json"),
            "fold": self.fold,
            "encoders": self.sources.encoders,
            "regressors": self.sources.regressors,
            "rungs": self.rungs,
            "device": self.device,
        }
        return {"trial": self.trial, "task": str(self.task), "job": json.dumps(record)}

    @classmethod
    def from_config(cls, config: Mapping[str, str]) -> Job:
        """The inverse of `to_config`."""
        record = json.loads(config["job"])

        def named(found: Mapping[str, Any]) -> dict[str, Keys]:
            return {name: tuple(tuple(keys) for keys in folds) for name, folds in found.items()}

        return cls(
            trial=config["trial"],
            task=parse_task(config["task"]),
            spec=Spec.model_validate(record["spec"]),
            fold=record["fold"],
            sources=UpstreamKeys(named(record["encoders"]), named(record["regressors"])),
            rungs=tuple(record["rungs"]),
            device=record["device"],
        )


def stage_task(
    job: Job,
    corpus: Corpus,
    plan: CrossFitPlan,
    difficulty: Columns | None = None,
    predictions: Columns | None = None,
) -> StageTask:
    """The supervised problem of a job.

    Args:
        job: what to fit.
        corpus: of the study.
        plan: its folds.
        difficulty: of the job's sources; left out where only the key is wanted, which is the same without.
        predictions: likewise.
    """
    fold, task = plan.folds[job.fold], job.task
    difficulty = (difficulty or {}) if job.sources.encoders else None
    if task.stage == "auto_encoder":
        found = auto_encoder_task(corpus, job.spec, fold, task.modality)
    elif task.stage == "unimodal":
        found = unimodal_task(
            corpus, job.spec, fold, task.modality, task.target, difficulty, job.sources.keys()
        )
    else:
        found = fusion_task(
            corpus, job.spec, fold, task.target, predictions or {}, difficulty, job.sources.keys()
        )
    if (
        job.device != "cpu"
    ):  # rounds otherwise: what a GPU trained is not what the same seed gives on a CPU
        found = replace(found, key=task_key(task=found.key, device=job.device))
    return found


def checkpoint_name(key: str) -> str:
    """The store's name for the state of a fit that has not ended."""
    return f"{key}-checkpoint"


def flat(keys: Keys) -> Iterable[str]:
    """All keys, fold by fold."""
    return (key for fold in keys for key in fold)
