"""Mistakes in a corpus are errors that name the session, file and line, and how to mend them."""

from __future__ import annotations

import os
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


def error_message(
    path: Path, modalities: list[str] | None = None, targets: list[str] | None = None
) -> str:
    """Read a corpus that has a mistake, and return the error's message; nothing may be written."""
    before = sorted(path.rglob("*"))
    with pytest.raises(InputError) as caught:
        read_corpus(path, modalities=modalities, targets=targets)
    message = str(caught.value)

    assert message.endswith(".")
    assert sorted(path.rglob("*")) == before
    return message


def test_a_folder_without_a_corpus_is_an_input_error(tmp_path: Path) -> None:
    assert "Check the path" in error_message(tmp_path / "nowhere")
    assert "feature_segments/<set>/<session>.csv" in error_message(tmp_path)


def test_a_folder_with_two_corpora_is_an_input_error(tmp_path: Path) -> None:
    write_corpus(tmp_path / "one")
    write_corpus(tmp_path / "two")

    assert "'one', 'two'. Name one of them." in error_message(tmp_path)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "lists no session"),
        (["Id,Proposal"], "lists no session"),
        (
            ["Id,Proposal", "1,train", "2,dev"],
            "session '2' into 'dev' (did you mean 'devel'?). The partitions are train, devel, test",
        ),
        (
            ["Id,Proposal", "1,train", "2,devel", "1,devel"],
            "lines 2 and 4: session '1' has two partitions, 'train' and 'devel'",
        ),
        (["Id,Proposal", "1,train", "5,devel"], "session '5' has no file in 'face', 'voice'"),
    ],
)
def test_mistakes_in_the_partition_file_are_input_errors(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "metadata/partition.csv", *lines)
    message = error_message(root)

    assert expected in message
    assert "metadata/partition.csv" in message


def test_a_missing_partition_file_is_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "metadata/partition.csv").unlink()

    assert "has no metadata/partition.csv. Write one" in error_message(root)


def test_a_subject_in_two_partitions_is_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(
        root / "metadata/participants.csv",
        "session,participant",
        "1,Ann",
        "2,Bob",
        "a-3,Ann",
        "4,Cy",
    )
    message = error_message(root)

    assert "subject 'Ann' is in devel and train" in message
    assert "metadata/participants.csv" in message


@pytest.mark.parametrize("line", ["1,Bob", "1", "1,"])
def test_mistakes_in_the_participants_file_are_input_errors(tmp_path: Path, line: str) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "metadata/participants.csv", "session,participant", "1,Ann", line)

    assert "metadata/participants.csv" in error_message(root)


def test_unknown_sets_and_targets_are_input_errors(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)

    assert "there is no feature set 'gaze'" in error_message(root, modalities=["voice", "gaze"])
    assert "has face, voice: name one of these" in error_message(root, modalities=["gaze"])
    assert "there is no target 'stress'" in error_message(root, targets=["stress"])
    assert "No feature set to read" in error_message(root, modalities=[])


