"""What is wrong with a corpus is said before anything is done: which session, which file, which line, and the mend."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.muse import read_corpus
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import (
    feature_values,
    write_corpus,
    write_features,
    write_labels,
    write_text,
)


def refusal(
    path: Path, modalities: list[str] | None = None, targets: list[str] | None = None
) -> str:
    """The message of the refusal; nothing may have been written."""
    before = sorted(path.rglob("*"))
    with pytest.raises(InputError) as caught:
        read_corpus(path, modalities=modalities, targets=targets)
    assert sorted(path.rglob("*")) == before
    message = str(caught.value)
    assert message.endswith(".")
    return message


def test_a_folder_that_is_no_corpus(tmp_path: Path) -> None:
    assert "Check the path" in refusal(tmp_path / "nowhere")
    assert "feature_segments/<set>/<session>.csv" in refusal(tmp_path)
    write_corpus(tmp_path / "one")
    write_corpus(tmp_path / "two")
    assert "'one', 'two'. Name one of them." in refusal(tmp_path)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "lists no session"),
        (["Id,Proposal"], "lists no session"),
        (
            ["Id,Proposal", "1,train", "2,dev"],
            "session '2' into 'dev'. The partitions are train, devel, test",
        ),
        (["Id,Proposal", "1,train", "2,devel", "1,train"], "lists session '1' 2 times"),
        (["Id,Proposal", "1,train", "5,devel"], "session '5' has no file in 'face', 'voice'"),
    ],
)
def test_partition_files_that_do_not_fit(tmp_path: Path, lines: list[str], expected: str) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "metadata/partition.csv", *lines)
    message = refusal(root)
    assert expected in message
    assert "metadata/partition.csv" in message


def test_no_partition_file(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "metadata/partition.csv").unlink()
    assert "has no metadata/partition.csv. Write one" in refusal(root)


def test_a_subject_in_two_partitions(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(
        root / "metadata/participants.csv",
        "session,participant",
        "1,Ann",
        "2,Bob",
        "a-3,Ann",
        "4,Cy",
    )
    message = refusal(root)
    assert "subject 'Ann' is in devel and train" in message
    assert "metadata/participants.csv" in message


@pytest.mark.parametrize("line", ["1,Bob", "1", "1,"])
def test_participants_that_do_not_fit(tmp_path: Path, line: str) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "metadata/participants.csv", "session,participant", "1,Ann", line)
    assert "metadata/participants.csv" in refusal(root)


def test_sets_and_targets_that_are_not_there(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    assert "there is no feature set 'gaze'" in refusal(root, modalities=["voice", "gaze"])
    assert "has face, voice: name one of these" in refusal(root, modalities=["gaze"])
    assert "there is no target 'stress'" in refusal(root, targets=["stress"])
    assert "No feature set to read" in refusal(root, modalities=[])
    (root / "feature_segments/gaze").mkdir()
    assert "feature_segments/gaze has no CSV files" in refusal(root)
    write_features(root, "gaze", "77", feature_values("77", 2))
    assert "has no file of any session in metadata/partition.csv" in refusal(root)


Spoil = Callable[[list[str]], list[str]]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda lines: [], "is empty"),
        (lambda lines: lines[:1], "has a header and no rows"),
        (
            lambda lines: [*lines[:4], lines[4] + ",1", *lines[5:]],
            "line 5: 6 cells, but the header has 5",
        ),
        (
            lambda lines: [*lines[:4], "1500,1,abc,1,2", *lines[5:]],
            "line 5, column '0': 'abc' is no number",
        ),
        (
            lambda lines: [*lines[:4], "soon,1,1,1,2", *lines[5:]],
            "line 5, column 'timestamp': 'soon' is no number",
        ),
        (lambda lines: [*lines[:4], ",1,1,1,2", *lines[5:]], "row 4 has no timestamp"),
        (
            lambda lines: [*lines[:4], lines[3], *lines[5:]],
            "rows 3 and 4 have the timestamp 1000 twice",
        ),
        (
            lambda lines: [*lines[:4], lines[2], *lines[5:]],
            "rows 3 and 4 go back from timestamp 1000 to 500",
        ),
        (
            lambda lines: [lines[0], "0,1,1,1,1", "0.25,1,1,1,1", "1,1,1,1,1"],
            "Write ms, not seconds",
        ),
        (lambda lines: ["time" + lines[0][9:], *lines[1:]], "has no column 'timestamp'"),
        (
            lambda lines: [
                line.replace(",1,", ",", 1).replace("segment_id,", "") for line in lines
            ],
            "segment_id",
        ),
        (lambda lines: [*lines[:4], "1e300,1,1,1,2", *lines[5:]], "row 4 has no timestamp in ms"),
        (lambda lines: [line.replace(",", ";") for line in lines], "has no comma"),
        (
            lambda lines: [
                "," + lines[0],
                *(f"{row},{line}" for row, line in enumerate(lines[1:])),
            ],
            "column 1 has no name",
        ),
        (lambda lines: [line + "," for line in lines], "column 6 has no name"),
        (lambda lines: [",".join(line.split(",")[:2]) for line in lines], "has no feature"),
    ],
)
def test_feature_files_that_do_not_fit(tmp_path: Path, spoil: Spoil, expected: str) -> None:
    root = write_corpus(tmp_path)
    path = root / "feature_segments/voice/2.csv"
    lines = spoil(path.read_text().splitlines())
    path.write_text("".join(line + "\n" for line in lines))
    message = refusal(root)
    assert expected in message
    assert message.startswith("feature_segments/voice/2.csv")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["timestamp,segment_id", "0,1", "500,1"], "has no column 'value'"),
        (["timestamp,value", "0,high", "500,1"], "line 2, column 'value': 'high' is no number"),
        (["timestamp,value", "0,inf", "500,1"], "the label of row 1 is infinite"),
        (["timestamp,value"], "has a header and no rows"),
    ],
)
def test_label_files_that_do_not_fit(tmp_path: Path, lines: list[str], expected: str) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "label_segments/valence/2.csv", *lines)
    message = refusal(root)
    assert expected in message
    assert "label_segments/valence/2.csv" in message


def test_files_that_are_no_text(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/voice/2.csv").write_bytes(
        "timestamp,segment_id,0\n0,1,2\n".encode("utf-16")
    )
    assert "is not a UTF-8 text file" in refusal(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/voice/2.csv").chmod(0)
    assert "cannot be read" in refusal(root)


def test_files_of_a_set_with_different_columns(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "2", feature_values("2", 4))
    message = refusal(root)
    assert (
        "feature_segments/voice/2.csv has 4 feature columns, most files of its set have 3"
        in message
    )


def test_too_many_cells_without_a_number(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("2", 3)
    values[:, 0] = np.nan
    write_features(root, "voice", "2", values)
    assert (
        "session '2': 33% of the cells of 'voice' are NaN or infinite, at most 20% may be"
        in refusal(root)
    )
    assert read_corpus(root, max_imputed_share=0.4).session("2").present["voice"].all()


def test_features_at_another_time_than_the_labels(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "2", feature_values("2", 3), start_ms=3_600_000)
    message = refusal(root)
    assert "session '2': no row of 'voice' is within 250 ms of a frame" in message
    assert "--tolerance-ms" in message


def test_a_session_of_one_frame(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    for target in ("arousal", "valence"):
        write_labels(root, target, "2", np.array([0.5]))
    assert "session '2' has a single frame" in refusal(root)


@pytest.mark.parametrize("tolerance_ms", [-1, float("nan"), float("inf")])
def test_tolerances_that_mean_nothing(tmp_path: Path, tolerance_ms: float) -> None:
    with pytest.raises(InputError, match="It must be 0 or more"):
        read_corpus(write_corpus(tmp_path), tolerance_ms=tolerance_ms)


def test_mistakes_in_many_files_are_told_together(tmp_path: Path) -> None:
    partitions = {str(number): "train" for number in range(9)}
    root = write_corpus(tmp_path, partitions=partitions)
    for session in partitions:
        write_text(root / "feature_segments/voice" / f"{session}.csv", "timestamp,segment_id,0")
    message = refusal(root)
    assert [f"voice/{number}.csv" in message for number in range(9)] == [True] * 4 + [False] * 5
    assert "5 more" in message
