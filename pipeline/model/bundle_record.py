"""What model.json may hold: every key, its type and its range. Knows no files and no weights.

A key that is not here is refused: it may decide predictions in the version that wrote it. Keys with
a default are those that bundles of earlier versions lack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from pipeline.corpus import Resampling
from pipeline.model.bundle_limits import MAX_COLUMNS, MAX_NAME, MAX_NETWORKS
from pipeline.preprocessing.normalisation import NormalisationMode
from pipeline.spec import FitSpec, FusionNetworkSpec, NetworkSpec, Spec, StageName

FORMAT = 2
MAX_MESSAGE = 300
"""Characters of what a message quotes."""
KINDS = {"auto_encoder": 1, "unimodal": 2, "fusion": 1, "fusion_without_difficulty": 1}
"""What a stage's place begins with -> how many names follow before its number."""
LARGEST_COUNT = 10**12
MAX_EPOCHS = 100_001
"""A spec asks for one fewer at most; epoch 0 is the state before training."""
MAX_LEVELS = 20
"""Of what a study tells for people."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Column = Annotated[str, Field(max_length=MAX_NAME)]
# The first mistake is told: a million others would take a gigabyte.
Names = Annotated[list[Name], Field(min_length=1, max_length=MAX_COLUMNS), FailFast()]
Columns = Annotated[list[Column], Field(min_length=1, max_length=MAX_COLUMNS), FailFast()]
Nothing = Annotated[dict[str, Any], Field(max_length=0)]
Text = Annotated[str, Field(max_length=100_000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Size = Annotated[int, Field(ge=0, le=2 * MAX_COLUMNS)]
Number = Annotated[int, Field(ge=0, lt=MAX_NETWORKS)]
Score = Finite | None
Epoch = Annotated[tuple[Count, float, float], Field(strict=False)]
"""A list in JSON; its loss may be infinite or NaN, where a fit went astray."""
Scores = Annotated[dict[Name, Score], Field(max_length=MAX_COLUMNS)]
Series = Annotated[list[float], Field(max_length=MAX_EPOCHS), FailFast()]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TimingRecord(_Record):
    """A `Timing`; delays and windows are at most 6 s and 10 min, resampled frames 1 min."""

    delay_frames: Count = 0
    context_frames: Annotated[list[Annotated[int, Field(ge=2)]], Field(max_length=8)] = []
    is_context_centred: bool = False
    resample_frames: Annotated[int, Field(ge=1, le=LARGEST_COUNT)] = 1


class StageRecord(_Record):
    """What `TrainedStage.record` returns."""

    stage: StageName
    name: Name
    key: Name
    network: dict[str, Any]
    fit: FitSpec
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    side_size: Size
    normalisation: NormalisationMode
    output_size: Annotated[int, Field(ge=1, le=2 * MAX_COLUMNS)]
    label_mean: Finite
    label_std: NotNegative
    best_epoch: Count
    score: float
    cpu_s: NotNegative
    history: Annotated[list[Epoch], Field(max_length=MAX_EPOCHS), FailFast()]
    num_modalities: Size = 0
    num_other_predictions: Size = 0
    timing: TimingRecord = TimingRecord()

    @model_validator(mode="after")
    def _fits_its_stage(self) -> Self:
        _ = self.network_spec  # is validated there
        if self.stage != "unimodal":
            if self.normalisation != "train":
                raise ValueError("'normalisation' must be 'train'")
            if self.timing != TimingRecord():
                raise ValueError("'timing' is for regressors alone")
        if self.stage != "fusion" and (self.num_modalities or self.num_other_predictions):
            raise ValueError("'num_modalities' and 'num_other_predictions' are for a fusion alone")
        return self

    @property
    def network_spec(self) -> NetworkSpec:
        """Return the shape of its network; a fusion of version 0.1 is recurrent.

        Raises:
            ValueError: it has none.
        """
        try:
            if self.stage != "fusion":
                return NetworkSpec.model_validate(self.network)
            return FusionNetworkSpec.model_validate({"kind": "recurrent", **self.network})
        except ValidationError as error:
            raise ValueError(f"network: {_first_mistake(error)}") from None


class BandRecord(_Record):
    """A `BandCalibration`."""

    level: Annotated[float, Field(gt=0, lt=1)]
    people: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
    quantile: NotNegative
    constant_half_width: NotNegative
    intercept: Finite
    weights: Annotated[list[NotNegative], Field(max_length=MAX_COLUMNS), FailFast()]
    centres: Annotated[list[Finite], Field(max_length=MAX_COLUMNS), FailFast()]
    deviations: Annotated[list[Positive], Field(max_length=MAX_COLUMNS), FailFast()]
    lowest: Score
    highest: Score


class CorrectionRecord(_Record):
    """A `Correction`."""

    scale: Finite
    bias: Finite


class CorrectionRecords(_Record):
    """The corrections of both variants of a fusion, under their names."""

    fusion: CorrectionRecord
    without_difficulty: Annotated[CorrectionRecord | None, Field(alias="without difficulty")] = None


class ScoreRecord(_Record):
    """What `SessionParts.to_json` returns; version 0.1 knew no parts."""

    ccc: Score
    ccc_low: Score
    ccc_high: Score
    between_ccc: Score = None
    between_ccc_low: Score = None
    between_ccc_high: Score = None
    within_ccc: Score = None
    within_ccc_low: Score = None
    within_ccc_high: Score = None


class PartitionCounts(_Record):
    """How many of something each partition has."""

    train: Count
    devel: Count
    test: Count


class DataRecord(_Record):
    """The corpus that the model learned from."""

    name: Text
    digest: Text
    sessions: PartitionCounts
    subjects: PartitionCounts
    label_variance_between_sessions: Scores = {}


class SeedsRecord(_Record):
    """The scores of a winner, one per seed."""

    scores: Annotated[Series, Field(min_length=1)]
    deciding: Series = []


class StudyRecord(BaseModel):
    """What a model card reads of a study; the rest is JSON for people."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Text
    trials: Count
    seeds: dict[Name, SeedsRecord] = {}
    verdicts: dict[Name, Text] = {}

    @model_validator(mode="after")
    def _is_for_people(self) -> Self:
        parts: list[Any] = [self.model_extra or {}]
        for _ in range(MAX_LEVELS):
            parts = [inner for part in parts for inner in _inner(part)]
        if parts:
            raise ValueError(f"it has more than {MAX_LEVELS} levels")
        return self


