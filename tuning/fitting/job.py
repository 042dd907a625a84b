"""A trial as a worker gets it: all that a fit needs to know, and nothing of the study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.corpus import Corpus
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import (
    StageKeys,
    SupervisedProblem,
    Task,
    UpstreamKeys,
    UpstreamOutputs,
)
from tuning.spec.tasks import parse_task


@dataclass(frozen=True)
class Job:
    """One fit.

    Attributes:
        trial: its name.
        task: of the study.
        spec: the settings, this configuration's and this trial's seed laid over the base.
        fold: index of the fold in the plan.
        upstream_keys: of the trained stages that it reads.
        rungs: numbers of epochs after which the trial waits for early stopping's decision.
        device: "cpu" or "cuda".
        key: of the trained stage.
    """

    trial: str
    task: Task
    spec: Spec
    fold: int
    upstream_keys: UpstreamKeys
    rungs: tuple[int, ...]
    device: str
    key: str

    def problem(
        self, corpus: Corpus, plan: CrossFitPlan, outputs: UpstreamOutputs
    ) -> SupervisedProblem:
        """Pose the supervised problem of the job.

        Args:
            corpus: of the study.
            plan: its folds.
            outputs: of the stages that it reads.
        """
        return self.task.problem(corpus, self.spec, plan.folds[self.fold], self.key, outputs)

    def to_config(self) -> dict[str, str]:
        """Return the config of a Tune trial: small, because Tune copies it with every result."""
        record = {
            "spec": self.spec.model_dump(mode="json"),
            "fold": self.fold,
            "upstream": asdict(self.upstream_keys),
            "rungs": self.rungs,
            "device": self.device,
            "key": self.key,
        }
        return {"trial": self.trial, "task": str(self.task), "job": json.dumps(record)}

    @classmethod
    def from_config(cls, config: Mapping[str, str]) -> Job:
        """Return the job that `to_config` came from."""
        record = json.loads(config["job"])
        upstream = record["upstream"]
        return cls(
            trial=config["trial"],
            task=parse_task(config["task"]),
            spec=Spec.model_validate(record["spec"]),
            fold=record["fold"],
            upstream_keys=UpstreamKeys(
                auto_encoders=_stage_keys(upstream["auto_encoders"]),
                regressors=_stage_keys(upstream["regressors"]),
                other_regressors={
                    target: _stage_keys(keys)
                    for target, keys in upstream["other_regressors"].items()
                },
            ),
            rungs=tuple(record["rungs"]),
            device=record["device"],
            key=record["key"],
        )


def _stage_keys(record: Mapping[str, list[list[str]]]) -> dict[str, StageKeys]:
    return {name: tuple(tuple(seeds) for seeds in folds) for name, folds in record.items()}
