"""The bundle: a fused model as a folder of JSON and safetensors, complete and hashed. No pickle."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.bands import BandCalibration
from pipeline.model.bundle_limits import MAX_FILES, MAX_OTHER_BYTES, MAX_RECORD_BYTES
from pipeline.model.bundle_names import mistake_in_names
from pipeline.model.bundle_record import FORMAT, parse_folder, parse_place, quoted, validate_record
from pipeline.model.bundle_tensors import (
    LABEL_FLOOR,
    Tensors,
    expected_tensors,
    most_bytes,
    read_tensors,
)
from pipeline.model.correction import Correction
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.label_floors import LabelFloors, Track
from pipeline.stages.trained_stage import TrainedStage
from pipeline.storage.atomic_folder import MODEL, VerifiedFolder, write_folder
from pipeline.storage.strict_json import parse_json

WEIGHTS, CARD = "weights.safetensors", "README.md"
LIBRARIES = ("affectune", "torch", "numpy", "numba")
"""Those that decide the numbers."""


def save_model(
    model: FusedModel,
    folder: Path | str,
    *,
    card: str = "",
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle: a folder that is complete or not there; one that was there is replaced.

    Args:
        model: what is written.
        folder: where.
        card: the model card.
        extra_files: further files to keep in it, by name.

    Raises:
        AffectuneError: it cannot be written.
    """
    write_folder(Path(folder), {**bundle_files(model, card), **(extra_files or {})})


def load_model(folder: Path | str) -> FusedModel:
    """Load a bundle whose every file still has the hash that its manifest says.

    Raises:
        InputError: not a bundle, of another format, damaged, or a file was changed.
    """
    return load_bundle(folder)[0]


def load_bundle(folder: Path | str) -> tuple[FusedModel, dict[str, bytes]]:
    """Load a bundle as `load_model` does; return the bytes of its files as well.

    The model is made of these very bytes, whatever becomes of the folder meanwhile.

    Raises:
        InputError: not a bundle, of another format, damaged, or a file was changed.
    """
    files, record, expected = _read(Path(folder))
    with _refusing(folder, WEIGHTS):
        arrays = read_tensors(files[WEIGHTS], expected)
    with _refusing(folder, MODEL):
        model = _from_record(record, arrays)
    if (mistake := mistake_in_names(model)) is not None:
        raise InputError(f"'{folder}' is refused: {mistake}.")
    return model, files


def read_bundle(folder: Path | str) -> dict[str, bytes]:
    """Read a bundle's files, verified and no larger than its model.json asks for.

    Raises:
        InputError: not a bundle, of another format, or a file was changed.
    """
    return _read(Path(folder))[0]


def _read(folder: Path) -> tuple[dict[str, bytes], Mapping[str, Any], Tensors]:
    """Return a bundle's files, what is in its model.json, and the tensors that this asks for."""
    verified = VerifiedFolder(folder)
    if len(verified.names) > MAX_FILES:
        raise InputError(f"'{folder}' is not a model bundle: it has {len(verified.names)} files.")

    files = {MODEL: verified.read(MODEL, MAX_RECORD_BYTES)}
    with _refusing(folder, MODEL):
        record = parse_json(files[MODEL])
        expected = expected_tensors(validate_record(record))
        longest = most_bytes(expected)

    for name in sorted({*verified.names, WEIGHTS} - {MODEL}):
        files[name] = verified.read(name, longest if name == WEIGHTS else MAX_OTHER_BYTES)
    return files, record, expected


@contextlib.contextmanager
def _refusing(folder: Path | str, name: str) -> Iterator[None]:
    """Turn what does not fit in a file into a sentence."""
    try:
        yield
    except ValueError as error:
        raise InputError(
            f"'{folder}' is not a model bundle that this version can read: {name}: {error}. "
            "Take the bundle from where it was made once more, or the version that wrote it."
        ) from error


