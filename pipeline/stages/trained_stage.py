"""A trained stage: what a fit learned, its predictions, and its bytes."""

# B = batch, T = time (frames), F = input columns, O = outputs

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.display.short_repr import short_repr
from pipeline.networks.modality_gate import ModalityGate
from pipeline.networks.sequence_regressor import SequenceRegressor
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.preprocessing.timing import Timing
from pipeline.spec import FitSpec, FusionNetworkSpec, NetworkSpec

INFERENCE_BATCH = 64
"""Sequences predicted together."""
STAGE_FILE, WEIGHTS_FILE = "stage.json", "weights.safetensors"
NORMALISATION_PREFIX = "scale."
"""Of the arrays of a `Normalisation` among the weights; bundles have it, so it stays."""

Network = SequenceRegressor | ModalityGate

Columns = Mapping[str, NDArray[np.float32]]
"""Session id -> shape (frames, columns), NaN where missing: what a stage outputs."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the training windows.

    Attributes:
        epoch: counted from 1; 0 is the state before training.
        loss: mean over the batches.
        score: on devel, maximised: the CCC, or minus the reconstruction error.
    """

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True, repr=False)
class TrainedStage:
    """The solution of a supervised problem: the best epoch's weights and normalisation.

    Attributes:
        stage: which of the three stages.
        name: for people.
        key: of the problem.
        label_mean, label_std: the network predicts in these units; 0 and 1 for an auto-encoder.
        timing: how the network sees time; outputs are at the session's frames all the same.
        score: the best epoch's on devel; an undefined CCC counts as -1.
        history: every epoch, in order.
        cpu_s: processor seconds that the training took.
        num_modalities: of how many modalities it fuses predictions; 0 but for fusion. The input has
            their presence beside the predictions, and `num_other_predictions` of other targets. A
            fusion of version 0.1 has 0 here, and reads neither.
    """

    stage: str
    name: str
    key: str
    network: NetworkSpec
    fit: FitSpec
    seed: int
    normalisation: Normalisation
    output_size: int
    label_mean: float
    label_std: float
    best_epoch: int
    score: float
    history: tuple[Epoch, ...]
    cpu_s: float
    weights: Mapping[str, Tensor]
    num_modalities: int = 0
    num_other_predictions: int = 0
    timing: Timing = field(default_factory=Timing)

    def __repr__(self) -> str:
        epochs = len(self.history)
        return short_repr(self, name=self.name, score=round(self.score, 4), epochs=epochs)

    @property
    def has_gate(self) -> bool:
        """Return whether it says how much each modality is trusted: see `ModalityGate`."""
        return is_gate(self.network)

    @property
    def reads_difficulty(self) -> bool:
        """Return whether the last of the input columns are difficulties."""
        return self.normalisation.difficulty_size > 0

    def build_network(self, device: str = "cpu") -> Network:
        """Build a network with these weights, ready to predict."""
        # No memory and no random numbers for weights that are there already.
        with torch.device("meta"):
            network = new_network(
                self.network, self.normalisation, self.output_size, self.num_modalities
            )

        weights = {name: tensor.clone() for name, tensor in self.weights.items()}
        network.load_state_dict(weights, assign=True)
        return network.to(device).eval()

    @cached_property
    def _cpu_network(self) -> Network:
        """Kept, because building it takes a third of a prediction of one session."""
        return self.build_network()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cpu_network"}

    def predict(
        self, sessions: Sequence[NDArray[np.float32]], device: str = "cpu"
    ) -> list[NDArray[np.float32]]:
        """Predict whole sessions.

        Args:
            sessions: raw inputs, each of shape (frames, columns), NaN where missing.
            device: "cpu" or "cuda".

        Returns:
            For each session shape (frames, outputs), in the label's unit (an auto-encoder's:
            z-scores).
        """
        return [outputs for outputs, _ in self.predict_with_weights(sessions, device)]

    def predict_with_weights(
        self, sessions: Sequence[NDArray[np.float32]], device: str = "cpu"
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Predict whole sessions, as `predict` does, and say how much each modality is trusted.

        Returns:
            For each session what `predict` returns, and the weights of the modalities, shape
            (frames, modalities), which sum to 1 wherever any has a prediction. Without a gate the
            second has no columns.
        """
        timing, difficulty_size = self.timing, self.normalisation.difficulty_size
        inputs = [
            self.normalisation.apply(timing.network_inputs(raw, difficulty_size=difficulty_size))
            for raw in sessions
        ]

        network = self._cpu_network if device == "cpu" else self.build_network(device)
        outputs = [
            timing.session_outputs(output, len(raw))
            for output, raw in zip(
                predict_sequences(network, inputs, device), sessions, strict=True
            )
        ]
        std, mean = np.float32(self.label_std), np.float32(self.label_mean)
        size = self.output_size
        return [(output[:, :size] * std + mean, output[:, size:]) for output in outputs]

    def record(self) -> dict[str, Any]:
        """Return all but the arrays, as JSON. The names are those of a bundle, so they stay."""
        return {
            "stage": self.stage,
            "name": self.name,
            "key": self.key,
            "network": self.network.model_dump(),
            "fit": self.fit.model_dump(),
            "seed": self.seed,
            "side_size": self.normalisation.difficulty_size,
            "normalisation": self.normalisation.mode,
            "output_size": self.output_size,
            "label_mean": self.label_mean,
            "label_std": self.label_std,
            "best_epoch": self.best_epoch,
            "score": self.score,
            "cpu_s": self.cpu_s,
            "history": [astuple(epoch) for epoch in self.history],
            "num_modalities": self.num_modalities,
            "num_other_predictions": self.num_other_predictions,
            "timing": self.timing.to_json(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return weights and normalisation by name."""
        weights = {name: tensor.numpy() for name, tensor in self.weights.items()}
        normalisation = {
            f"{NORMALISATION_PREFIX}{name}": getattr(self.normalisation, name)
            for name in ("mean", "std", "missing")
        }
        return weights | normalisation

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> TrainedStage:
        """Return the stage that `record` and `arrays` came from."""
        normalisation = Normalisation(
            mean=arrays[f"{NORMALISATION_PREFIX}mean"],
            std=arrays[f"{NORMALISATION_PREFIX}std"],
            missing=arrays[f"{NORMALISATION_PREFIX}missing"],
            difficulty_size=record["side_size"],
            mode=record["normalisation"],
        )
        weights = {
            name: torch.from_numpy(array)
            for name, array in arrays.items()
            if not name.startswith(NORMALISATION_PREFIX)
        }
        return cls(
            stage=record["stage"],
            name=record["name"],
            key=record["key"],
            network=_network_spec(record),
            fit=FitSpec.model_validate(record["fit"]),
            seed=record["seed"],
            normalisation=normalisation,
            output_size=record["output_size"],
            label_mean=record["label_mean"],
            label_std=record["label_std"],
            best_epoch=record["best_epoch"],
            score=record["score"],
            history=tuple(Epoch(*epoch) for epoch in record["history"]),
            cpu_s=record["cpu_s"],
            weights=weights,
            num_modalities=record.get("num_modalities", 0),
            num_other_predictions=record.get("num_other_predictions", 0),
            timing=Timing.from_json(record.get("timing", {})),
        )

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a store entry: JSON and safetensors, no pickle."""
        return {
            STAGE_FILE: json.dumps(self.record(), sort_keys=True).encode(),
            WEIGHTS_FILE: safetensors.numpy.save(self.arrays()),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> TrainedStage:
        """Return the stage that `to_files` came from."""
        arrays = safetensors.numpy.load(files[WEIGHTS_FILE])
        return cls.from_record(json.loads(files[STAGE_FILE]), arrays)


def is_gate(spec: NetworkSpec) -> bool:
    """Return whether a network of this shape is a `ModalityGate`."""
    return isinstance(spec, FusionNetworkSpec) and spec.kind != "recurrent"


def new_network(
    spec: NetworkSpec, normalisation: Normalisation, output_size: int, num_modalities: int
) -> Network:
    """Build a network with random weights.

    Args:
        spec: its shape.
        normalisation: of its inputs.
        output_size: number of outputs.
        num_modalities: of how many modalities it fuses predictions; 0 but for fusion.
    """
    if isinstance(spec, FusionNetworkSpec) and is_gate(spec):
        return ModalityGate(
            spec, normalisation.input_size, num_modalities, normalisation.difficulty_size
        )
    return SequenceRegressor(
        spec, normalisation.input_size, output_size, normalisation.difficulty_size
    )


def _network_spec(record: Mapping[str, Any]) -> NetworkSpec:
    """Return the shape of a stage's network; a fusion of version 0.1 is recurrent."""
    if record["stage"] != "fusion":
        return NetworkSpec.model_validate(record["network"])
    return FusionNetworkSpec.model_validate({"kind": "recurrent", **record["network"]})


def mean_prediction(
    models: Sequence[TrainedStage], sessions: Sequence[NDArray[np.float32]], device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """Return the mean prediction of several models for the same raw inputs.

    Returns:
        For each session shape (frames, outputs).
    """
    predictions = [model.predict(sessions, device) for model in models]
    return [mean_of(by_model) for by_model in zip(*predictions, strict=True)]


def mean_of(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean of arrays of one shape, summed in float64."""
    return np.asarray(np.stack(arrays).mean(axis=0, dtype=np.float64), dtype=np.float32)


def pad(sequences: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Stack sequences of shape (frames, columns) into x_BTF, padded by zeros, and lengths_B."""
    lengths_B = torch.tensor([len(sequence) for sequence in sequences])
    x_BTF = torch.zeros(len(sequences), int(lengths_B.max()), sequences[0].shape[1])
    for row, sequence in enumerate(sequences):
        x_BTF[row, : len(sequence)] = torch.from_numpy(sequence)
    return x_BTF, lengths_B


@torch.inference_mode()
def predict_sequences(
    network: Network, inputs: Sequence[NDArray[np.float32]], device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """Return the network's outputs for whole sequences of normalised inputs.

    Returns:
        For each sequence shape (frames, outputs).
    """
    outputs: list[NDArray[np.float32]] = []

    for start in range(0, len(inputs), INFERENCE_BATCH):
        x_BTF, lengths_B = pad(inputs[start : start + INFERENCE_BATCH])
        y_BTO = network(x_BTF.to(device), lengths_B).cpu().numpy()
        lengths = lengths_B.tolist()
        outputs += [y_TO[:length] for y_TO, length in zip(y_BTO, lengths, strict=True)]

    return outputs
