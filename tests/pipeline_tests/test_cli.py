"""The command line as a person or a program meets it: exit status, files, messages."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import affectune
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.model.bundle import save_model
from pipeline.stages.trained_stage import TrainedStage, new_network
from pipeline.storage.own_files import LIST
from tests.pipeline_tests.corpora import band_calibration

SPEC = """
folds = 3
[auto_encoder.network]
num_layers = 1
hidden_size = 8
[auto_encoder.fit]
max_epochs = 3
[unimodal.network]
num_layers = 1
hidden_size = 8
[unimodal.fit]
max_epochs = 3
[fusion.network]
num_layers = 1
hidden_size = 8
[fusion.fit]
max_epochs = 3
"""


TRAIN = ("train", "--corpus", "CORPUS")
KEY_LENGTH = 64
MISTAKEN_SPECS = {
    "unknown.toml": "[unimodal.fit]\nlr = 1",
    "range.toml": "[fusion.network]\ndropout = 1.5",
    "loss.toml": '[auto_encoder.fit]\nloss = "ccc"',
    "torn.toml": "[unimodal",
}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Call the command line in this process.

    Returns:
        Exit status, standard output and standard error.
    """
    before, sys.argv = sys.argv, ["affectune", *map(str, arguments)]
    try:
        affectune.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.argv = before
    return status, *capsys.readouterr()