class NetworkCounts(_Record):
    """How many networks there were, and how many were distilled."""

    teacher: Count
    student: Count


class LessonCounts(_Record):
    """How many sessions were learned from."""

    clean: Count
    corrupted: Count
    mixtures: Count


class ComparisonRecord(_Record):
    """The scores of an ensemble, of what was distilled from it, and their difference."""

    teacher: ScoreRecord
    student: ScoreRecord
    difference: ScoreRecord


class DistillationRecord(_Record):
    """What `pipeline.distillation.distil` says of a model."""

    is_kept: bool
    reason: Text
    teacher: Text
    tolerance: Finite
    networks: NetworkCounts
    sessions: LessonCounts
    targets: dict[Name, ComparisonRecord]


class BundleRecord(_Record):
    """All of model.json, consistent in itself."""

    format: Literal[2]
    targets: Names
    modalities: dict[Name, Columns]
    frame_period_ms: Annotated[float, Field(ge=0.01, le=86_400_000)]
    frame_rate_hz: Positive
    spec: Spec
    fusion_modalities: dict[Name, Names]
    encoder_of: dict[Name, dict[Name, Name]]
    regressor_encoders: dict[Name, dict[Name, Names]] = {}
    without_fusion: Annotated[list[Name], Field(max_length=MAX_COLUMNS), FailFast()] = []
    floor_of: dict[Name, Literal["mean", "weighted_mean"]] = {}
    repeats: dict[str, Annotated[list[Number], Field(max_length=MAX_NETWORKS), FailFast()]] = {}
    floor_weights: dict[Name, dict[Name, NotNegative]]
    difficulty_references: dict[
        Name, Annotated[list[NotNegative], Field(min_length=101, max_length=101), FailFast()]
    ]
    data: DataRecord
    out_of_fold: dict[Name, Annotated[dict[Name, ScoreRecord], Field(max_length=MAX_COLUMNS)]]
    difficulty_spearman: dict[Name, Scores]
    study: StudyRecord | Nothing
    max_held_frames: dict[Name, Annotated[int, Field(ge=1, le=LARGEST_COUNT)]] = {}
    set_aside: dict[Name, Annotated[list[Column], FailFast()]] = {}
    resampling: dict[Name, Resampling] = {}
    bands: dict[Name, BandRecord] = {}
    corrections: dict[Name, CorrectionRecords] = {}
    distillation: DistillationRecord | Nothing = {}
    versions: dict[Name, Text]
    stages: Annotated[dict[str, StageRecord], Field(max_length=MAX_NETWORKS)]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for mistake in _mistakes(self):
            raise ValueError(mistake)
        return self

    @property
    def modality_of(self) -> dict[str, str]:
        """Return encoder -> the modality that it rebuilds."""
        names = {
            encoder: modality
            for encoders in self.encoder_of.values()
            for modality, encoder in encoders.items()
        }
        for by_modality in self.regressor_encoders.values():
            for modality, encoders in by_modality.items():
                names |= dict.fromkeys(encoders, modality)
        return names


