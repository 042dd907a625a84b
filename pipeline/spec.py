"""What to train: frozen settings, read from TOML.

A default is the value of the paper (Hamieh et al. 2021), or a comment says why it is another one.
Knows no corpus and no network.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from pipeline.errors import InputError

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=1, le=4096)]
OptionalSize = Annotated[int, Field(ge=0, le=4096)]
StageName = Literal["auto_encoder", "unimodal", "fusion"]
Cell = Literal["gru", "lstm", "tcn"]
Learns = Literal["own", "all"]
Protocol = Literal["cross_fit", "in_sample"]
Inference = Literal["refit", "fold_mean", "distilled"]
CorruptionKind = Literal["drop", "freeze", "noise", "shift"]
CORRUPTION_KINDS: tuple[CorruptionKind, ...] = get_args(CorruptionKind)
FusionKind = Literal["gate", "gated_recurrent", "recurrent"]
Split = Literal["subject", "stimulus", "both"]
Calibration = Literal["none", "linear"]
MAX_WINDOWS, MAX_WINDOW_S = 8, 600.0
"""Of `context_s`: how many, and how long."""


def _validate_delay(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Raise one error for the union, in place of one for each of its members."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(
            "a delay is a number of seconds from 0 to 6, or a table of them by target, such as "
            "{ arousal = 2.0, valence = 3.0 }"
        ) from None


def _windows_as_text(value: object) -> str:
    """Return lengths of windows, a list or text such as "2,5,15", as text: distinct, ascending."""
    parts: Any = value
    if isinstance(value, str):
        parts = value.split(",") if value.strip() else ()

    try:
        windows = {float(part) for part in parts}
        is_possible = len(windows) <= MAX_WINDOWS and all(0 < w <= MAX_WINDOW_S for w in windows)
    except (TypeError, ValueError):
        is_possible = False
    if not is_possible:
        raise ValueError(
            f"at most {MAX_WINDOWS} lengths of windows in seconds, each above 0 and up to "
            f'{MAX_WINDOW_S:g}, such as [2, 5, 15] or "2,5,15"'
        )
    return ",".join(f"{window:g}" for window in sorted(windows))


def _kinds_as_text(value: object) -> str:
    """Return kinds of corruption, a list or text such as "drop,noise", as text in a fixed order."""
    parts: Any = value
    if isinstance(value, str):
        parts = value.split(",")

    try:
        kinds = set(parts)
    except TypeError:
        kinds = set()
    if not kinds or not kinds <= set(CORRUPTION_KINDS):
        raise ValueError(f"one or more of {', '.join(CORRUPTION_KINDS)}, as a list or with commas")
    return ",".join(kind for kind in CORRUPTION_KINDS if kind in kinds)


Kinds = Annotated[str, BeforeValidator(_kinds_as_text)]
Delay = Annotated[float, Field(ge=0, le=6)]
Delays = Annotated[Delay | dict[str, Delay], WrapValidator(_validate_delay)]
Windows = Annotated[str, BeforeValidator(_windows_as_text)]


class Settings(BaseModel):
    """Settings that cannot be changed, in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Yield what differs from the defaults: that is what a person looks for."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if field.is_required() or value != field.get_default():
                yield name, value


