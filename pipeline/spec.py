"""What to train: frozen settings, read from TOML.

A default is the value of the paper (Hamieh et al. 2021), or a comment says why it is another one.
Knows no corpus and no network.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import InputError

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=1, le=4096)]
OptionalSize = Annotated[int, Field(ge=0, le=4096)]
Cell = Literal["gru", "lstm"]
Protocol = Literal["cross_fit", "in_sample"]
Inference = Literal["refit", "fold_mean", "distilled"]


class Settings(BaseModel):
    """Settings that cannot be changed, in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NetworkSpec(Settings):
    """The shape of one `SequenceRegressor` (section 4.3: bidirectional GRU, four layers of 64)."""

    cell: Cell = "gru"
    num_layers: Annotated[int, Field(ge=1, le=16)] = 4
    hidden_size: Size = 64
    bidirectional: bool = True
    dropout: Share = 0.2
    """Between recurrent layers; the paper compares 0.1, 0.2 and 0.5."""
    input_dropout: Share = 0.0
    """Share of feature columns hidden from a whole training sequence."""
    projection_size: OptionalSize = 0
    """Units of a linear layer before the recurrent ones; 0 for no such layer.

    It keeps a wide feature set from drowning its difficulty.
    """
    skip: bool = False
    """Whether a linear path leads from the features past the recurrent layers to the output.

    The features of a fusion are the unimodal predictions.
    """
    bottleneck_size: OptionalSize = 0
    """Units of a linear layer before the output; 0 for no such layer.

    It keeps an auto-encoder from becoming the identity.
    """


