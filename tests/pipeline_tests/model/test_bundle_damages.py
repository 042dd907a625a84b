"""A broken bundle is refused in a sentence, whatever is broken; a good one loads as ever."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import affectune
from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import WEIGHTS, bundle_files, load_bundle
from pipeline.model.bundle_record import validate_record
from pipeline.model.bundle_tensors import expected_tensors, most_bytes
from pipeline.model.correction import Correction
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FUSION, WITHOUT_DIFFICULTY
from pipeline.storage.atomic_folder import MANIFEST, MODEL, VerifiedFolder, manifest_of
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import band_calibration, tiny_corpus, tiny_spec
from tests.pipeline_tests.model.bundle_damages import damages, try_damages

COUNT = 60
QUICK_S, MEMORY_KB = 20.0, 400_000
"""A refusal takes some hundredths of a second, and the memory of model.json; on a busy machine it
takes longer."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a small corpus."""
    return tiny_corpus(train_subjects=4)


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a model that has everything that a bundle can hold."""
    stage = {"network": {"num_layers": 1, "hidden_size": 4}, "fit": {"max_epochs": 1}}
    context = {**stage, "delay_s": 1.0, "context_s": [2.0], "normalisation": "both"}
    fusion = {**stage, "reads": "all"}
    spec = tiny_spec(auto_encoder=stage, unimodal=context, fusion=fusion, folds=2)
    store = StageStore(tmp_path_factory.mktemp("store"))
    trained = train(corpus, spec, WorkerPool(corpus, store))

    corrections = {FUSION: Correction(2.0, 0.5), WITHOUT_DIFFICULTY: Correction(3.0, -1.0)}
    score = {"ccc": 0.5, "ccc_low": 0.1, "ccc_high": None}
    return replace(
        trained,
        bands={"arousal": band_calibration()},
        corrections={"valence": corrections},
        regressors={
            path: (*models, models[0]) if path == ("arousal", "face") else models
            for path, models in trained.regressors.items()
        },
        regressor_encoders={("arousal", "face"): ("face",) * 3},
        resampling={"voice": "nearest"},
        set_aside={"voice": ("frame",)},
        study={
            "name": "s",
            "trials": 3,
            "seeds": {"arousal": {"scores": [0.5], "deciding": [0.4]}},
        },
        distillation={
            "is_kept": False,
            "reason": "It is worse.",
            "teacher": "ensemble of 2 networks per task",
            "tolerance": 0.005,
            "networks": {"teacher": 10, "student": 5},
            "sessions": {"clean": 8, "corrupted": 0, "mixtures": 2},
            "targets": {"arousal": dict.fromkeys(("teacher", "student", "difference"), score)},
        },
    )


@pytest.fixture(scope="module")
def files(model: FusedModel) -> dict[str, bytes]:
    """Return the files of the whole bundle."""
    return {**bundle_files(model, "# card"), "summary.json": b"{}"}


@pytest.fixture(scope="module")
def features(corpus: Corpus) -> Mapping[str, Any]:
    """Return a session to predict."""
    return corpus.partition("devel")[0].features


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files with a manifest that fits; return the folder."""
    folder.mkdir()
    for name, data in {**files, MANIFEST: manifest_of(files)}.items():
        (folder / name).write_bytes(data)
    return folder


def with_record(files: Mapping[str, bytes], change: Callable[[Any], None]) -> dict[str, bytes]:
    """Return the files with another model.json."""
    record = json.loads(files[MODEL])
    change(record)
    return {**files, MODEL: json.dumps(record).encode()}


def refusal(folder: Path) -> str:
    """Return why a bundle is refused: quickly, and without much memory."""
    start, before_kb = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as raised:
        affectune.load(folder)
    assert time.perf_counter() - start < QUICK_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < MEMORY_KB
    assert str(raised.value).isprintable()
    return str(raised.value)


def test_generated_damages_are_refused_in_a_sentence_or_change_nothing(
    model: FusedModel, files: dict[str, bytes], features: Mapping[str, Any], tmp_path: Path
) -> None:
    expected = model.predict(features)
    outcomes, faults = try_damages(damages(files, 1, COUNT), tmp_path, features, expected)
    assert not faults, "\n".join(faults)
    assert outcomes["refused"] > COUNT / 2