def validate_record(record: Any) -> BundleRecord:
    """Check what model.json holds.

    Args:
        record: the parsed JSON.

    Raises:
        ValueError: it is of another format, or something in it is not as this version writes it;
            the message is a sentence without a full stop.
    """
    found = record.get("format") if isinstance(record, dict) else None
    if isinstance(record, dict) and len(record) > 2 * len(BundleRecord.model_fields):
        raise ValueError(f"it has {len(record):,} keys")
    if isinstance(found, int) and not isinstance(found, bool) and found != FORMAT:
        age = "a later" if found > FORMAT else "an earlier"
        raise ValueError(
            f"it has bundle format {quoted(found)}, which {age} version of Affectune wrote; this "
            f"one reads {FORMAT}"
        )
    try:
        return BundleRecord.model_validate(record)
    except ValidationError as error:
        raise ValueError(f"{_first_mistake(error)}{_version_of(record)}") from None


def parse_place(place: str) -> tuple[str, tuple[str, ...], int]:
    """Return the kind, the names and the number of a stage's place in a bundle.

    Raises:
        ValueError: it is no such place.
    """
    folder, _, number = place.rpartition("/")
    kind, names = parse_folder(folder)
    if not number.isdecimal() or str(int(number[:9])) != number:
        raise ValueError(f"{quoted(place)} is no place of a stage")
    return kind, names, int(number)


def parse_folder(folder: str) -> tuple[str, tuple[str, ...]]:
    """Return the kind and the names of what stands before a stage's number.

    Raises:
        ValueError: it is no such folder.
    """
    kind, *names = (unquote(part) for part in folder.split("/"))
    if KINDS.get(kind) != len(names):
        raise ValueError(f"{quoted(folder)} is no place of stages")
    return kind, tuple(names)


def quoted(value: object) -> str:
    """Return something of a bundle as part of a message: short, and without control characters."""
    text = repr(str(value)[:MAX_MESSAGE]) if isinstance(value, str) else str(value)[:MAX_MESSAGE]
    return text if len(str(value)) <= MAX_MESSAGE else f"{text} ..."


def _inner(part: Any) -> list[Any]:
    """Return what a JSON value holds."""
    if isinstance(part, dict):
        return list(part.values())
    return part if isinstance(part, list) else []


def _first_mistake(error: ValidationError) -> str:
    """Return the first of pydantic's findings, as part of a sentence."""
    detail = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    mistake = detail["msg"].removeprefix("Value error, ")[:MAX_MESSAGE]
    return f"{quoted(place)}: {mistake}" if place else mistake


