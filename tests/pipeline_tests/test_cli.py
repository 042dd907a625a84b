"""The command line as a person or a program meets it: status, files, messages."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affectune
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic import synthesize

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


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Call the command line in this process; its status, standard output and standard error."""
    before, sys.argv = sys.argv, ["affectune", *map(str, arguments)]
    try:
        affectune.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.argv = before
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("corpus") / "small", subjects=9, minutes=0.3)


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "spec.toml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def trained(corpus_path: Path, spec_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    command = [
        sys.executable,
        "-m",
        "affectune",
        "train",
        "--corpus",
        corpus_path,
        "--spec",
        spec_path,
    ]
    done = subprocess.run(
        [
            *map(str, command),
            "--out",
            "model",
            "--store",
            "store",
            "--json",
            "--modalities",
            "voice,face",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""  # no progress where there is no terminal
    assert json.loads(done.stdout) == json.loads((folder / "model" / "summary.json").read_text())
    return folder / "model"


def test_train_leaves_a_bundle_with_a_summary(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "model.json",
        "weights.safetensors",
        "README.md",
        "summary.json",
        "manifest.json",
    }
    summary = json.loads((trained / "summary.json").read_text())
    assert {"trials", "epochs_trained", "wall_s", "cpu_s", "store_hits"} <= set(summary)
    assert summary["partition"] == "devel"
    # In each of 3 folds: 2 sets with an auto-encoder and 2 targets each, and 2 fusions for each of 2 targets.
    assert (summary["trials"], summary["store_hits"]) == (30, 0)
    assert 0 < summary["epochs_trained"] <= 30 * 3
    assert set(affectune.load(trained).columns) == {"voice", "face"}


def test_a_repeated_train_trains_nothing_and_gives_the_same_bytes(
    trained: Path,
    corpus_path: Path,
    spec_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = run(
        capsys,
        *("train", "--corpus", corpus_path, "--spec", spec_path, "--modalities", "voice,face"),
        *("--out", tmp_path / "again", "--store", trained.parent / "store", "--json"),
    )
    assert status == 0
    summary = json.loads(out)
    assert (summary["trials"], summary["store_hits"], summary["epochs_trained"]) == (30, 30, 0)
    for name in ("model.json", "weights.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_evaluate_prints_json_and_draws(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("evaluate", trained, "--corpus", corpus_path, "--plots", tmp_path / "plots")
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["targets"] == json.loads((trained / "summary.json").read_text())["targets"]
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "traces.png",
        "difficulty.png",
        "ccc.png",
    }
    status, out, _ = run(
        capsys, *arguments, "--corrupt", "voice=noise:2", "--corrupt", "face=drop", "--json"
    )
    assert status == 0
    assert json.loads(out)["corrupt"] == ["voice=noise:2", "face=drop"]
    assert json.loads(out)["targets"]["arousal"]["unimodal"]["face"] is None
    status, out, _ = run(capsys, *arguments)
    assert "95% interval" in out


def test_predict_writes_the_challenges_format(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = run(
        capsys,
        "predict",
        trained,
        "--corpus",
        corpus_path,
        "--partition",
        "test",
        "--out",
        tmp_path / "p",
    )
    assert status == 0
    corpus = read_corpus(corpus_path, modalities=["voice", "face"])
    sessions = corpus.partition("test")
    predictions = affectune.load(trained).predict_sessions(sessions)
    for target in ("arousal", "valence"):
        assert {path.stem for path in (tmp_path / "p" / target).iterdir()} == {
            s.session_id for s in sessions
        }
        for session, prediction in zip(sessions, predictions, strict=True):
            with open(tmp_path / "p" / target / f"{session.session_id}.csv", newline="") as file:
                header, *rows = list(csv.reader(file))
            assert header == ["timestamp", "value", "segment_id"]
            assert [int(row[0]) for row in rows] == session.timestamps_ms.tolist()
            np.testing.assert_allclose(
                [float(row[1]) for row in rows], prediction.values[target], atol=1e-6
            )


def _group_lives(group: int) -> bool:
    """Whether a process of the group runs; one that ended but was not waited for does not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = path.read_text().rsplit(")", 1)[1].split()[:3]
            if int(process_group) == group and state != "Z":
                return True
    return False


def test_a_killed_train_goes_on_from_the_store(
    corpus_path: Path, spec_path: Path, trained: Path, tmp_path: Path
) -> None:
    command = [
        *(
            sys.executable,
            "-m",
            "affectune",
            "train",
            "--corpus",
            str(corpus_path),
            "--spec",
            str(spec_path),
        ),
        *(
            "--modalities",
            "voice,face",
            "--out",
            "model",
            "--store",
            "store",
            "--workers",
            "2",
            "--json",
        ),
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    done: list[Path] = []
    deadline = time.monotonic() + 120
    while len(done) < 5 and process.poll() is None and time.monotonic() < deadline:
        done = list((tmp_path / "store").glob("*/manifest.json"))
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(done) >= 5
    assert not (tmp_path / "model").exists()
    # The workers notice that their parent is gone, and end.
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(process.pid)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    summary = json.loads(again.stdout)
    assert summary["trials"] == 30
    assert summary["store_hits"] >= 5
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--corpus", "nowhere", "--out", "m"], "nowhere"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--modalities", "smell"], "smell"),
        (
            ["train", "--corpus", "CORPUS", "--out", "m", "--modalities", "voice,voice"],
            "different names",
        ),
        (["train", "--corpus", "CORPUS", "--out", "m", "--targets", "joy"], "joy"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--folds", "1"], "folds"),
        (
            ["train", "--corpus", "CORPUS", "--out", "m", "--folds", "50"],
            "at least 50 training subjects",
        ),
        (["train", "--corpus", "CORPUS", "--out", "m", "--protocol", "best"], "protocol"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--seed", "-1"], "seed"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--spec", "missing.toml"], "missing.toml"),
        (
            ["train", "--corpus", "CORPUS", "--out", "m", "--spec", "unknown.toml"],
            "Unknown key 'unimodal.fit.lr'",
        ),
        (
            ["train", "--corpus", "CORPUS", "--out", "m", "--spec", "range.toml"],
            "'fusion.network.dropout'",
        ),
        (
            ["train", "--corpus", "CORPUS", "--out", "m", "--spec", "loss.toml"],
            "auto-encoder rebuilds",
        ),
        (["train", "--corpus", "CORPUS", "--out", "m", "--spec", "torn.toml"], "is not TOML"),
        (["train", "--corpus", "CORPUS", "--out", "unknown.toml"], "is a file"),
        (["train", "--corpus", "CORPUS", "--out", "unknown.toml/m"], "cannot be written"),
        (["train", "--corpus", "CORPUS", "--out", "."], "it is not a model bundle"),
        (["train", "--corpus", "CORPUS", "--out", "web"], "it is not a model bundle"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--store", "m/store"], "lies in --out"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--device", "gpu"], "auto, cpu or cuda"),
        (["train", "--corpus", "CORPUS", "--out", "m", "--workers", "0"], "workers"),
        (
            ["train", "--corpus", "CORPUS", "--out", "m", "--store", "unknown.toml/store"],
            "Cannot use the store",
        ),
        (["train", "--corpus", "CORPUS"], "--out"),
        (["evaluate", "nothing", "--corpus", "CORPUS"], "not a complete bundle"),
        (["evaluate", "MODEL", "--corpus", "CORPUS", "--partition", "dev"], "train, devel, test"),
        (
            ["evaluate", "MODEL", "--corpus", "CORPUS", "--partition", "test"],
            "no test session has labels",
        ),
        (["evaluate", "MODEL", "--corpus", "CORPUS", "--corrupt", "voice=blur"], "SET=noise:STD"),
        (["evaluate", "MODEL", "--corpus", "CORPUS", "--corrupt", "text=drop"], "the model reads"),
        (["predict", "nothing", "--corpus", "CORPUS", "--out", "p"], "not a complete bundle"),
        (["fly"], "fly"),
    ],
)
def test_a_mistake_ends_with_status_2_says_what_and_writes_nothing(
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
    for name, text in {
        "unknown.toml": "[unimodal.fit]\nlr = 1",
        "range.toml": "[fusion.network]\ndropout = 1.5",
        "loss.toml": '[auto_encoder.fit]\nloss = "ccc"',
        "torn.toml": "[unimodal",
    }.items():
        Path(name).write_text(text)
    Path("web").mkdir()
    Path("web/manifest.json").write_text('{"name": "app"}')
    before = sorted(path.name for path in tmp_path.rglob("*"))
    places = {"CORPUS": str(corpus_path), "MODEL": str(trained)}
    status, out, error = run(capsys, *[places.get(argument, argument) for argument in arguments])
    assert status == 2
    assert message in error
    assert "Traceback" not in error
    assert out == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_changed_bundle_is_refused(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "m")
    with open(tmp_path / "m" / "model.json", "a") as file:
        file.write(" ")
    status, _, error = run(
        capsys, "predict", tmp_path / "m", "--corpus", corpus_path, "--out", tmp_path / "p"
    )
    assert status == 2
    assert "model.json was changed" in error
    assert not (tmp_path / "p").exists()


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["train"],
        ["evaluate"],
        ["predict"],
        ["corpus", "check"],
        ["corpus", "synthesize"],
    ):
        status, out, _ = run(capsys, *command, "--help")
        assert status == 0
        assert "Example" in out


def _set_labels(path: Path, value: str) -> None:
    """Every label in a label file becomes this one."""
    header, *rows = path.read_text().splitlines()
    place = header.split(",").index("value")
    changed = [
        ",".join(value if i == place else cell for i, cell in enumerate(row.split(",")))
        for row in rows
    ]
    path.write_text("\n".join([header, *changed]) + "\n")


def test_labels_that_never_change_are_refused_before_training(
    corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus_path, tmp_path / "c")
    for path in (tmp_path / "c" / "label_segments" / "arousal").iterdir():
        _set_labels(path, "0.5")
    status, _, error = run(
        capsys,
        "train",
        "--corpus",
        tmp_path / "c",
        "--out",
        tmp_path / "m",
        "--store",
        tmp_path / "s",
    )
    assert status == 2
    assert "'arousal' is 0.5 in every train frame" in error
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "s").exists()


def test_a_bundle_with_other_files_in_it_is_not_replaced(
    trained: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "m")
    (tmp_path / "m" / "predictions").mkdir()
    status, _, error = run(
        capsys, "train", "--corpus", corpus_path, "--out", tmp_path / "m", "--store", tmp_path / "s"
    )
    assert status == 2
    assert "it holds 'predictions', too" in error
    assert (tmp_path / "m" / "predictions").is_dir()


def test_a_label_that_a_fold_lacks_is_refused_before_training(
    corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus_path, tmp_path / "c")
    train = [session.session_id for session in read_corpus(corpus_path).partition("train")]
    for name in train[1:]:
        _set_labels(tmp_path / "c" / "label_segments" / "valence" / f"{name}.csv", "nan")
    status, _, error = run(
        capsys,
        "train",
        "--corpus",
        tmp_path / "c",
        "--out",
        tmp_path / "m",
        "--store",
        tmp_path / "s",
    )
    assert status == 2
    assert "'valence' has no label in every training frame of fold" in error
    assert not (tmp_path / "s").exists()


def test_predictions_from_raw_files_and_from_raw_arrays_agree(
    trained: Path, corpus_path: Path
) -> None:
    model = affectune.load(trained)
    corpus = read_corpus(corpus_path, modalities=["voice", "face"])
    zero_rows = 0
    for session in (*corpus.partition("devel"), *corpus.partition("train")[:4]):
        raw = {}
        for modality in model.modalities:
            table = pd.read_csv(
                corpus_path / "feature_segments" / modality / f"{session.session_id}.csv"
            )
            near = np.abs(table["timestamp"].to_numpy()[None] - session.timestamps_ms[:, None])
            values = table.iloc[:, 2:].to_numpy(dtype=np.float32)[near.argmin(axis=1)]
            raw[modality] = np.where((near.min(axis=1) <= 250)[:, None], values, np.nan)
            zero_rows += int((values == 0).all(axis=1).sum())
        alone, read = (
            model.predict(raw, timestamps_ms=session.timestamps_ms),
            model.predict_sessions([session])[0],
        )
        for modality in model.modalities:
            np.testing.assert_array_equal(
                np.isnan(alone.difficulty[modality].error),
                np.isnan(read.difficulty[modality].error),
            )
        np.testing.assert_allclose(alone.values["arousal"], read.values["arousal"], atol=1e-5)
    assert zero_rows  # frames without a face or speech were among them