def train_command(corpus: Path, spec: Path, *options: str) -> list[str]:
    """Return the command that trains a model of two modalities in the current folder."""
    command = [sys.executable, "-m", "affectune", "train"]
    command += ["--corpus", str(corpus), "--spec", str(spec), "--modalities", "voice,face"]
    return [*command, "--out", "model", "--store", "store", "--json", *options]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def names_in(folder: Path) -> set[str]:
    """Return the names of all entries of a folder."""
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a small corpus."""
    return synthesize(tmp_path_factory.mktemp("corpus") / "small", subjects=9, minutes=0.3)


@pytest.fixture
def corpus_copy(corpus_path: Path, tmp_path: Path) -> Path:
    """Return the path of a copy of the corpus, to change."""
    return Path(shutil.copytree(corpus_path, tmp_path / "corpus"))


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of settings that train in a moment."""
    path = tmp_path_factory.mktemp("spec") / "spec.toml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def trained(corpus_path: Path, spec_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model in a process of its own, and return its bundle; the store lies beside it."""
    folder = tmp_path_factory.mktemp("trained")
    ended = subprocess.run(
        train_command(corpus_path, spec_path),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    # No progress where there is no terminal.
    assert ended.stderr == (
        f"Reading the corpus '{corpus_path}' ...\n"
        "Note: the corpus has warnings: stuck rows (1). See `affectune corpus check`.\n"
    )
    assert json.loads(ended.stdout) == read_json(folder / "model" / "summary.json")
    return folder / "model"


@pytest.fixture
def trained_copy(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle, to change."""
    return Path(shutil.copytree(trained, tmp_path / "model"))


@pytest.mark.slow
def test_train_leaves_a_bundle_with_a_summary(trained: Path) -> None:
    assert names_in(trained) == {
        "model.json",
        "weights.safetensors",
        "README.md",
        "summary.json",
        "manifest.json",
    }
    summary = read_json(trained / "summary.json")
    assert {"trials", "epochs_trained", "wall_s", "cpu_s", "store_hits"} <= set(summary)
    assert summary["partition"] == "devel"

    # In each of 3 folds: 2 modalities with an auto-encoder and 2 targets each, and 2 variants of
    # the fusion of each target.
    assert (summary["trials"], summary["store_hits"]) == (30, 0)
    assert 0 < summary["epochs_trained"] <= 30 * 3
    assert set(affectune.load(trained).columns) == {"voice", "face"}


@pytest.mark.slow
def test_a_repeated_train_trains_nothing_and_gives_the_same_bytes(
    trained: Path,
    corpus_path: Path,
    spec_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, output, _ = run(
        capsys,
        *("train", "--corpus", corpus_path, "--spec", spec_path, "--modalities", "voice,face"),
        *("--out", tmp_path / "model", "--store", trained.parent / "store", "--json"),
    )
    assert status == 0
    summary = json.loads(output)
    assert (summary["trials"], summary["store_hits"], summary["epochs_trained"]) == (30, 30, 0)

    # From Python, too.
    affectune.train(
        corpus_path,
        out=tmp_path / "same",
        spec=spec_path,
        modalities=["voice", "face"],
        store=trained.parent / "store",
    )
    assert read_json(tmp_path / "same" / "summary.json")["store_hits"] == 30
    for name in ("model.json", "weights.safetensors", "README.md"):
        for folder in (tmp_path / "model", tmp_path / "same"):
            assert (folder / name).read_bytes() == (trained / name).read_bytes()
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_evaluate_prints_json_and_draws(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("evaluate", trained, "--corpus", corpus_path, "--plots", tmp_path / "plots")
    status, output, _ = run(capsys, *arguments, "--json")
    assert status == 0
    assert json.loads(output)["targets"] == read_json(trained / "summary.json")["targets"]
    assert names_in(tmp_path / "plots") == {"traces.png", "difficulty.png", "ccc.png", LIST}

    corrupt = ("--corrupt", "voice=noise:2", "--corrupt", "face=drop")
    status, output, _ = run(capsys, *arguments, *corrupt, "--json")
    assert status == 0
    assert json.loads(output)["corrupt"] == ["voice=noise:2", "face=drop"]
    assert "corrupted by voice=noise:2 and face=drop" in json.loads(output)["note"]
    assert "traces-voice-noise-2-face-drop.png" in names_in(tmp_path / "plots")
    model, corruptions = affectune.load(trained), ["voice=noise:2", "face=drop"]
    scores = affectune.evaluate(model, corpus_path, corrupt=corruptions)
    assert scores.evaluation.to_json("")["targets"] == json.loads(output)["targets"]
    assert json.loads(output)["targets"]["arousal"]["unimodal"]["face"] is None

    status, output, _ = run(capsys, *arguments)
    assert status == 0
    assert "95% interval" in output


@pytest.mark.slow
def test_a_sensor_that_is_stuck_in_the_files_is_missing_when_they_are_evaluated(
    trained: Path, corpus_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what was usual in training, though all sessions at hand are stuck."""
    files = sorted((corpus_copy / "feature_segments" / "voice").iterdir())
    arguments = ("evaluate", trained, "--corpus", corpus_copy, "--plots", tmp_path, "--json")

    for path in files:
        header, first, *rows = path.read_text().splitlines()
        held = first.split(",")[2:]
        rows = [",".join([*row.split(",")[:2], *held]) for row in rows]
        path.write_text("\n".join([header, first, *rows]) + "\n")
    status, frozen, error = run(capsys, *arguments)
    assert status == 0, error

    status, dropped, _ = run(capsys, *arguments, "--corrupt", "voice=drop")
    assert status == 0
    assert json.loads(frozen)["targets"] == json.loads(dropped)["targets"]


@pytest.mark.slow
def test_predict_writes_the_format_of_the_challenge(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("predict", trained, "--corpus", corpus_path, "--partition", "test")
    status, _, _ = run(capsys, *arguments, "--out", tmp_path / "p")
    assert status == 0

    sessions = read_corpus(corpus_path, modalities=["voice", "face"]).partition("test")
    by_session = affectune.predict(affectune.load(trained), corpus_path)
    assert list(by_session) == [session.session_id for session in sessions]
    predictions = list(by_session.values())
    for target in ("arousal", "valence"):
        folder = tmp_path / "p" / target
        assert names_in(folder) == {f"{session.session_id}.csv" for session in sessions}
        for session, prediction in zip(sessions, predictions, strict=True):
            with open(folder / f"{session.session_id}.csv", newline="") as file:
                header, *rows = list(csv.reader(file))
            assert header == ["timestamp", "value", "segment_id"]
            assert [int(row[0]) for row in rows] == session.timestamps_ms.tolist()
            values = [float(row[1]) for row in rows]
            np.testing.assert_allclose(values, prediction.values[target], atol=1e-6)


@pytest.mark.slow
def test_what_predict_did_not_write_is_never_replaced(
    trained: Path, corpus_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = corpus_copy / "label_segments"
    before = {path: path.read_bytes() for path in labels.rglob("*.csv")}
    arguments = ("predict", trained, "--corpus", corpus_copy, "--partition", "test")
    status, _, error = run(capsys, *arguments, "--out", labels)
    assert status == 2
    assert "not written here" in error
    assert {path: path.read_bytes() for path in labels.rglob("*.csv")} == before

    out = tmp_path / "p"
    for _ in range(2):
        assert run(capsys, *arguments, "--out", out)[0] == 0
    changed = next(out.glob("arousal/*.csv"))
    changed.write_text("my notes")
    assert run(capsys, *arguments, "--out", out)[0] == 2
    assert changed.read_text() == "my notes"


@pytest.mark.slow
def test_predictions_of_each_target_are_at_the_rows_of_its_own_file(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(corpus_path, tmp_path / "corpus")
    for path in (copy / "label_segments" / "valence").glob("*.csv"):
        labels = pd.read_csv(path)
        labels["timestamp"] = [f"{(time + 250) / 1000:.3f}" for time in labels["timestamp"]]
        labels.iloc[3:].to_csv(path, index=False)

    status, _, _ = run(capsys, "predict", trained, "--corpus", copy, "--out", tmp_path / "p")

    assert status == 0
    for target in ("arousal", "valence"):
        # A session without a file of the target has a prediction per frame.
        for labels_path in (copy / "label_segments" / target).glob("*.csv"):
            path = tmp_path / "p" / target / labels_path.name
            if not path.exists():
                continue  # of another partition
            written = pd.read_csv(path, dtype=str)
            labels = pd.read_csv(labels_path, dtype=str)
            assert written["timestamp"].tolist() == labels["timestamp"].tolist()
            assert written["value"].astype(float).notna().all()


@pytest.mark.slow
def test_predict_adds_bands_behind_the_columns_of_the_challenge(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = affectune.load(trained)
    banded = replace(model, bands=dict.fromkeys(model.targets, band_calibration()))
    save_model(banded, tmp_path / "banded")
    arguments = ("--corpus", corpus_path, "--partition", "test", "--bands", "--out", tmp_path / "p")
    status, _, _ = run(capsys, "predict", tmp_path / "banded", *arguments)
    assert status == 0

    session = read_corpus(corpus_path, modalities=["voice", "face"]).partition("test")[0]
    band = banded.predict_sessions([session])[0].bands["arousal"]
    with open(tmp_path / "p" / "arousal" / f"{session.session_id}.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["timestamp", "value", "segment_id", "low", "high"]
    np.testing.assert_allclose([float(row[3]) for row in rows], band.low, atol=1e-6)
    np.testing.assert_allclose([float(row[4]) for row in rows], band.high, atol=1e-6)


@pytest.mark.slow
def test_bands_of_a_model_that_has_none_are_refused_before_anything_is_predicted(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(replace(affectune.load(trained), bands={}), tmp_path / "bare")
    arguments = ("--corpus", corpus_path, "--partition", "test", "--bands", "--out", tmp_path / "p")
    status, _, error = run(capsys, "predict", tmp_path / "bare", *arguments)

    assert status == 2
    assert "has no calibrated band of arousal" in " ".join(error.split())
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_predict_writes_the_weights_of_the_modalities_where_it_is_told_to(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("predict", trained, "--corpus", corpus_path, "--partition", "test")
    folders = ("--out", tmp_path / "p", "--weights", tmp_path / "w")
    status, output, _ = run(capsys, *arguments, *folders)
    assert status == 0
    assert "Weights of the modalities for arousal, valence" in output

    sessions = read_corpus(corpus_path, modalities=["voice", "face"]).partition("test")
    predictions = affectune.load(trained).predict_sessions(sessions)
    for target in ("arousal", "valence"):
        names = {f"{session.session_id}.csv" for session in sessions}
        assert names_in(tmp_path / "p" / target) == names_in(tmp_path / "w" / target) == names
        for session, prediction in zip(sessions, predictions, strict=True):
            table = pd.read_csv(tmp_path / "w" / target / f"{session.session_id}.csv")
            assert list(table.columns) == ["timestamp", "segment_id", "voice", "face"]
            assert table["timestamp"].tolist() == session.timestamps_ms.tolist()
            for modality, weights in prediction.weights[target].items():
                np.testing.assert_allclose(table[modality], weights, atol=1e-6)


@pytest.mark.slow
def test_predict_refuses_weights_that_a_model_does_not_have(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is predicted or written."""
    model = affectune.load(trained)

    def without_gate(stage: TrainedStage) -> TrainedStage:
        network = stage.network.model_copy(update={"kind": "recurrent"})
        untrained = replace(stage, network=network, weights={})
        normalisation, size = stage.normalisation, stage.output_size
        module = new_network(network, normalisation, size, stage.num_modalities)
        return replace(untrained, weights=module.state_dict())

    networks = {
        target: tuple(map(without_gate, stages)) for target, stages in model.fusions.items()
    }
    save_model(replace(model, fusions=networks), tmp_path / "gateless")
    arguments = ("--corpus", corpus_path, "--out", tmp_path / "p", "--weights", tmp_path / "w")
    status, _, error = run(capsys, "predict", tmp_path / "gateless", *arguments)
    assert status == 2
    assert "no fusion of the model has a gate" in error
    assert names_in(tmp_path) == {"gateless"}


def _is_group_running(group: int) -> bool:
    """Return whether a process of the group runs; one that was not waited for does not count."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = path.read_text().rsplit(")", 1)[1].split()[:3]
            if int(process_group) == group and state != "Z":
                return True
    return False


def _num_stored(store: Path) -> int:
    """Return how many trained stages a store has."""
    return len(list(store.glob("?" * KEY_LENGTH + "/manifest.json")))


@pytest.mark.slow
def test_a_killed_train_goes_on_from_the_store(
    corpus_path: Path, spec_path: Path, trained: Path, tmp_path: Path
) -> None:
    command = train_command(corpus_path, spec_path, "--workers", "2")
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    deadline = time.monotonic() + 120
    while (
        _num_stored(tmp_path / "store") < 5
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _num_stored(tmp_path / "store") >= 5
    assert not (tmp_path / "model").exists()

    # The workers notice that their parent is gone, and end.
    while _is_group_running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_group_running(process.pid)

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    summary = json.loads(ended.stdout)
    assert summary["trials"] == 30
    assert summary["store_hits"] >= 5
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--corpus", "nowhere", "--out", "m"], "nowhere"),
        ([*TRAIN, "--out", "m", "--modalities", "smell"], "smell"),
        (
            [*TRAIN, "--out", "m", "--modalities", "voice,voice"],
            "different names",
        ),
        ([*TRAIN, "--out", "m", "--targets", "joy"], "joy"),
        ([*TRAIN, "--out", "m", "--folds", "1"], "folds"),
        (
            [*TRAIN, "--out", "m", "--folds", "50"],
            "at least 50 training subjects",
        ),
        ([*TRAIN, "--out", "m", "--protocol", "best"], "protocol"),
        ([*TRAIN, "--out", "m", "--inference", "best"], "inference"),
        (
            [*TRAIN, "--out", "m", "--inference", "distilled", "--protocol", "in_sample"],
            "has no folds",
        ),
        ([*TRAIN, "--out", "m", "--seed", "-1"], "seed"),
        ([*TRAIN, "--out", "m", "--spec", "missing.toml"], "missing.toml"),
        (
            [*TRAIN, "--out", "m", "--spec", "unknown.toml"],
            "Unknown key 'unimodal.fit.lr'",
        ),
        (
            [*TRAIN, "--out", "m", "--spec", "range.toml"],
            "'fusion.network.dropout'",
        ),
        (
            [*TRAIN, "--out", "m", "--spec", "loss.toml"],
            "auto-encoder rebuilds",
        ),
        ([*TRAIN, "--out", "m", "--spec", "torn.toml"], "is not TOML"),
        ([*TRAIN, "--out", "unknown.toml"], "is a file"),
        ([*TRAIN, "--out", "unknown.toml/m"], "cannot be written"),
        ([*TRAIN, "--out", "."], "it is not a model bundle"),
        ([*TRAIN, "--out", "web"], "it is not a model bundle"),
        ([*TRAIN, "--out", "m", "--store", "m/store"], "lies in --out"),
        ([*TRAIN, "--out", "m", "--device", "gpu"], "auto, cpu or cuda"),
        ([*TRAIN, "--out", "m", "--workers", "0"], "workers"),
        (
            [*TRAIN, "--out", "m", "--store", "unknown.toml/store"],
            "Cannot use the store",
        ),
        ([*TRAIN], "--out"),
        (["evaluate", "nothing", "--corpus", "CORPUS"], "not a complete bundle"),
        (["evaluate", "MODEL", "--corpus", "CORPUS", "--partition", "dev"], "train, devel, test"),
        (
            ["evaluate", "MODEL", "--corpus", "CORPUS", "--partition", "test"],
            "no test session has labels",
        ),
        (["evaluate", "MODEL", "--corpus", "CORPUS", "--corrupt", "voice=blur"], "SET=noise:STD"),
        (["evaluate", "MODEL", "--corpus", "CORPUS", "--corrupt", "text=drop"], "the model reads"),
        (
            ["predict", "MODEL", "--corpus", "CORPUS", "--out", "p", "--weights", "./p"],
            "Choose another folder",
        ),
        (["predict", "nothing", "--corpus", "CORPUS", "--out", "p"], "not a complete bundle"),
        (["fly"], "fly"),
    ],
)
@pytest.mark.slow
def test_a_mistake_ends_with_status_2_and_a_message_and_writes_nothing(
    arguments: list[str],
    message: str,
    corpus_path: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, text in MISTAKEN_SPECS.items():
        Path(name).write_text(text)
    Path("web").mkdir()
    Path("web/manifest.json").write_text('{"name": "app"}')
    before = sorted(path.name for path in tmp_path.rglob("*"))

    paths = {"CORPUS": str(corpus_path), "MODEL": str(trained)}
    arguments = [paths.get(argument, argument) for argument in arguments]
    status, output, error = run(capsys, *arguments)
    assert status == 2
    assert message in error
    assert "Traceback" not in error
    assert output == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_changed_bundle_is_refused(
    trained_copy: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(trained_copy / "model.json", "a") as file:
        file.write(" ")

    arguments = ("predict", trained_copy, "--corpus", corpus_path, "--out", tmp_path / "p")
    status, _, error = run(capsys, *arguments)
    assert status == 2
    assert "model.json was changed" in error
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "corpus check", "corpus synthesize"]
)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, _ = run(capsys, *command.split(), "--help")
    assert status == 0
    assert "Example" in output


def _set_labels(path: Path, value: str) -> None:
    """Replace every label in a file by one value."""
    header, *rows = path.read_text().splitlines()
    column = header.split(",").index("value")
    lines = [header]
    for row in rows:
        cells = row.split(",")
        cells[column] = value
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n")


def test_labels_that_never_change_are_refused_before_training(
    corpus_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (corpus_copy / "label_segments" / "arousal").iterdir():
        _set_labels(path, "0.5")

    paths = ("--out", tmp_path / "m", "--store", tmp_path / "s")
    status, _, error = run(capsys, "train", "--corpus", corpus_copy, *paths)
    assert status == 2
    assert "'arousal' is 0.5 in every train frame" in error
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "s").exists()


def test_a_label_that_a_fold_lacks_is_refused_before_training(
    corpus_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for session in read_corpus(corpus_copy).partition("train")[1:]:
        path = corpus_copy / "label_segments" / "valence" / f"{session.session_id}.csv"
        _set_labels(path, "nan")

    paths = ("--out", tmp_path / "m", "--store", tmp_path / "s")
    status, _, error = run(capsys, "train", "--corpus", corpus_copy, *paths)
    assert status == 2
    assert "'valence' has no label in every training frame of fold" in error
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_bundle_with_other_files_in_it_is_not_replaced(
    trained_copy: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained_copy / "predictions").mkdir()

    paths = ("--out", trained_copy, "--store", tmp_path / "s")
    status, _, error = run(capsys, "train", "--corpus", corpus_path, *paths)
    assert status == 2
    assert "it holds 'predictions', too" in error
    assert (trained_copy / "predictions").is_dir()


def _nearest_rows(path: Path, timestamps_ms: np.ndarray) -> np.ndarray:
    """Return the features of a raw file that are nearest to each frame, NaN where none is near."""
    table = pd.read_csv(path)
    distances_ms = np.abs(table["timestamp"].to_numpy()[None] - timestamps_ms[:, None])
    values = table.iloc[:, 2:].to_numpy(dtype=np.float32)[distances_ms.argmin(axis=1)]
    is_near = (distances_ms.min(axis=1) <= 250)[:, None]
    return np.where(is_near, values, np.nan)


@pytest.mark.slow
def test_predictions_from_raw_files_and_from_raw_arrays_agree(
    trained: Path, corpus_path: Path
) -> None:
    model = affectune.load(trained)
    corpus = read_corpus(corpus_path, modalities=["voice", "face"])
    num_zero_rows = 0

    for session in (*corpus.partition("devel"), *corpus.partition("train")[:4]):
        raw = {}
        for modality in model.modalities:
            folder = corpus_path / "feature_segments" / modality
            raw[modality] = _nearest_rows(
                folder / f"{session.session_id}.csv", session.timestamps_ms
            )
            num_zero_rows += int((raw[modality] == 0).all(axis=1).sum())

        from_arrays = model.predict(raw, timestamps_ms=session.timestamps_ms)
        from_files = model.predict_sessions([session])[0]
        for modality in model.modalities:
            one, other = (p.difficulty[modality].error for p in (from_arrays, from_files))
            np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_allclose(
            from_arrays.values["arousal"], from_files.values["arousal"], atol=1e-5
        )

    assert num_zero_rows  # frames without a face or speech were among them