@pytest.mark.parametrize("name", [MANIFEST, MODEL, WEIGHTS])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "link", "link to a device", "loop"])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    kind: str,
) -> None:
    path = write(tmp_path / "b", files) / name
    path.rename(tmp_path / "whole")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # the whole path may be too long for a socket's name
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    elif kind == "folder":
        path.mkdir()
    else:
        target = {"link": tmp_path / "whole", "loop": path}.get(kind, Path("/dev/zero"))
        path.symlink_to(target)

    assert "must be a plain file" in refusal(path.parent)


@pytest.mark.parametrize("name", [MANIFEST, MODEL, WEIGHTS, "README.md", "summary.json"])
def test_a_file_of_gigabytes_is_refused_without_being_read(
    files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    folder = write(tmp_path / "b", files)
    os.truncate(folder / name, 5 * 10**9)
    assert "5,000,000,000 bytes, more than" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0b", "\x1b[2J", MANIFEST]
)
def test_a_manifest_names_files_of_its_folder_alone(
    files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    folder = write(tmp_path / "b", files)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, name: "0" * 64}))
    assert "which is no file of the folder" in refusal(folder)


def test_a_manifest_with_a_name_twice_or_thousands_of_names_is_refused(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    folder = write(tmp_path / "b", files)
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(manifest.replace("{", f'{{"{MODEL}": "{"0" * 64}",', 1))
    assert "is damaged" in refusal(folder)

    many = {f"file{number}": "0" * 64 for number in range(5000)}
    (folder / MANIFEST).write_text(json.dumps(json.loads(manifest) | many))
    assert "it has 5004 files" in refusal(folder)


def test_a_long_header_of_the_weights_is_refused_before_it_is_parsed(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    """A library that parses 99 MB of it takes 2 GB."""
    header = b"{" + b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 1_900_000 + b"}"
    data = len(header).to_bytes(8, "little") + header
    assert "does not begin with a header" in refusal(
        write(tmp_path / "b", {**files, WEIGHTS: data})
    )


FACE = "stages/unimodal/arousal/face/0"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((FACE, "network", "hidden_size"), 10**9),
        ((FACE, "network", "hidden_size"), 4096),
        ((FACE, "network", "num_layers"), 10**6),
        ((FACE, "network", "num_layers"), 16),
        ((FACE, "output_size"), 10**9),
        ((FACE, "side_size"), 2**62),
        ((FACE, "timing", "context_frames"), [10**9]),
        ((FACE, "timing", "resample_frames"), 10**30),
        (("stages/fusion/arousal/0", "num_modalities"), 10**9),
        (("modalities", "voice"), [str(number) for number in range(300_000)]),
        (("modalities",), {str(number): ["a"] for number in range(20_000)}),
        (("bands", "arousal", "weights"), [0.5] * 300_000),
        (("difficulty_references", "face"), list(range(300_000))),
        (("repeats", "unimodal/arousal/face"), [0] * 300_000),
        (("repeats", "unimodal/arousal/face"), [-1, 0, 1]),
        (("floor_weights", "arousal", "face"), -1.0),
        (("frame_period_ms",), 1e-300),
        (("max_held_frames", "voice"), 0),
        (("data", "sessions"), {"train": 1}),
        ((FACE, "history"), ["x"] * 1_900_000),
        ((FACE, "history"), [[1, 0.5, 0.5]] * 200_000),
        (("set_aside", "voice"), [1] * 1_900_000),
        (("study", "further"), [[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]),
        (("targets",), ["\x1b[31m"]),
        (("out_of_fold", "arousal", "fusion"), {}),
        (("study", "trials"), "many"),
        (("distillation", "networks"), None),
        (("without_fusion",), ["arousal"]),
        (("unknown",), 1),
    ],
)
def test_a_record_of_impossible_sizes_is_refused_before_anything_is_built(
    files: dict[str, bytes], tmp_path: Path, place: tuple[str, ...], value: object
) -> None:
    def change(record: Any) -> None:
        *path, last = ("stages", place[0][7:], *place[1:]) if "/" in place[0] else place
        for key in path:
            record = record[key]
        record[last] = value

    message = refusal(write(tmp_path / "b", with_record(files, change)))
    assert "not a model bundle that this version can read" in message


@pytest.mark.parametrize("name", ["none", "x" * 300, "a\0b", "file"])
def test_what_is_no_folder_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="is not a complete bundle"):
        affectune.load(tmp_path / name)