class NetworkSpec(Settings):
    """The shape of one `SequenceRegressor` (section 4.3: bidirectional GRU, four layers of 64)."""

    cell: Cell = "gru"
    """What a layer is: recurrent ("gru", "lstm"; the paper compares both), or convolutions ("tcn").

    Layer n of a "tcn" (Bai et al. 2018), from 0, is a block of two convolutions over 5 frames that
    lie 2**n apart. An output then depends on 9 frames with 1 layer, on 25, 57, 121 and 249 with 2
    to 5: on as many before its frame as after it if `bidirectional`, else on those before it alone.
    """
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
    delay_s: Delays = 0.0
    """How long the labels lag behind what the annotators saw, in seconds, 0 to 6.

    Labels are moved earlier by it for training, and predictions back. A number, or a table by
    target, where a target that is not in it has 0. Rounded to whole frames.
    """
    context_s: Windows = ""
    """Lengths of windows in seconds, whose mean and slope of each feature column are read, too.

    A list such as [2, 5, 15]; in a search, where a value is no list, the text "2,5,15". A frame is
    in the middle of its window if the network is bidirectional, else at the end of it.
    """
    resample_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Length in seconds of the frames that the regressor works at; 0 for those of the corpus.

    It reads means over so many of the corpus's frames, and its predictions are interpolated.
    `window_frames` and `hop_frames` count its own, longer frames.
    """

    learns: Learns = "own"
    """Which targets the network learns: its "own", or "all" targets of the corpus together.

    With "all" it has an output for each while it is trained, and its loss is the mean of theirs,
    each over the frames where that target has a label. Its own target alone decides when to stop,
    and is what it predicts afterwards. With one target there is no difference. The other
    targets' labels are moved by its own delay.
    """

    def target_delay_s(self, target: str) -> float:
        """Return the delay of one target."""
        return self.delay_s.get(target, 0.0) if isinstance(self.delay_s, dict) else self.delay_s

    @property
    def context_windows_s(self) -> tuple[float, ...]:
        """Return `context_s` as numbers."""
        return tuple(float(window) for window in self.context_s.split(",") if window)


class FusionNetworkSpec(NetworkSpec):
    """The shape of a fusion. Whatever its kind, it begins as the mean of the predictions.

    The paper has the recurrent kind, with four layers of 64. A gate needs few units: it has little
    to learn beside the mean, and few people to learn it from. On two corpora the recurrent gate was
    the best or nearly so, whole and with a modality spoilt.
    """

    kind: FusionKind = "gated_recurrent"
    """What joins the predictions of the modalities.

    "gate": a weight per modality and frame, which sum to 1; feed-forward layers of ReLUs decide on
    them frame by frame. "gated_recurrent": recurrent layers decide on them, so that they remember.
    "recurrent": recurrent layers beside a linear path, without weights.
    """
    num_layers: Annotated[int, Field(ge=1, le=16)] = 1
    hidden_size: Size = 16
    dropout: Share = 0.0
    skip: bool = True
    """Whether the recurrent kind has a linear path, which begins as the mean of the predictions.

    Gates begin as that mean in any case.
    """


class CorruptionSpec(Settings):
    """What broken modalities a fusion meets in training (not in the paper).

    Copies of training sessions in which one modality is spoilt; the models that held the session
    out predict them. Without copies a fusion never learns what a high difficulty means.
    """

    share: Share = 0.7
    """Chance that a training session is replaced by a corrupted copy, drawn anew in each epoch."""
    kinds: Kinds = "drop,freeze,noise,shift"
    """How a modality is spoilt: see `pipeline.preprocessing.corruption.corrupted_copy`.

    A list such as ["drop", "noise"]; in a search, where a value is no list, the text "drop,noise".
    """

    @property
    def kind_names(self) -> tuple[CorruptionKind, ...]:
        """Return `kinds` one by one; none where no session is corrupted."""
        if not self.share:
            return ()
        return tuple(kind for kind in CORRUPTION_KINDS if kind in self.kinds.split(","))


class FusionFitSpec(FitSpec):
    """How a fusion is trained: in larger batches than the paper's, because its network is small."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.005
    batch_size: Count = 16


class FusionSpec(Settings):
    """Stage 3: a network predicts a target from all unimodal predictions and difficulties."""

    network: FusionNetworkSpec = FusionNetworkSpec()
    fit: FusionFitSpec = FusionFitSpec()
    corruption: CorruptionSpec = CorruptionSpec()
    difficulty: bool = True
    """Whether the network reads the difficulties beside the predictions."""
    reads: Literal["own", "all"] = "own"
    """Whose predictions the network reads: its own target's, or those of all targets.

    What other targets' regressors predict helps to decide; it is not part of the weighted mean.
    """


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
    split: Split = "subject"
    """What a fold holds out, and so which question its scores answer.

    "subject": people, for new people who are shown what others were shown. "stimulus": stimuli,
    whoever saw them, for known people and new stimuli. "both": a group of people with a group of
    stimuli, for new people and new stimuli; a fold learns from the sessions that have neither.
    The devel partition is of other people in any case.
    """
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    """Number of folds; with split "both", of groups of people."""
    stimulus_groups: Annotated[int, Field(ge=2, le=100)] = 3
    """Number of groups of stimuli with split "both"; else it is not read.

    There are folds * stimulus_groups folds, and so many fits of each task: 15 with both defaults,
    each learning from (1 - 1/5) * (1 - 1/3), 53% of the training sessions.
    """
    inference: Inference = "fold_mean"
    """Which models predict devel, test and new sessions.

    "refit": one trained on all training sessions. "fold_mean": the mean of the folds' models.
    "distilled": one network per task that learned to predict what "fold_mean" does, in a fraction
    of its time. Where its CCC on devel is more than 0.005 lower, it stays "fold_mean".
    """
    calibration: Calibration = "none"
    """What corrects the scale and the bias of the fused predictions.

    "linear": learned on out-of-fold predictions of the training people, as far as they agree on it;
    it needs the protocol "cross_fit". "none" by default: on held-out people it won nothing.
    """
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    fold_seeds: bool = False
    """Whether every fold has a seed of its own, which is derived from `seed` and the fold.

    A mean over folds is then one over initial weights and orders of windows, too. The first fold,
    the only one of `in_sample` and a refit have `seed` itself.
    """

    @model_validator(mode="after")
    def _in_sample_holds_nothing_out(self) -> Self:
        if self.protocol == "in_sample" and self.split != "subject":
            raise ValueError(
                f"protocol 'in_sample' holds nothing out, so split '{self.split}' divides nothing: "
                "leave out one of them"
            )

        return self

    @model_validator(mode="after")
    def _calibration_is_out_of_fold(self) -> Self:
        if self.calibration == "linear" and self.protocol == "in_sample":
            raise ValueError(
                "calibration is 'linear', which is learned from people that models held out; "
                "the protocol 'in_sample' holds out none: choose 'cross_fit' or 'none'"
            )

        return self

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
