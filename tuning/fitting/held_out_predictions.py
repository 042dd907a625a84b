"""What a trained stage outputs for sessions that it never saw: later stages read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import numpy as np
import safetensors.numpy

from pipeline.spec import CorruptionKind
from pipeline.stages.trained_stage import Columns, Epoch
from pipeline.stages.upstream import COPY_KINDS

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
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    devel: float
    outputs: Columns
    copies: Mapping[CorruptionKind, Columns] = field(default_factory=dict)

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a store entry: JSON and safetensors."""
        record = {
            "history": [astuple(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "devel": self.devel,
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
        )


def held_out_name(key: str) -> str:
    """Return the store's name for the held-out predictions of the stage under a key."""
    return f"{key}-held-out"


def _copies_file(kind: CorruptionKind) -> str:
    return f"held_out_copies_{kind}.safetensors"


def _to_bytes(columns: Columns) -> bytes:
    arrays = {name: np.ascontiguousarray(output) for name, output in columns.items()}
    return safetensors.numpy.save(arrays)