class FitSpec(Settings):
    """How a network is trained (section 4.3: Adam, at most 100 epochs, patience 15)."""

    loss: Literal["ccc", "mse", "l1"] = "ccc"
    ccc_over: Literal["batch", "window"] = "batch"
    """Whether the loss takes one CCC over all frames of a batch, or the mean of one per window."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient; the CCC loss is steep where both series are nearly constant."""
    input_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of noise on z-scored training inputs (an auto-encoder then denoises)."""
    batch_size: Count = 8
    window_frames: Count = 300
    """Length of the windows that longer training sessions are cut into.

    The baseline of the challenge cuts windows of 300 frames, one every 50.
    """
    hop_frames: Count = 50
    max_epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    patience: Count = 15
    """Epochs without a better score on devel before training stops."""

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> Self:
        if self.hop_frames > self.window_frames:
            raise ValueError(
                f"hop_frames is {self.hop_frames}; "
                f"it must not exceed window_frames, {self.window_frames}"
            )

        return self


class AutoEncoderNetworkSpec(NetworkSpec):
    """The shape of an auto-encoder, which has a bottleneck.

    The paper has none (0). The network then nears the identity, and its error is noise.
    """

    bottleneck_size: OptionalSize = 4


class AutoEncoderFitSpec(FitSpec):
    """How an auto-encoder is trained: its loss is a distance (equation 3: the squared one)."""

    loss: Literal["ccc", "mse", "l1"] = "mse"

    @model_validator(mode="after")
    def _loss_is_a_distance(self) -> Self:
        if self.loss == "ccc":
            raise ValueError("an auto-encoder rebuilds features: its loss is 'mse' or 'l1'")

        return self


class AutoEncoderSpec(Settings):
    """Stage 1: a network rebuilds a feature set; its squared error is the difficulty."""

    network: AutoEncoderNetworkSpec = AutoEncoderNetworkSpec()
    fit: AutoEncoderFitSpec = AutoEncoderFitSpec()


class UnimodalSpec(Settings):
    """Stage 2: a network predicts a target from one feature set and its difficulty."""

    network: NetworkSpec = NetworkSpec()
    fit: FitSpec = FitSpec()
    normalisation: Literal["train", "session", "both"] = "both"
    """What z-scores are taken over: the training frames, each session, or both (columns twice)."""
    difficulty: bool = True
    """Whether the network reads the difficulty beside the features."""


class FusionNetworkSpec(NetworkSpec):
    """The shape of a fusion, which has a linear path.

    The path begins as the mean of the unimodal predictions: a fusion starts at its floor.
    """

    skip: bool = True


class FusionFitSpec(FitSpec):
    """How a fusion is trained: at the smallest learning rate of the paper.

    Little is left to learn beside the mean.
    """

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.0005


class FusionSpec(Settings):
    """Stage 3: a network predicts a target from all unimodal predictions and difficulties."""

    network: FusionNetworkSpec = FusionNetworkSpec()
    fit: FusionFitSpec = FusionFitSpec()
    difficulty: bool = True
    """Whether the network reads the difficulties beside the predictions."""


class Spec(Settings):
    """All three stages, and the protocol that joins them."""

    auto_encoder: AutoEncoderSpec = AutoEncoderSpec()
    unimodal: UnimodalSpec = UnimodalSpec()
    fusion: FusionSpec = FusionSpec()
    difficulty_scale: Literal["log", "raw"] = "log"
    """How a reconstruction error becomes an input of later stages.

    "log": its log1p, as a z-score over training frames, clipped. "raw": as it is.
    """
    protocol: Protocol = "cross_fit"
    """What later stages are trained on.

    "cross_fit": held-out predictions. "in_sample" (the paper's): what the stages before them
    predict for the sessions that they were trained on themselves.
    """
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    inference: Inference = "fold_mean"
    """Which models predict devel, test and new sessions.

    "refit": one trained on all training sessions. "fold_mean": the mean of the folds' models.
    "distilled": one network per task that learned to predict what "fold_mean" does, in a fraction
    of its time. Where its CCC on devel is more than 0.005 lower, it stays "fold_mean".
    """
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def fit_inference(self) -> Literal["refit", "fold_mean"]:
        """Return which models predict devel while stages are fitted: to distil comes after it."""
        return "fold_mean" if self.inference == "distilled" else self.inference

    @model_validator(mode="after")
    def _distilled_has_a_teacher(self) -> Self:
        if self.inference == "distilled" and self.protocol == "in_sample":
            raise ValueError(
                "inference is 'distilled', which learns from the mean of the folds' models; "
                "protocol 'in_sample' has no folds. "
                "Use protocol 'cross_fit', or inference 'fold_mean'"
            )

        return self


def read_spec(path: Path | str) -> Spec:
    """Read a spec from a TOML file; a key that is not in it has its default.

    Args:
        path: the TOML file.

    Raises:
        InputError: no such file, not TOML, an unknown key, or a value out of range.
    """
    table = read_toml(path, "spec")

    try:
        return Spec.model_validate(table)
    except ValidationError as error:
        raise InputError(f"The spec '{path}' does not fit. {validation_message(error)}") from error


def read_toml(path: Path | str, kind: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        kind: what the file holds, such as "spec", for the messages.

    Raises:
        InputError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the {kind} '{path}': {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The {kind} '{path}' is not TOML: {error}.") from error


def override(spec: Spec, **values: str | int | None) -> Spec:
    """Return the spec with other top-level settings.

    Args:
        spec: where all other settings come from.
        values: settings by name; None leaves a setting as it is.

    Raises:
        InputError: a value out of range.
    """
    changes = {name: value for name, value in values.items() if value is not None}

    try:
        return Spec.model_validate(spec.model_dump() | changes)
    except ValidationError as error:
        raise InputError(validation_message(error)) from error


def validation_message(error: ValidationError) -> str:
    """Return pydantic's findings as sentences, each with the key, the mistake and the value."""
    sentences = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"]) or "top level"
        if detail["type"] == "extra_forbidden":
            sentences.append(f"Unknown key '{key}'.")
            continue

        mistake = detail["msg"].removeprefix("Value error, ")
        value = "" if isinstance(detail["input"], dict) else f" (it is {detail['input']!r})"
        sentences.append(f"'{key}': {mistake}{value}.")

    return " ".join(sentences)
