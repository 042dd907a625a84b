"""What a trained stage outputs for sessions that it never saw: later stages read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import safetensors.numpy

from pipeline.corpus import Corpus
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import UpstreamOutputs
from pipeline.stages.trained_stage import Columns, Epoch, TrainedStage
from tuning.fitting.job import Job

RECORD_FILE, ARRAYS_FILE = "held_out_predictions.json", "held_out_predictions.safetensors"


@dataclass(frozen=True)
class HeldOutPredictions:
    """How a stage was trained, and what it outputs.

    Attributes:
        history: every epoch.
        best_epoch: the epoch whose weights were kept.
        devel: its score on devel.
        outputs: session id -> shape (frames, 1), of the sessions that its fold held out and of
            devel: reconstruction errors, or predictions in the label's unit; NaN where the
            modality is missing.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    devel: float
    outputs: Columns

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a store entry: JSON and safetensors."""
        record = {
            "history": [astuple(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "devel": self.devel,
        }
        arrays = {name: np.ascontiguousarray(output) for name, output in self.outputs.items()}
        return {
            RECORD_FILE: json.dumps(record).encode(),
            ARRAYS_FILE: safetensors.numpy.save(arrays),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> HeldOutPredictions:
        """Return the predictions that `to_files` came from."""
        record = json.loads(files[RECORD_FILE])
        return cls(
            history=tuple(Epoch(*epoch) for epoch in record["history"]),
            best_epoch=record["best_epoch"],
            devel=record["devel"],
            outputs=safetensors.numpy.load(files[ARRAYS_FILE]),
        )


def held_out_name(key: str) -> str:
    """Return the store's name for the held-out predictions of the stage under a key."""
    return f"{key}-held-out"


def predict_held_out(
    stage: TrainedStage,
    job: Job,
    corpus: Corpus,
    plan: CrossFitPlan,
    upstream: UpstreamOutputs,
) -> HeldOutPredictions:
    """Predict the sessions that the stage's fold held out, and devel."""
    held_out_ids = plan.folds[job.fold].held_out_ids
    sessions = [corpus.session(session_id) for session_id in held_out_ids]
    sessions += corpus.partition("devel")

    arrays = job.task.predict([stage], sessions, upstream, job.device)
    session_ids = [session.session_id for session in sessions]
    outputs = dict(zip(session_ids, arrays, strict=True))
    return HeldOutPredictions(stage.history, stage.best_epoch, stage.score, outputs)
