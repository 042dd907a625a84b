"""What a trained stage outputs for sessions that it never saw: later stages read it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import numpy as np
import safetensors.numpy

from pipeline.spec import CorruptionKind
from pipeline.stages.trained_stage import Columns, Epoch, TrainedStage
from pipeline.stages.upstream import COPY_KINDS
from pipeline.storage.stage_store import StageStore

log = logging.getLogger(__name__)

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
        copies: kind of corruption -> outputs likewise for copies of these sessions in which the
            stage's modality is spoilt: a fusion learns from them. A fusion itself has none, and a
            modality that was dropped has no outputs.
        key: of the stage; "" in what was stored before entries said it.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    devel: float
    outputs: Columns
    copies: Mapping[CorruptionKind, Columns] = field(default_factory=dict)
    key: str = ""

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a store entry: JSON and safetensors."""
        record = {
            "history": [astuple(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "devel": self.devel,
            "key": self.key,
        }
        return {
            RECORD_FILE: json.dumps(record).encode(),
            ARRAYS_FILE: _to_bytes(self.outputs),
            **{_copies_file(kind): _to_bytes(columns) for kind, columns in self.copies.items()},
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
            copies={
                kind: safetensors.numpy.load(files[_copies_file(kind)])
                for kind in COPY_KINDS
                if _copies_file(kind) in files
            },
            key=record.get("key", ""),
        )

    def is_of(self, stage: TrainedStage) -> bool:
        """Return whether these are a stage's, and not of one whose entry changed places with it."""
        if self.key not in ("", stage.key):
            return False
        own = (stage.history, stage.best_epoch, stage.score)
        return (self.history, self.best_epoch, self.devel) == own


def read_held_out(store: StageStore, key: str) -> HeldOutPredictions | None:
    """Return what the stage under a key outputs, whether or not the store has the stage itself.

    Returns:
        None where there is none, or it is damaged or another stage's, which is logged.
    """
    predictions = store.read(held_out_name(key), HeldOutPredictions.from_files)
    if predictions is None or predictions.key == key:
        return predictions
    stage = None if predictions.key else store.get(key)
    return _belonging(predictions, stage, key)


def read_held_out_of(store: StageStore, stage: TrainedStage) -> HeldOutPredictions | None:
    """Return what a trained stage outputs: see `read_held_out`."""
    predictions = store.read(held_out_name(stage.key), HeldOutPredictions.from_files)
    return None if predictions is None else _belonging(predictions, stage, stage.key)


def read_trained(store: StageStore, key: str) -> HeldOutPredictions | None:
    """Return what a trained stage outputs, where the store has both, and they fit each other."""
    stage = store.get(key)
    return None if stage is None else read_held_out_of(store, stage)


def _belonging(
    predictions: HeldOutPredictions, stage: TrainedStage | None, key: str
) -> HeldOutPredictions | None:
    if stage is not None and predictions.is_of(stage):
        return predictions
    log.warning(
        "The store's entry %s is another stage's and will be made anew.", held_out_name(key)[:12]
    )
    return None


def held_out_name(key: str) -> str:
    """Return the store's name for the held-out predictions of the stage under a key."""
    return f"{key}-held-out"


def _copies_file(kind: CorruptionKind) -> str:
    return f"held_out_copies_{kind}.safetensors"


def _to_bytes(columns: Columns) -> bytes:
    arrays = {name: np.ascontiguousarray(output) for name, output in columns.items()}
    return safetensors.numpy.save(arrays)
