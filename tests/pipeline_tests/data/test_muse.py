"""Reading the MuSe layouts: their traps change nothing, or are told."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus, Finding
from pipeline.data.muse import read_corpus
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    SETS,
    TARGETS,
    feature_values,
    label_values,
    write_corpus,
    write_features,
    write_labels,
    write_text,
)


def found(corpus: Corpus, kind: str) -> list[Finding]:
    return [finding for finding in corpus.findings if finding.kind == kind]


def assert_same_sessions(one: Corpus, other: Corpus) -> None:
    assert [session.session_id for session in one.sessions] == [
        session.session_id for session in other.sessions
    ]
    for left, right in zip(one.sessions, other.sessions, strict=True):
        assert (left.subject, left.partition) == (right.subject, right.partition)
        for field in ("features", "present", "labels"):
            pairs = zip(getattr(left, field).values(), getattr(right, field).values(), strict=True)
            assert all(np.array_equal(a, b, equal_nan=field == "labels") for a, b in pairs)
        assert np.array_equal(left.timestamps_ms, right.timestamps_ms)
        assert np.array_equal(left.segment_ids, right.segment_ids)


def test_a_clean_corpus_reads_as_it_was_written(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path / "c3_muse_stress"))
    assert corpus.name == "c3_muse_stress"
    assert corpus.modalities == ("face", "voice")
    assert corpus.targets == ("arousal", "valence")
    assert corpus.columns == {"face": ("0", "1"), "voice": ("0", "1", "2")}
    assert corpus.frame_period_ms == 500
    assert {session.session_id: session.partition for session in corpus.sessions} == PARTITIONS
    session = corpus.session("a-3")
    assert session.subject == "a-3"
    assert np.array_equal(session.timestamps_ms, np.arange(10) * 500)
    assert list(session.segment_ids) == ["1"] * 10
    for name, width in SETS.items():
        assert session.features[name].dtype == np.float32
        assert np.array_equal(
            session.features[name], feature_values("a-3", width).astype(np.float32)
        )
        assert session.present[name].all()
    for target in TARGETS:
        assert np.array_equal(session.labels[target], label_values("a-3", target))
    assert np.isnan(corpus.session("4").labels["arousal"]).all()
    assert {finding.kind for finding in corpus.findings} == {"labels withheld"}


def test_2022_and_2023_names_read_to_the_same_arrays(tmp_path: Path) -> None:
    clean = read_corpus(write_corpus(tmp_path / "c3_muse_stress"))
    root = tmp_path / "c3_muse_stress_2022"
    write_corpus(root, targets=("physio-arousal", "valence"), segment="subject_id")
    for session, home in PARTITIONS.items():
        if home != "test":
            arousal = label_values(session, "arousal")
            write_labels(
                root,
                "physio-arousal",
                session,
                arousal,
                segment="subject_id",
                order=("timestamp", "value", "segment"),
            )
    later = read_corpus(root)
    assert later.targets == ("physio-arousal", "valence")
    assert_same_sessions(clean, later)


def test_traps_of_2021_read_to_the_same_arrays_as_a_clean_corpus(tmp_path: Path) -> None:
    clean = read_corpus(write_corpus(tmp_path / "clean"))
    root = write_corpus(tmp_path / "traps")
    write_features(root, "voice", "2", feature_values("2", 3), header=["1", "2", "3"])
    crlf = (root / "feature_segments/voice/1.csv").read_bytes().replace(b"\n", b"\r\n")
    (root / "feature_segments/voice/1.csv").write_bytes(b"\xef\xbb\xbf" + crlf)
    (root / "feature_segments/face/face").mkdir()
    for file in (root / "feature_segments/face").glob("*.csv"):
        file.rename(file.parent / "face" / file.name)
    for session in ("1", "2"):
        write_labels(
            root,
            "arousal",
            session,
            label_values(session, "arousal"),
            order=("value", "segment", "timestamp"),
        )
    for target in TARGETS:
        write_labels(root, target, "4", np.full(10, np.nan))
    lines = [f" {name} , {home}" for name, home in reversed(PARTITIONS.items())]
    write_text(root / "metadata/partition.csv", "\ufeffanything,at all", *lines, "")
    (root / "metadata/partition.csv").write_bytes(
        (root / "metadata/partition.csv").read_bytes().replace(b"\n", b"\r\n")
    )
    write_text(root / "feature_segments/voice/._1.csv", "a file that a Mac left")
    write_text(root / "feature_segments/__MACOSX/1.csv", "another")
    traps = read_corpus(root)
    assert_same_sessions(clean, traps)
    assert traps.columns == clean.columns
    assert [(finding.where, finding.count) for finding in found(traps, "other headers")] == [
        ("voice", 1)
    ]


def test_a_partition_file_may_lack_its_header(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(
        root / "metadata/partition.csv", *(f"{name},{home}" for name, home in PARTITIONS.items())
    )
    assert len(read_corpus(root).sessions) == len(PARTITIONS)


def test_parts_of_a_2023_test_subject_stay_out_of_training_and_keep_their_labels(
    tmp_path: Path,
) -> None:
    parts = {"16_train": "train", "16_devel": "devel", "16_test": "test"}
    root = write_corpus(tmp_path, partitions={"1": "train", "2": "devel", **parts})
    corpus = read_corpus(root)
    assert {session.session_id for session in corpus.partition("test")} == set(parts)
    assert {session.subject for session in corpus.partition("test")} == {"16"}
    assert np.isfinite(corpus.session("16_train").labels["arousal"]).all()
    (finding,) = found(corpus, "personalisation parts")
    assert (finding.level, finding.count) == ("warning", 2)
    assert "16_train" in finding.message
    write_text(
        root / "metadata/participants.csv",
        "session,participant",
        *(f"{part},Ann" for part in parts),
        "1,1",
        "2,2",
    )
    assert {session.subject for session in read_corpus(root).partition("test")} == {"Ann"}


def test_names_that_only_mention_a_partition_are_no_parts_of_a_subject(tmp_path: Path) -> None:
    partitions = {
        "rec_train_1": "train",
        "rec_train_2": "train",
        "rec_devel_1": "devel",
        "rec_test_1": "test",
    }
    corpus = read_corpus(write_corpus(tmp_path, partitions=partitions))
    assert {session.session_id: session.partition for session in corpus.sessions} == partitions
    assert {session.subject for session in corpus.sessions} == set(partitions)


def test_a_corpus_is_found_in_the_folder_that_holds_it(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c3_muse_stress")
    (tmp_path / "c1_muse_wilder").mkdir()
    assert read_corpus(tmp_path).name == "c3_muse_stress"


def test_subjects_come_from_the_participants_file(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(
        root / "metadata/participants.csv",
        "video,participant,session",
        "v,Ann,1",
        "w,Ann,2",
        "v,Bob,a-3",
    )
    corpus = read_corpus(root)
    assert [session.subject for session in corpus.sessions] == ["Ann", "Ann", "4", "Bob"]
    assert "'4'" in found(corpus, "unknown participant")[0].message
    write_text(root / "metadata/participants.csv", "what,who", "1,Ann", "2,Ann", "a-3,Bob", "4,Cy")
    assert [session.subject for session in read_corpus(root).sessions] == [
        "Ann",
        "Ann",
        "Cy",
        "Bob",
    ]


def test_a_set_that_starts_later_and_ends_earlier_is_joined_on_time(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "1", feature_values("1", 3)[1:8], start_ms=500)
    corpus = read_corpus(root)
    session = corpus.session("1")
    assert list(session.present["voice"]) == [False] + [True] * 7 + [False] * 2
    assert np.array_equal(
        session.features["voice"][1:8], feature_values("1", 3)[1:8].astype(np.float32)
    )
    assert not session.features["voice"][[0, 8, 9]].any()
    (finding,) = found(corpus, "frames without a row")
    assert (finding.session_id, finding.where, finding.count, finding.total) == (
        "1",
        "voice",
        3,
        10,
    )


def test_rows_that_no_frame_takes_are_told(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "1", feature_values("1", 3, num_frames=14))
    (finding,) = found(read_corpus(root), "rows not used")
    assert (finding.session_id, finding.where, finding.count, finding.total) == (
        "1",
        "voice",
        4,
        14,
    )


def test_frames_are_the_union_of_the_label_rows_of_all_targets(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_labels(root, "valence", "1", label_values("1", "valence", 11), start_ms=500)
    corpus = read_corpus(root)
    session = corpus.session("1")
    assert np.array_equal(session.timestamps_ms, np.arange(12) * 500)
    assert np.array_equal(np.isnan(session.labels["arousal"]), [False] * 10 + [True] * 2)
    assert np.array_equal(np.isnan(session.labels["valence"]), [True] + [False] * 11)
    assert [finding.count for finding in found(corpus, "labels unknown")] == [2, 1]


def test_targets_labelled_at_different_times_are_warned_about(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_labels(root, "valence", "1", label_values("1", "valence"), start_ms=250)
    assert {
        (f.where, f.level, f.count, f.total) for f in found(read_corpus(root), "labels unknown")
    } == {
        ("arousal", "warning", 10, 20),
        ("valence", "warning", 10, 20),
    }


def test_a_session_without_labels_has_frames_where_its_sets_have_rows(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "4", feature_values("4", 3), start_ms=500)
    session = read_corpus(root).session("4")
    assert np.array_equal(session.timestamps_ms, np.arange(11) * 500)
    assert list(session.present["voice"]) == [False] + [True] * 10
    assert list(session.present["face"]) == [True] * 10 + [False]


def test_a_fast_set_does_not_multiply_the_frames_of_a_session_without_labels(
    tmp_path: Path,
) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "4", feature_values("4", 3, num_frames=46), step_ms=100)
    assert np.array_equal(read_corpus(root).session("4").timestamps_ms, np.arange(10) * 500)


def test_a_row_of_zeros_is_missing_and_not_easy(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    values[2:5] = 0
    values[7, :2] = 0
    write_features(root, "voice", "1", values)
    corpus = read_corpus(root)
    assert list(np.flatnonzero(~corpus.session("1").present["voice"])) == [2, 3, 4]
    (finding,) = found(corpus, "zero rows")
    assert (finding.level, finding.count, finding.total) == ("note", 3, 10)


def test_a_zero_in_a_set_of_one_column_is_a_measurement(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, sets={"resp": 1})
    values = feature_values("1", 1)
    values[4] = 0
    write_features(root, "resp", "1", values)
    assert read_corpus(root).session("1").present["resp"].all()


def test_single_gaps_are_interpolated_in_time_and_counted(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    expected = values.copy()
    values[3, 0] = values[0, 1] = np.nan
    expected[0, 1] = expected[1, 1]
    path = write_features(root, "voice", "1", values)
    path.write_text(path.read_text().replace(f"{values[6, 2]:.9g}", "inf"))
    corpus = read_corpus(root)
    session = corpus.session("1")
    assert np.array_equal(session.features["voice"], expected.astype(np.float32))
    assert session.present["voice"].all()
    (finding,) = found(corpus, "cells imputed")
    assert (finding.level, finding.where, finding.count, finding.total) == (
        "warning",
        "voice",
        3,
        30,
    )


def test_gaps_are_not_filled_from_rows_of_zeros(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    values[4] = 0
    values[5, 0] = np.nan
    write_features(root, "voice", "1", values)
    filled = read_corpus(root).session("1").features["voice"][5, 0]
    assert filled == pytest.approx((2 * values[6, 0] + values[3, 0]) / 3)


def test_a_row_without_a_number_is_missing(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    values[3:5] = np.nan
    write_features(root, "voice", "1", values)
    corpus = read_corpus(root)
    assert list(np.flatnonzero(~corpus.session("1").present["voice"])) == [3, 4]
    assert np.isfinite(corpus.session("1").features["voice"]).all()
    assert [finding.count for finding in found(corpus, "empty rows")] == [2]


def test_a_session_without_a_file_in_one_set_has_it_missing_throughout(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/face/2.csv").unlink()
    corpus = read_corpus(root)
    session = corpus.session("2")
    assert not session.present["face"].any()
    assert session.features["face"].shape == (10, 2)
    (finding,) = found(corpus, "no file")
    assert (finding.level, finding.session_id, finding.where) == ("warning", "2", "face")


def test_constant_columns_are_told_and_zero_rows_do_not_hide_them(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    for session in PARTITIONS:
        values = feature_values(session, 3)
        values[:, 1] = 7
        values[0] = 0
        write_features(root, "voice", session, values)
    (finding,) = found(read_corpus(root), "constant columns")
    assert (finding.where, finding.count, finding.total) == ("voice", 1, 3)
    assert "'1'" in finding.message


def test_odd_labels_are_warned_about(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_labels(root, "arousal", "1", np.full(10, 0.25))
    write_labels(root, "arousal", "2", label_values("2", "arousal") + 50)
    write_labels(root, "valence", "a-3", np.full(10, np.nan))
    corpus = read_corpus(root)
    about = {(f.kind, f.where, f.session_id) for f in corpus.findings if f.level == "warning"}
    assert about == {
        ("constant labels", "arousal", "1"),
        ("label scale", "arousal", "2"),
        ("no labels", "valence", "a-3"),
    }


def test_files_of_unlisted_sessions_are_left_alone_and_told(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "feature_segments/voice/99.csv", "not,even,a,table")
    (finding,) = found(read_corpus(root), "unlisted files")
    assert (finding.where, finding.count) == ("feature_segments/voice", 1)
    assert "'99'" in finding.message


def test_sets_and_targets_come_in_the_order_asked_for(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path), modalities=["voice", "face"], targets=["valence"])
    assert corpus.modalities == ("voice", "face")
    assert corpus.targets == ("valence",)
    assert list(corpus.sessions[0].features) == ["voice", "face"]
    assert list(corpus.sessions[0].labels) == ["valence"]


def test_a_corpus_without_labels_can_be_read(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path, targets=()))
    assert corpus.targets == ()
    assert corpus.frame_period_ms == 500


def test_arrays_cannot_be_written(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    for _ in range(2):  # parsed, then from the cache
        for session in read_corpus(root).sessions:
            arrays = [
                *session.features.values(),
                *session.present.values(),
                *session.labels.values(),
            ]
            assert not any(
                array.flags.writeable
                for array in [*arrays, session.timestamps_ms, session.segment_ids]
            )


def test_the_digest_is_of_what_was_read_and_not_of_where(tmp_path: Path) -> None:
    digest = read_corpus(write_corpus(tmp_path / "here")).digest
    other = write_corpus(tmp_path / "there")
    assert read_corpus(other).digest == digest
    assert read_corpus(other, tolerance_ms=250).digest == digest
    assert read_corpus(other, tolerance_ms=100).digest != digest
    only_voice = read_corpus(other, modalities=["voice"]).digest
    assert only_voice != digest
    write_features(other, "face", "1", feature_values("1", 2) + 1)
    assert read_corpus(other, modalities=["voice"]).digest == only_voice
    assert read_corpus(other).digest != digest


def test_the_real_corpus_reads(real_corpus_path: Path) -> None:
    corpus = read_corpus(real_corpus_path)
    assert len(corpus.sessions) == 256
    assert len({session.subject for session in corpus.sessions}) == 32
    assert [len(corpus.partition(name)) for name in ("train", "devel", "test")] == [160, 48, 48]
    assert {name: len(columns) for name, columns in corpus.columns.items()} == {
        "gaze": 18, "head": 17, "physio": 25, "pupil": 14, "video": 8
    }  # fmt: skip
    assert all(session.num_frames == 120 for session in corpus.sessions)
    assert not [finding for finding in corpus.findings if finding.level == "error"]


def test_a_real_session_holds_the_numbers_in_its_files(real_corpus_path: Path) -> None:
    session = read_corpus(real_corpus_path, modalities=["pupil"], targets=["valence"]).session(
        "P05_V3"
    )
    with (real_corpus_path / "feature_segments/pupil/P05_V3.csv").open(newline="") as file:
        rows = [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]
    assert np.array_equal(session.features["pupil"], np.array(rows)[:, 2:].astype(np.float32))
    assert np.array_equal(session.timestamps_ms, np.array(rows)[:, 0])
    with (real_corpus_path / "label_segments/valence/P05_V3.csv").open(newline="") as file:
        labels = [float(row["value"]) for row in csv.DictReader(file)]
    assert np.array_equal(session.labels["valence"], labels)
