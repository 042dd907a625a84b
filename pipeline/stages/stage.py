"""A stage is a supervised problem: StageTask (what to learn) and TrainedStage (what was learned; as bytes and back)."""

# T = time (frames), O = outputs

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.corpus import Session
from pipeline.networks.sequence_regressor import SequenceRegressor
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.spec import FitSpec, NetworkSpec

TRAINING_CODE = 1  # raise it when the same task would now give other weights: stored stages are then trained anew
INFERENCE_BATCH = 64  # sequences predicted together

Stage = Literal["auto_encoder", "unimodal", "fusion"]
Columns = Mapping[str, NDArray[np.float32]]
"""Session id -> shape (frames, columns), NaN where missing: what an earlier stage said."""


@dataclass(frozen=True)
class StageTask:
    """A supervised problem on a corpus, small enough to send to a worker that already has the corpus.

    Attributes:
        stage: which of the three.
        name: for people, such as "unimodal/head/arousal/fold 2".
        modality: the feature set read from the corpus; "" for fusion.
        target: the label to predict; "" to rebuild the feature set.
        features: further feature columns from earlier stages (fusion: the unimodal predictions).
        difficulty: the difficulty columns from stage 1; None without.
        train_ids: sessions learned from.
        devel_ids: sessions that decide when to stop.
        key: sha256 over everything that decides the result.
    """

    stage: Stage
    name: str
    modality: str
    target: str
    network: NetworkSpec
    fit: FitSpec
    normalisation: Literal["train", "session", "both"]
    difficulty_scale: Literal["log", "raw"]
    seed: int
    train_ids: tuple[str, ...]
    devel_ids: tuple[str, ...]
    key: str
    features: Columns | None = None
    difficulty: Columns | None = None

    def values(self, session: Session) -> NDArray[np.float32]:
        """One session's raw input, shape (frames, columns), NaN where missing."""
        features = self.features[session.session_id] if self.features is not None else None
        return stage_values(session, self.modality, features, self.difficulty)

    @property
    def difficulty_size(self) -> int:
        return 0 if self.difficulty is None else next(iter(self.difficulty.values())).shape[1]


def stage_values(
    session: Session,
    modality: str,
    features: NDArray[np.float32] | None,
    difficulty: Columns | None,
) -> NDArray[np.float32]:
    """A stage's raw input for one session: the feature set, what earlier stages predicted, the difficulties.

    Returns:
        Shape (frames, columns), NaN where missing.
    """
    parts = []
    if modality:
        present = session.present[modality]
        values = session.features[modality]
        parts.append(
            values if present.all() else np.where(present[:, None], values, np.float32(np.nan))
        )
    if features is not None:
        parts.append(features)
    if difficulty is not None:
        parts.append(difficulty[session.session_id])
    return np.concatenate(parts, axis=1)