def _version_of(record: Any) -> str:
    """Return which version wrote a record, if it says so: the reader's may be another one."""
    versions = record.get("versions") if isinstance(record, dict) else None
    version = versions.get("affectune") if isinstance(versions, dict) else None
    try:
        own = metadata.version("affectune")
    except metadata.PackageNotFoundError:  # where MLflow loads a copy of this code
        return ""
    if not isinstance(version, str) or version == own:
        return ""
    return f" (Affectune {quoted(version)} wrote it, this is {own})"


def _mistakes(record: BundleRecord) -> Iterator[str]:
    """Yield what does not fit together."""
    targets, modalities = set(record.targets), set(record.modalities)
    if abs(record.frame_rate_hz * record.frame_period_ms - 1000) > 1e-6:
        yield "'frame_rate_hz' is not 1000 / 'frame_period_ms'"
    if sum(map(len, record.modalities.values())) > MAX_COLUMNS:
        yield f"its feature sets have more than {MAX_COLUMNS:,} columns"

    lists = [record.targets, *record.modalities.values(), *record.fusion_modalities.values()]
    for names in lists:
        if len(set(names)) < len(names):
            [(name, _)] = Counter(names).most_common(1)
            yield f"the name {quoted(name)} is twice in a list of names"

    exactly_targets = ("fusion_modalities", "encoder_of", "floor_weights")
    for key in exactly_targets:
        if set(getattr(record, key)) != targets:
            yield f"{key!r} is not of the targets {quoted(', '.join(record.targets))}"
    for key in ("regressor_encoders", "floor_of", "bands", "corrections"):
        if unknown := set(getattr(record, key)) - targets:
            yield f"{key!r} is of {quoted(min(unknown))}, which is no target"
    for key in ("max_held_frames", "set_aside", "resampling"):
        if unknown := set(getattr(record, key)) - modalities:
            yield f"{key!r} is of {quoted(min(unknown))}, which is no feature set"

    for target, read in record.fusion_modalities.items():
        for key in ("encoder_of", "floor_weights"):
            if set(getattr(record, key)[target]) != set(read):
                yield f"{key!r} is not of the feature sets that {quoted(target)} reads"
        if unknown := set(record.regressor_encoders.get(target, ())) - set(read):
            yield f"'regressor_encoders' has {quoted(min(unknown))}, which is not read"
        if unknown := set(read) - modalities:
            yield f"{quoted(target)} reads {quoted(min(unknown))}, which is no feature set"
        if target in record.bands and (mistake := _mistake_in_band(record, target)):
            yield mistake

    for encoder, references in record.difficulty_references.items():
        if any(low > high for low, high in pairwise(references)):
            yield f"'difficulty_references' of {quoted(encoder)} do not ascend"
    yield from _mistakes_in_places(record)


def _mistake_in_band(record: BundleRecord, target: str) -> str:
    band, num_modalities = record.bands[target], len(record.fusion_modalities[target])
    num_inputs = num_modalities + (num_modalities > 1)
    lengths = {len(band.weights), len(band.centres), len(band.deviations)}
    return "" if lengths == {num_inputs} else f"the band of {quoted(target)} has other inputs"


def _mistakes_in_places(record: BundleRecord) -> Iterator[str]:
    """Yield which stages have no place in the model, or the place of others."""
    counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for place, stage in record.stages.items():
        kind, names, number = parse_place(place)
        if number != counts[kind, names]:
            yield f"the stages before {quoted(place)} are missing"
        if not kind.startswith(stage.stage):
            yield f"{quoted(place)} holds a stage of the kind {stage.stage!r}"
        counts[kind, names] += 1

    for folder, numbers in record.repeats.items():
        kind, names = parse_folder(folder)
        if set(numbers) != set(range(counts[kind, names])):
            yield f"'repeats' of {quoted(folder)} are not of its stages"
    for target in record.without_fusion:
        if counts["fusion", (target,)]:
            yield f"{quoted(target)} is 'without_fusion', and has one"
    if len(set(record.without_fusion)) < len(record.without_fusion):
        yield "a target is twice in 'without_fusion'"
    if sum(len(numbers) for numbers in record.repeats.values()) > MAX_NETWORKS:
        yield f"it has more than {MAX_NETWORKS:,} networks"