def test_a_set_without_files_of_listed_sessions_is_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/gaze").mkdir()
    assert "feature_segments/gaze has no CSV files" in error_message(root)

    write_features(root, "gaze", "77", feature_values("77", 2))
    assert "has no file of any session in metadata/partition.csv" in error_message(root)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1500,1,1,1,2,1", "line 5: 6 cells, but the header has 5"),
        ("1500,1,abc,1,2", "line 5, column '0': 'abc' is no number"),
        ("soon,1,1,1,2", "line 5, column 'timestamp': 'soon' is no number"),
        (",1,1,1,2", "line 5, column 'timestamp': no timestamp"),
        ("1e300,1,1,1,2", "line 5, column 'timestamp': no timestamp in ms"),
        ("1000,1,1,1,2", "lines 4 and 5, column 'timestamp': they have the timestamp 1000 twice"),
        (
            "500,1,1,1,2",
            "lines 4 and 5, column 'timestamp': they go back from timestamp 1000 to 500",
        ),
    ],
)
def test_a_mistake_in_a_row_of_features_is_an_input_error(
    tmp_path: Path, row: str, expected: str
) -> None:
    root = write_corpus(tmp_path)
    path = root / "feature_segments/voice/2.csv"
    lines = path.read_text().splitlines()
    write_text(path, *lines[:4], row, *lines[5:])
    message = error_message(root)

    assert expected in message
    assert message.startswith("feature_segments/voice/2.csv")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "is empty"),
        (["timestamp,segment_id,0,1,2"], "has a header and no rows"),
        (["time,segment_id,0", "0,1,1", "500,1,1"], "has no column 'timestamp'"),
        (["timestamp,0,1", "0,1,1", "500,1,1"], "has neither 'segment_id' nor 'subject_id'"),
        (["timestamp;segment_id;0", "0;1;1", "500;1;1"], "is separated by semicolons. Convert"),
        ([",timestamp,segment_id,", "0,0,1,1", "1,500,1,1"], "column 4 has no name"),
        (["timestamp,segment_id,0,1,2,", "0,1,1,1,1,", "500,1,1,1,1,7"], "column 6 has no name"),
        (["timestamp,segment_id", "0,1", "500,1"], "has no feature"),
    ],
)
def test_a_feature_file_of_another_form_is_an_input_error(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/voice/2.csv").write_text("".join(f"{line}\n" for line in lines))
    message = error_message(root)

    assert expected in message
    assert message.startswith("feature_segments/voice/2.csv")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["timestamp,segment_id", "0,1", "500,1"], "has no column 'value'"),
        (["timestamp,value", "0,high", "500,1"], "line 2, column 'value': 'high' is no number"),
        (["timestamp,value", "0,inf", "500,1"], "line 2, column 'value': the label is infinite"),
        (["timestamp,value"], "has a header and no rows"),
    ],
)
def test_mistakes_in_a_label_file_are_input_errors(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "label_segments/valence/2.csv", *lines)
    message = error_message(root)

    assert expected in message
    assert "label_segments/valence/2.csv" in message


def test_a_file_that_is_no_text_is_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    content = "timestamp,segment_id,0\n0,1,2\n".encode("utf-16")
    (root / "feature_segments/voice/2.csv").write_bytes(content)

    assert "is not a UTF-8 text file" in error_message(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/voice/2.csv").chmod(0)

    assert "cannot be read" in error_message(root)


def test_files_of_a_set_with_different_widths_are_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "2", feature_values("2", 4))
    expected = "feature_segments/voice/2.csv has 4 feature columns, most files of its set have 3"

    assert expected in error_message(root)


def test_too_many_imputed_cells_are_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("2", 3)
    values[:, 0] = np.nan
    write_features(root, "voice", "2", values)

    expected = "session '2': 33% of the cells of 'voice' are NaN or infinite, at most 20% may be"
    assert expected in error_message(root)
    assert read_corpus(root, max_imputed_share=0.4).session("2").present["voice"].all()


def test_features_at_other_times_than_the_labels_are_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "2", feature_values("2", 3), start_ms=3_600_000)
    message = error_message(root)

    assert "session '2': no row of 'voice' is within 250 ms of a frame" in message
    assert "--tolerance-ms" in message


def test_a_session_of_one_frame_is_an_input_error(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    for target in ("arousal", "valence"):
        write_labels(root, target, "2", np.array([0.5]))

    assert "session '2' has a single frame" in error_message(root)


@pytest.mark.parametrize("tolerance_ms", [-1, float("nan"), float("inf")])
def test_a_tolerance_below_0_or_without_end_is_an_input_error(
    tmp_path: Path, tolerance_ms: float
) -> None:
    with pytest.raises(InputError, match="It must be 0 or more"):
        read_corpus(write_corpus(tmp_path), tolerance_ms=tolerance_ms)


def test_mistakes_in_many_files_are_one_error(tmp_path: Path) -> None:
    partitions = {str(number): "train" for number in range(9)}
    root = write_corpus(tmp_path, partitions=partitions)
    for session in partitions:
        write_text(root / "feature_segments/voice" / f"{session}.csv", "timestamp,segment_id,0")
    message = error_message(root)

    assert [f"voice/{number}.csv" in message for number in range(9)] == [True] * 4 + [False] * 5
    assert "5 more" in message