def task_key(**parts: Any) -> str:
    """The content hash of a task: what it is made of, as JSON, with the version of the training code."""
    text = json.dumps({"training_code": TRAINING_CODE, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Epoch:
    """One pass over the training windows. `score` is maximised: devel CCC, or minus the reconstruction error."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True)
class TrainedStage:
    """The solution of a StageTask: the best epoch's weights, and how its inputs are scaled.

    Attributes:
        label_mean, label_std: the network predicts in these units; 0 and 1 for an auto-encoder.
        score: the best epoch's; a CCC that is undefined counts as -1.
        history: every epoch, in order.
        cpu_s: processor seconds the training took.
    """

    stage: Stage
    name: str
    key: str
    network: NetworkSpec
    fit: FitSpec
    seed: int
    scale: Normalisation
    output_size: int
    label_mean: float
    label_std: float
    best_epoch: int
    score: float
    history: tuple[Epoch, ...]
    cpu_s: float
    weights: Mapping[str, Tensor] = field(repr=False)

    def regressor(self, device: str = "cpu") -> SequenceRegressor:
        """A fresh network with these weights, ready to predict."""
        with torch.device(
            "meta"
        ):  # no memory and no random numbers for weights that are there already
            network = SequenceRegressor(
                self.network, self.scale.input_size, self.output_size, self.scale.difficulty_size
            )
        network.load_state_dict(
            {name: tensor.clone() for name, tensor in self.weights.items()}, assign=True
        )
        return network.to(device).eval()

    @cached_property
    def _cpu_regressor(self) -> SequenceRegressor:
        """Kept, because building it takes a third of a prediction of one session."""
        return self.regressor()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cpu_regressor"}

    def predict(
        self, sessions: Sequence[NDArray[np.float32]], device: str = "cpu"
    ) -> list[NDArray[np.float32]]:
        """Predict whole sessions.

        Args:
            sessions: raw inputs, each of shape (frames, columns), NaN where missing.

        Returns:
            For each session shape (frames, outputs), in the label's unit (an auto-encoder's: z-scores).
        """
        inputs = [self.scale.apply(values) for values in sessions]
        outputs = predict(
            self._cpu_regressor if device == "cpu" else self.regressor(device), inputs, device
        )
        return [
            output * np.float32(self.label_std) + np.float32(self.label_mean) for output in outputs
        ]

    def record(self) -> dict[str, Any]:
        """All but the arrays, as JSON: the key, the specs, the scores, the history."""
        return {
            "stage": self.stage,
            "name": self.name,
            "key": self.key,
            "network": self.network.model_dump(),
            "fit": self.fit.model_dump(),
            "seed": self.seed,
            "side_size": self.scale.difficulty_size,
            "normalisation": self.scale.normalisation,
            "output_size": self.output_size,
            "label_mean": self.label_mean,
            "label_std": self.label_std,
            "best_epoch": self.best_epoch,
            "score": self.score,
            "cpu_s": self.cpu_s,
            "history": [list(asdict(epoch).values()) for epoch in self.history],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights and scale by name."""
        scale = {
            "scale.mean": self.scale.mean,
            "scale.std": self.scale.std,
            "scale.missing": self.scale.missing,
        }
        return {**{name: tensor.numpy() for name, tensor in self.weights.items()}, **scale}

    @classmethod
    def restore(cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TrainedStage:
        """The inverse of `record` and `arrays`."""
        scale = Normalisation(
            arrays["scale.mean"],
            arrays["scale.std"],
            arrays["scale.missing"],
            record["side_size"],
            record["normalisation"],
        )
        return cls(
            stage=record["stage"],
            name=record["name"],
            key=record["key"],
            network=NetworkSpec.model_validate(record["network"]),
            fit=FitSpec.model_validate(record["fit"]),
            seed=record["seed"],
            scale=scale,
            output_size=record["output_size"],
            label_mean=record["label_mean"],
            label_std=record["label_std"],
            best_epoch=record["best_epoch"],
            score=record["score"],
            history=tuple(Epoch(*row) for row in record["history"]),
            cpu_s=record["cpu_s"],
            weights={
                name: torch.from_numpy(array)
                for name, array in arrays.items()
                if not name.startswith("scale.")
            },
        )

    def to_files(self) -> dict[str, bytes]:
        """As the files of a store entry: JSON and safetensors, no pickle."""
        return {
            "stage.json": json.dumps(self.record(), sort_keys=True).encode(),
            "weights.safetensors": safetensors.numpy.save(self.arrays()),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> TrainedStage:
        """The inverse of `to_files`."""
        return cls.restore(
            json.loads(files["stage.json"]), safetensors.numpy.load(files["weights.safetensors"])
        )


def mean_prediction(
    models: Sequence[TrainedStage], sessions: Sequence[NDArray[np.float32]], device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """The mean of what several models predict of the same raw inputs; shape (frames, outputs) each."""
    predictions = [model.predict(sessions, device) for model in models]
    return [
        np.stack(of_one).mean(axis=0, dtype=np.float64).astype(np.float32)
        for of_one in zip(*predictions, strict=True)
    ]


def pad(sequences: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Stack sequences of shape (frames, columns) into x_BTF, zeros at the end, and their lengths_B."""
    lengths_B = torch.tensor([len(sequence) for sequence in sequences])
    x_BTF = torch.zeros(len(sequences), int(lengths_B.max()), sequences[0].shape[1])
    for row, sequence in enumerate(sequences):
        x_BTF[row, : len(sequence)] = torch.from_numpy(sequence)
    return x_BTF, lengths_B


@torch.inference_mode()
def predict(
    network: SequenceRegressor, inputs: Sequence[NDArray[np.float32]], device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """The network's outputs for whole sequences of normalised inputs; shape (frames, outputs) each."""
    outputs: list[NDArray[np.float32]] = []
    for start in range(0, len(inputs), INFERENCE_BATCH):
        x_BTF, lengths_B = pad(inputs[start : start + INFERENCE_BATCH])
        y_BTO = network(x_BTF.to(device), lengths_B).cpu().numpy()
        outputs += [y_TO[:length] for y_TO, length in zip(y_BTO, lengths_B.tolist(), strict=True)]
    return outputs
