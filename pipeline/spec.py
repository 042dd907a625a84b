"""What to train: frozen settings read from TOML. A default is the paper's value, or says why it is not."""

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
Protocol = Literal["cross_fit", "in_sample"]
Inference = Literal["refit", "fold_mean"]


class Settings(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NetworkSpec(Settings):
    """One `SequenceRegressor` (Hamieh et al. 2021, section 4.3: four layers of 64, bidirectional GRU)."""

    cell: Literal["gru", "lstm"] = "gru"
    num_layers: Annotated[int, Field(ge=1, le=16)] = 4
    hidden_size: Size = 64
    bidirectional: bool = True
    dropout: Share = 0.2
    """Between recurrent layers; the paper compares 0.1, 0.2 and 0.5."""
    input_dropout: Share = 0.0
    """Share of feature columns hidden from a whole training sequence."""
    projection_size: OptionalSize = 0
    """A linear layer before the recurrent ones, so that wide sets do not drown their difficulty; 0: none."""
    skip: bool = False
    """A linear path beside the recurrent layers, from the features (in fusion: the predictions) to the output."""
    bottleneck_size: OptionalSize = 0
    """A linear layer before the output, so that an auto-encoder cannot become the identity; 0: none."""


class FitSpec(Settings):
    """How a network is trained (section 4.3: Adam, at most 100 epochs, patience 15)."""

    loss: Literal["ccc", "mse", "l1"] = "ccc"
    ccc_over: Literal["batch", "window"] = "batch"
    """One CCC over all frames of a batch, or the mean of one per window."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient; the CCC loss is steep where both series are nearly constant."""
    input_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of noise added to z-scored training inputs (an auto-encoder then denoises)."""
    batch_size: Count = 8
    window_frames: Count = 300
    """Longer training sessions are cut into windows (the challenge's baseline: 300 frames every 50)."""
    hop_frames: Count = 50
    max_epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    patience: Count = 15
    """Epochs without a better score on devel before training stops."""

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> Self:
        if self.hop_frames > self.window_frames:
            raise ValueError(
                f"hop_frames is {self.hop_frames}; it must not exceed window_frames, {self.window_frames}"
            )
        return self


class AutoEncoderNetworkSpec(NetworkSpec):
    """The same, with a bottleneck: without one (the paper's way, 0) it nears the identity, and its error is noise."""

    bottleneck_size: OptionalSize = 4


class AutoEncoderFitSpec(FitSpec):
    """The same, but an auto-encoder rebuilds features: its loss is a distance (equation 3: squared)."""

    loss: Literal["ccc", "mse", "l1"] = "mse"

    @model_validator(mode="after")
    def _loss_is_a_distance(self) -> Self:
        if self.loss == "ccc":
            raise ValueError("an auto-encoder rebuilds features: its loss is 'mse' or 'l1'")
        return self


class AutoEncoderSpec(Settings):
    """Stage 1: rebuilds a feature set; its squared error is the difficulty."""

    network: AutoEncoderNetworkSpec = AutoEncoderNetworkSpec()
    fit: AutoEncoderFitSpec = AutoEncoderFitSpec()


class UnimodalSpec(Settings):
    """Stage 2: features and their difficulty to a target."""

    network: NetworkSpec = NetworkSpec()
    fit: FitSpec = FitSpec()
    normalisation: Literal["train", "session", "both"] = "both"
    """Z-score on train, within each session, or each column both ways."""
    difficulty: bool = True
    """Read the reconstruction error beside the features."""


class FusionNetworkSpec(NetworkSpec):
    """The same, beside a linear path that begins as the mean of the predictions: fusion starts at its floor."""

    skip: bool = True


class FusionFitSpec(FitSpec):
    """The same, at the smallest of the paper's learning rates: little is left to learn beside the mean."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.0005


class FusionSpec(Settings):
    """Stage 3: all unimodal predictions and difficulties to a target."""

    network: FusionNetworkSpec = FusionNetworkSpec()
    fit: FusionFitSpec = FusionFitSpec()
    difficulty: bool = True


class Spec(Settings):
    """All three stages and the protocol that joins them."""

    auto_encoder: AutoEncoderSpec = AutoEncoderSpec()
    unimodal: UnimodalSpec = UnimodalSpec()
    fusion: FusionSpec = FusionSpec()
    difficulty_scale: Literal["log", "raw"] = "log"
    """"log": log1p, z-score on training frames, clip; "raw": as it is."""
    protocol: Protocol = "cross_fit"
    """"in_sample" is the paper's: later stages are trained on what earlier ones say of their own training sessions."""
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    inference: Inference = "fold_mean"
    """Devel, test and served sessions: from a refit on all of train, or from the mean of the fold models."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


def read_spec(path: Path | str) -> Spec:
    """Read a spec from a TOML file; what it leaves out has its default.

    Raises:
        InputError: no such file, not TOML, an unknown key, a value out of range.
    """
    table = read_toml(path, "spec")
    try:
        return Spec.model_validate(table)
    except ValidationError as error:
        raise InputError(f"The spec '{path}' does not fit. {say(error)}") from error


def read_toml(path: Path | str, what: str) -> dict[str, Any]:
    """Read a TOML file; `what` it is, for the messages.

    Raises:
        InputError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the {what} '{path}': {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The {what} '{path}' is not TOML: {error}.") from error


def override(spec: Spec, **values: str | int | None) -> Spec:
    """The spec with these top-level settings, where they are not None.

    Raises:
        InputError: a value out of range.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return Spec.model_validate(spec.model_dump() | given)
    except ValidationError as error:
        raise InputError(say(error)) from error


def say(error: ValidationError) -> str:
    """What pydantic found, in sentences: the place, the mistake, the value."""
    sentences = []
    for detail in error.errors():
        place = ".".join(str(part) for part in detail["loc"]) or "top level"
        if detail["type"] == "extra_forbidden":
            sentences.append(f"Unknown key '{place}'.")
        else:
            value = "" if isinstance(detail["input"], dict) else f" (it is {detail['input']!r})"
            sentences.append(f"'{place}': {detail['msg'].removeprefix('Value error, ')}{value}.")
    return " ".join(sentences)