def test_a_bundle_of_a_later_format_says_so(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path / "b", with_record(files, lambda record: record.update(format=3)))
    assert "bundle format 3, which a later version of Affectune wrote" in refusal(folder)


def test_a_record_that_another_version_wrote_says_which(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    changes = {"new_key": 1, "versions": {"affectune": "9.8.7"}}
    folder = write(tmp_path / "b", with_record(files, lambda record: record.update(changes)))
    assert "Affectune '9.8.7' wrote it" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auto_encoder/face/0/head.bias", np.nan),
        ("auto_encoder/voice/1/scale.mean", np.inf),
        ("auto_encoder/voice/1/scale.std", np.nan),
        ("auto_encoder/voice/1/scale.std", 0.0),
        ("fusion/arousal/0/scale", np.nan),
        ("label_floor/arousal/values", np.nan),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    files: dict[str, bytes], tmp_path: Path, name: str, value: float
) -> None:
    arrays = safetensors.numpy.load(files[WEIGHTS])
    arrays[name] = np.full_like(arrays[name], value)
    spoilt = {**files, WEIGHTS: safetensors.numpy.save(arrays)}
    assert f"'{name}' holds what is no number" in refusal(write(tmp_path / "b", spoilt))


def test_a_constant_column_has_an_infinite_deviation_and_loads(
    files: dict[str, bytes], features: Mapping[str, Any], tmp_path: Path
) -> None:
    arrays = safetensors.numpy.load(files[WEIGHTS])
    arrays["auto_encoder/face/0/scale.std"][0] = np.inf
    whole = {**files, WEIGHTS: safetensors.numpy.save(arrays)}
    loaded = affectune.load(write(tmp_path / "b", whole))
    assert np.isfinite(loaded.predict(features).values["arousal"]).all()


def test_a_model_is_made_of_the_bytes_that_were_verified(
    model: FusedModel,
    files: dict[str, bytes],
    features: Mapping[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, read = write(tmp_path / "b", files), VerifiedFolder.read

    def read_and_change(self: VerifiedFolder, name: str, max_bytes: int) -> bytes:
        data = read(self, name, max_bytes)
        (folder / name).write_bytes(b"changed")
        return data

    monkeypatch.setattr(VerifiedFolder, "read", read_and_change)
    loaded, loaded_files = load_bundle(folder)
    assert loaded_files == files
    np.testing.assert_array_equal(
        loaded.predict(features).values["arousal"], model.predict(features).values["arousal"]
    )


def test_a_whole_bundle_loads_to_the_same_bytes(files: dict[str, bytes], tmp_path: Path) -> None:
    loaded = affectune.load(write(tmp_path / "b", files))
    assert {**bundle_files(loaded, "# card"), "summary.json": b"{}"} == files


def test_a_large_legal_model_is_within_the_limits(files: dict[str, bytes]) -> None:
    """8192 columns, two layers of 1024 units both ways: counted, not built."""
    record = json.loads(files[MODEL])
    record["modalities"]["face"] = [f"column_{number}" for number in range(8192)]
    for place, stage in record["stages"].items():
        if "/face/" in place:
            stage["network"] |= {"hidden_size": 1024, "num_layers": 2}
        if place.startswith("auto_encoder/face/"):
            stage["output_size"] = 8192

    tensors = expected_tensors(validate_record(record))
    weight = tensors["auto_encoder/face/0/recurrent.weight_ih_l0"]
    assert weight.shape == (3 * 1024, 8192)
    assert most_bytes(tensors) > 10**9


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_command_ends_in_one_sentence(
    files: dict[str, bytes],
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write(tmp_path / "b", {**files, WEIGHTS: b"\0" * 100})
    arguments = [command, str(folder), "--corpus", str(tmp_path), "--device", "cpu"]
    if command == "predict":
        arguments += ["--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["affectune", *arguments])

    with pytest.raises(SystemExit) as ended:
        affectune.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "Error: " in error
    assert "Traceback" not in error
