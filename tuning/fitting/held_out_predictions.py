"""What a trained stage says of sessions that it never saw, kept beside it in the store: later stages read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import safetensors.numpy

from pipeline.corpus import Corpus
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.fusion import fused_predictions
from pipeline.stages.stage import Columns, Epoch, TrainedStage
from pipeline.stages.unimodal import unimodal_predictions
from tuning.fitting.job import Job


@dataclass(frozen=True)
class HeldOutPredictions:
    """How a stage was trained, and what it says.

    Attributes:
        history: every epoch.
        best_epoch: whose weights were kept.
        score: its score.
        columns: session id -> shape (frames, 1), of the sessions that its fold held out and of devel: reconstruction
            errors, or predictions in the label's unit; NaN where the modality is missing.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    score: float
    columns: Columns

    def to_files(self) -> dict[str, bytes]:
        """As files: JSON and safetensors."""
        record = {
            "history": [list(asdict(epoch).values()) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "score": self.score,
        }
        arrays = {name: np.ascontiguousarray(column) for name, column in self.columns.items()}
        return {
            "said.json": json.dumps(record).encode(),
            "said.safetensors": safetensors.numpy.save(arrays),
        }

    def report(self) -> dict[str, Any]:
        """As a worker's report of a fit that was in the store."""
        return {
            "epochs": [(epoch.epoch, epoch.loss, epoch.score) for epoch in self.history],
            "cpu_s": 0.0,
            "wall_s": 0.0,
            "ended": "store",
            "score": self.score,
            "best_epoch": self.best_epoch,
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> HeldOutPredictions:
        """The inverse of `to_files`."""
        record = json.loads(files["said.json"])
        return cls(
            tuple(Epoch(*epoch) for epoch in record["history"]),
            record["best_epoch"],
            record["score"],
            safetensors.numpy.load(files["said.safetensors"]),
        )


def held_out_name(key: str) -> str:
    """The store's name for what the stage under a key says."""
    return f"{key}-said"


def say(
    stage: TrainedStage,
    job: Job,
    corpus: Corpus,
    plan: CrossFitPlan,
    difficulty: Columns | None,
    predictions: Columns | None,
) -> HeldOutPredictions:
    """Ask a stage about the sessions that its fold held out, and about devel."""
    sessions = [corpus.session(name) for name in plan.folds[job.fold].held_out_ids] + list(
        corpus.partition("devel")
    )
    if job.task.stage == "auto_encoder":
        found = reconstruction_errors([stage], sessions, job.task.modality, job.device)
    elif job.task.stage == "unimodal":
        found = unimodal_predictions([stage], sessions, job.task.modality, difficulty, job.device)
    else:
        assert predictions is not None
        found = fused_predictions([stage], sessions, predictions, difficulty, job.device)
    columns = dict(zip([session.session_id for session in sessions], found, strict=True))
    return HeldOutPredictions(stage.history, stage.best_epoch, stage.score, columns)