def bundle_files(model: FusedModel, card: str = "") -> dict[str, bytes]:
    """Return the bundle's files but for its manifest; `card` is the text of its README.md."""
    stages = dict(_stages_by_place(model))

    arrays: dict[str, NDArray[Any]] = {}
    for place, stage in stages.items():
        arrays |= {f"{place}/{name}": array for name, array in stage.arrays().items()}
    arrays |= _label_floor_arrays(model.label_floors)

    return {
        MODEL: json.dumps(_record(model, stages), indent=1).encode(),
        WEIGHTS: safetensors.numpy.save(dict(sorted(arrays.items()))),
        CARD: card.encode(),
    }


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the numbers."""
    versions = {"python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in LIBRARIES}


def _record(model: FusedModel, stages: Mapping[str, TrainedStage]) -> dict[str, Any]:
    encoder_of: dict[str, dict[str, str]] = {}
    for target in model.targets:
        encoder_of[target] = {
            modality: model.encoder_of[target, modality]
            for modality in model.fusion_modalities[target]
        }
    regressor_encoders: dict[str, dict[str, list[str]]] = {}
    for (target, modality), encoders in model.regressor_encoders.items():
        regressor_encoders.setdefault(target, {})[modality] = list(encoders)

    return {
        "format": FORMAT,
        "targets": list(model.targets),
        "modalities": {modality: list(columns) for modality, columns in model.columns.items()},
        "frame_period_ms": model.frame_period_ms,
        "frame_rate_hz": 1000 / model.frame_period_ms,
        "spec": model.spec.model_dump(),
        "fusion_modalities": {
            target: list(model.fusion_modalities[target]) for target in model.targets
        },
        "encoder_of": encoder_of,
        "regressor_encoders": regressor_encoders,
        "without_fusion": [target for target in model.targets if not model.fusions[target]],
        "floor_of": dict(model.floor_of),
        "repeats": {place: list(places) for place, places in _repeats(model).items()},
        "floor_weights": model.floor_weights,
        "difficulty_references": model.difficulty_references,
        "data": model.data,
        "out_of_fold": model.out_of_fold,
        "difficulty_spearman": model.difficulty_spearman,
        "study": model.study,
        "max_held_frames": dict(model.max_held_frames),
        "set_aside": {modality: list(names) for modality, names in model.set_aside.items()},
        "resampling": dict(model.resampling),
        "bands": {target: band.to_json() for target, band in model.bands.items()},
        "corrections": {
            target: {variant: each.to_json() for variant, each in corrections.items()}
            for target, corrections in model.corrections.items()
        },
        "distillation": model.distillation,
        "versions": library_versions(),
        # Seconds differ from run to run; the same seed must give the same bytes.
        "stages": {place: {**stage.record(), "cpu_s": 0.0} for place, stage in stages.items()},
    }


def _stages_by_place(model: FusedModel) -> Iterator[tuple[str, TrainedStage]]:
    """Yield every stage with its place in the bundle, such as "unimodal/arousal/head/0".

    One that is several times among the models of an ensemble has one place: see `_repeats`.
    """
    for folder, models in _folders(model):
        for number, stage in enumerate(_distinct(models)):
            yield f"{folder}/{number}", stage


def _repeats(model: FusedModel) -> dict[str, tuple[int, ...]]:
    """Return folder -> the numbers of its stages in the order of the models, where some repeat."""
    repeats = {}
    for folder, models in _folders(model):
        numbers = {id(stage): number for number, stage in enumerate(_distinct(models))}
        if len(numbers) < len(models):
            repeats[folder] = tuple(numbers[id(stage)] for stage in models)
    return repeats


def _distinct(models: Sequence[TrainedStage]) -> list[TrainedStage]:
    return list({id(stage): stage for stage in models}.values())


def _folders(model: FusedModel) -> Iterator[tuple[str, Sequence[TrainedStage]]]:
    """Yield what stands before a stage's number in its place, and the models there.

    A name keeps to one part of the place, whatever characters it has.
    """
    named: dict[tuple[str, ...], Sequence[TrainedStage]] = {
        **{("auto_encoder", encoder): m for encoder, m in model.auto_encoders.items()},
        **{("unimodal", *path): m for path, m in model.regressors.items()},
        **{("fusion", target): m for target, m in model.fusions.items()},
    }
    for target, variant in model.fusions_without_difficulty.items():
        named["fusion_without_difficulty", target] = variant

    for names, models in named.items():
        yield "/".join(quote(name, safe=" ()") for name in names), models


def _from_record(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FusedModel:
    stages = _read_stages(record["stages"], arrays, record.get("repeats", {}))

    encoder_of: dict[tuple[str, str], str] = {}
    for target, encoders in record["encoder_of"].items():
        encoder_of |= {(target, modality): encoder for modality, encoder in encoders.items()}
    # A bundle that lacks these is of a version where all regressors read one encoder, and every
    # target had a fusion.
    regressor_encoders: dict[tuple[str, str], tuple[str, ...]] = {}
    for target, by_modality in record.get("regressor_encoders", {}).items():
        for modality, names in by_modality.items():
            regressor_encoders[target, modality] = tuple(names)

    fusions = {target: m for (target,), m in stages.get("fusion", {}).items()}
    for target in record.get("without_fusion", ()):
        fusions[target] = ()

    return FusedModel(
        columns={modality: tuple(columns) for modality, columns in record["modalities"].items()},
        targets=tuple(record["targets"]),
        frame_period_ms=record["frame_period_ms"],
        spec=Spec.model_validate(record["spec"]),
        auto_encoders={encoder: m for (encoder,), m in stages.get("auto_encoder", {}).items()},
        encoder_of=encoder_of,
        regressors={(t, modality): m for (t, modality), m in stages.get("unimodal", {}).items()},
        fusion_modalities={
            target: tuple(modalities) for target, modalities in record["fusion_modalities"].items()
        },
        fusions=fusions,
        fusions_without_difficulty={
            target: m for (target,), m in stages.get("fusion_without_difficulty", {}).items()
        },
        floor_weights=record["floor_weights"],
        difficulty_references=record["difficulty_references"],
        data=record["data"],
        out_of_fold=record["out_of_fold"],
        difficulty_spearman=record["difficulty_spearman"],
        study=record["study"],
        max_held_frames={
            modality: int(frames) for modality, frames in record.get("max_held_frames", {}).items()
        },
        set_aside={
            modality: tuple(names) for modality, names in record.get("set_aside", {}).items()
        },
        label_floors=_read_label_floors(arrays, record["targets"], record["frame_period_ms"]),
        # Bundles of earlier versions have no bands and no corrections, and set no column aside.
        bands={
            target: BandCalibration.from_json(band)
            for target, band in record.get("bands", {}).items()
        },
        corrections={
            target: {variant: Correction.from_json(each) for variant, each in corrections.items()}
            for target, corrections in record.get("corrections", {}).items()
        },
        distillation=record.get("distillation", {}),
        regressor_encoders=regressor_encoders,
        floor_of=record.get("floor_of", {}),
        # In a bundle of an earlier version every frame is the nearest row.
        resampling=record.get("resampling", {}),
    )


def _label_floor_arrays(floors: LabelFloors | None) -> dict[str, NDArray[Any]]:
    """Return every track by its place, "label_floor/<target>" or "label_floor/<target>/<stimulus>".

    Names are quoted as those of stages are.
    """
    if floors is None:
        return {}

    tracks: dict[tuple[str, ...], Track] = {(target,): t for target, t in floors.by_time.items()}
    tracks.update(floors.by_stimulus.items())
    arrays: dict[str, NDArray[Any]] = {}
    for names, track in tracks.items():
        place = "/".join([LABEL_FLOOR, *(quote(name, safe=" ()") for name in names)])
        arrays |= {f"{place}/steps": track.steps, f"{place}/values": track.values}
    return arrays


def _read_label_floors(
    arrays: Mapping[str, NDArray[Any]], targets: Sequence[str], frame_period_ms: float
) -> LabelFloors | None:
    """Read what `_label_floor_arrays` wrote; None from a bundle of an earlier version.

    Raises:
        ValueError: they are not of these targets, or no tracks.
    """
    by_time: dict[str, Track] = {}
    by_stimulus: dict[tuple[str, str], Track] = {}
    places = {path.rpartition("/")[0] for path in arrays if path.startswith(f"{LABEL_FLOOR}/")}
    for place in sorted(places):
        track = _read_track(place, arrays)
        match [unquote(part) for part in place.split("/")[1:]]:
            case [target]:
                by_time[target] = track
            case [target, stimulus]:
                by_stimulus[target, stimulus] = track
            case _:
                raise ValueError(f"{quoted(place)} is no label floor")

    if places and not set(targets) == set(by_time) >= {target for target, _ in by_stimulus}:
        raise ValueError("its label floors are not of its targets")
    return LabelFloors(frame_period_ms, by_time, by_stimulus) if by_time else None


def _read_track(place: str, arrays: Mapping[str, NDArray[Any]]) -> Track:
    steps, values = arrays.get(f"{place}/steps"), arrays.get(f"{place}/values")
    is_track = (
        steps is not None
        and values is not None
        and (steps.dtype.str, values.dtype.str) == ("<i8", "<f8")
        and steps.shape == values.shape == (steps.size,) != (0,)
        and bool((np.diff(steps) > 0).all())
    )
    if not is_track:
        raise ValueError(f"{quoted(place)} is no label floor")
    assert steps is not None
    assert values is not None
    return Track(steps, values)


def _read_stages(
    records: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    repeats: Mapping[str, Sequence[int]],
) -> dict[str, dict[tuple[str, ...], tuple[TrainedStage, ...]]]:
    """Return kind -> names -> models, from their places in the bundle.

    Args:
        records: place -> record of the stage.
        arrays: place/name -> array.
        repeats: see `_repeats`.
    """
    arrays_by_place: dict[str, dict[str, NDArray[Any]]] = {}
    for path, array in arrays.items():
        place, _, name = path.rpartition("/")
        arrays_by_place.setdefault(place, {})[name] = array

    stages: dict[str, dict[tuple[str, ...], tuple[TrainedStage, ...]]] = {}
    for place, record in records.items():
        kind, names, _ = parse_place(place)
        stage = TrainedStage.from_record(record, arrays_by_place[place])
        models = stages.setdefault(kind, {})
        models[names] = (*models.get(names, ()), stage)

    for folder, numbers in repeats.items():
        kind, names = parse_folder(folder)
        distinct = stages[kind][names]
        stages[kind][names] = tuple(distinct[number] for number in numbers)
    return stages
