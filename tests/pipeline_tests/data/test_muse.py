"""Reading the MuSe layouts: flaws of the files change nothing, or are findings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus, Finding
from pipeline.data.muse import read_corpus
from pipeline.data.records.persons import PERSONS_UNKNOWN
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    SETS,
    TARGETS,
    feature_values,
    label_values,
    write_corpus,
    write_features,
    write_labels,
    write_participants,
    write_text,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def findings_of_kind(corpus: Corpus, kind: str) -> list[Finding]:
    """Return the findings of one kind."""
    return [finding for finding in corpus.findings if finding.kind == kind]


def subjects(corpus: Corpus) -> list[str]:
    """Return the subject of every session."""
    return [session.subject for session in corpus.sessions]


def assert_same_sessions(actual: Corpus, expected: Corpus) -> None:
    """Compare everything but the names of feature sets and targets."""
    for session, other in zip(actual.sessions, expected.sessions, strict=True):
        assert session.session_id == other.session_id
        assert (session.subject, session.partition) == (other.subject, other.partition)
        assert np.array_equal(session.timestamps_ms, other.timestamps_ms)
        assert np.array_equal(session.segment_ids, other.segment_ids)

        for values, other_values in zip(
            session.features.values(), other.features.values(), strict=True
        ):
            assert np.array_equal(values, other_values)
        for present, other_present in zip(
            session.present.values(), other.present.values(), strict=True
        ):
            assert np.array_equal(present, other_present)
        for labels, other_labels in zip(
            session.labels.values(), other.labels.values(), strict=True
        ):
            assert np.array_equal(labels, other_labels, equal_nan=True)


def test_a_clean_corpus_has_the_sets_targets_and_partitions_of_its_files(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path / "c3_muse_stress"))

    assert corpus.name == "c3_muse_stress"
    assert corpus.modalities == ("face", "voice")
    assert corpus.targets == ("arousal", "valence")
    assert corpus.columns == {"face": ("0", "1"), "voice": ("0", "1", "2")}
    assert corpus.frame_period_ms == 500
    assert {session.session_id: session.partition for session in corpus.sessions} == PARTITIONS
    assert {finding.kind for finding in corpus.findings} == {"labels withheld", PERSONS_UNKNOWN}


def test_a_clean_session_has_the_numbers_in_its_files(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path))
    session = corpus.session("a-3")

    assert session.subject == "a-3"
    assert np.array_equal(session.timestamps_ms, np.arange(10) * 500)
    assert list(session.segment_ids) == ["1"] * 10

    for feature_set, width in SETS.items():
        values = session.features[feature_set]
        assert values.dtype == np.float32
        assert np.array_equal(values, feature_values("a-3", width).astype(np.float32))
        assert session.present[feature_set].all()

    for target in TARGETS:
        assert np.array_equal(session.labels[target], label_values("a-3", target))
    assert np.isnan(corpus.session("4").labels["arousal"]).all()


def test_2022_and_2023_names_read_to_the_same_arrays(tmp_path: Path) -> None:
    clean = read_corpus(write_corpus(tmp_path / "c3_muse_stress"))
    root = tmp_path / "c3_muse_stress_2022"
    write_corpus(root, targets=("physio-arousal", "valence"), segment="subject_id")

    for session, partition in PARTITIONS.items():
        if partition != "test":
            write_labels(
                root,
                "physio-arousal",
                session,
                label_values(session, "arousal"),
                segment="subject_id",
                order=("timestamp", "value", "segment"),
            )
    later = read_corpus(root)

    assert later.targets == ("physio-arousal", "valence")
    assert_same_sessions(later, clean)


def write_features_with_flaws_of_2021(root: Path) -> None:
    """Write another header, a byte order mark, CRLF, a nested folder, and files of a Mac."""
    folder = root / "feature_segments"
    write_features(root, "voice", "2", feature_values("2", 3), header=["1", "2", "3"])

    file = folder / "voice/1.csv"
    file.write_bytes(BYTE_ORDER_MARK + file.read_bytes().replace(b"\n", b"\r\n"))

    (folder / "face/face").mkdir()
    for file in (folder / "face").glob("*.csv"):
        file.rename(folder / "face/face" / file.name)

    write_text(folder / "voice/._1.csv", "a file that a Mac left")
    write_text(folder / "__MACOSX/1.csv", "another")


def write_labels_with_flaws_of_2021(root: Path) -> None:
    """Write columns in another order, and unknown labels of a test session."""
    order = ("value", "segment", "timestamp")
    for session in ("1", "2"):
        write_labels(root, "arousal", session, label_values(session, "arousal"), order=order)

    for target in TARGETS:
        write_labels(root, target, "4", np.full(10, np.nan))


def write_partitions_with_flaws_of_2021(path: Path) -> None:
    """Write another header, a byte order mark, CRLF, blanks, and another order."""
    lines = [f" {session} , {partition}" for session, partition in reversed(PARTITIONS.items())]
    write_text(path, "ID,proposal", *lines, "")
    path.write_bytes(BYTE_ORDER_MARK + path.read_bytes().replace(b"\n", b"\r\n"))


def test_flaws_of_2021_read_to_the_same_arrays_as_a_clean_corpus(tmp_path: Path) -> None:
    clean = read_corpus(write_corpus(tmp_path / "clean"))
    root = write_corpus(tmp_path / "flawed")
    write_features_with_flaws_of_2021(root)
    write_labels_with_flaws_of_2021(root)
    write_partitions_with_flaws_of_2021(root / "metadata/partition.csv")
    flawed = read_corpus(root)

    assert_same_sessions(flawed, clean)
    assert flawed.columns == clean.columns
    (finding,) = findings_of_kind(flawed, "other headers")
    assert (finding.where, finding.count) == ("voice", 1)


def test_a_partition_file_may_lack_its_header(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    lines = [f"{session},{partition}" for session, partition in PARTITIONS.items()]
    write_text(root / "metadata/partition.csv", *lines)

    assert len(read_corpus(root).sessions) == len(PARTITIONS)


def test_parts_of_a_2023_test_subject_stay_out_of_training_and_keep_their_labels(
    tmp_path: Path,
) -> None:
    parts = {"16_train": "train", "16_devel": "devel", "16_test": "test"}
    root = write_corpus(tmp_path, partitions={"1": "train", "2": "devel", **parts})
    corpus = read_corpus(root)
    test_sessions = corpus.partition("test")

    assert {session.session_id for session in test_sessions} == set(parts)
    assert {session.subject for session in test_sessions} == {"16"}
    assert np.isfinite(corpus.session("16_train").labels["arousal"]).all()
    (finding,) = findings_of_kind(corpus, "personalisation parts")
    assert (finding.level, finding.count) == ("warning", 2)
    assert "16_train" in finding.message

    participants = [f"{part},Ann" for part in parts]
    write_text(
        root / "metadata/participants.csv", "session,participant", *participants, "1,1", "2,2"
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
    assert set(subjects(corpus)) == set(partitions)


def test_a_corpus_may_be_named_by_the_folder_that_holds_it(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c3_muse_stress")
    (tmp_path / "c1_muse_wilder").mkdir()

    assert read_corpus(tmp_path).name == "c3_muse_stress"


def test_stimuli_come_from_the_sessions_file(tmp_path: Path) -> None:
    """It counts before the participants file, and a test session may have none."""
    root = write_corpus(tmp_path)
    people = [f"{session},{session},no" for session in PARTITIONS]
    write_text(root / "metadata/participants.csv", "session,participant,video", *people)
    lines = ["Stimulus,room,session", "calm,1,1", "wild,2,2", ",1,4"]
    write_text(root / "metadata/sessions.csv", *lines, ",3,a-3")
    with pytest.raises(InputError, match=r"sessions.csv names no stimulus of session 'a-3'"):
        read_corpus(root)

    write_text(root / "metadata/sessions.csv", *lines, "calm,1,a-3")
    corpus = read_corpus(root)
    assert [s.stimulus for s in corpus.sessions] == ["calm", "wild", "", "calm"]


@pytest.mark.parametrize("column", ["stimulus", "video"])
def test_stimuli_may_stand_in_the_participants_file(tmp_path: Path, column: str) -> None:
    """Under either name; a file without such a column names none."""
    root = write_corpus(tmp_path)
    lines = ["1,Ann,a", "2,Ann,b", "a-3,Bob,a", "4,Cy,b"]
    write_text(root / "metadata/sessions.csv", "session,room", "1,1")
    write_text(root / "metadata/participants.csv", f"session,participant,{column}", *lines)
    assert [s.stimulus for s in read_corpus(root).sessions] == ["a", "b", "b", "a"]

    write_text(root / "metadata/participants.csv", "session,participant,age", *lines)
    assert {s.stimulus for s in read_corpus(root).sessions} == {""}


def test_stimuli_that_contradict_or_have_no_session_are_errors(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    lines = ["1,a", "2,b", "a-3,a", "1,c"]
    write_text(root / "metadata/sessions.csv", "session,stimulus", *lines, "4,")
    with pytest.raises(InputError, match="session '1' has two stimuli, 'a' and 'c'"):
        read_corpus(root)

    write_text(root / "metadata/sessions.csv", "name,stimulus", *lines)
    with pytest.raises(InputError, match="names no column of sessions"):
        read_corpus(root)


def test_a_set_that_starts_later_and_ends_earlier_is_aligned_in_time(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    rows = feature_values("1", 3)[1:8]
    write_features(root, "voice", "1", rows, start_ms=500)
    corpus = read_corpus(root)
    session = corpus.session("1")

    assert list(session.present["voice"]) == [False] + [True] * 7 + [False] * 2
    assert np.array_equal(session.features["voice"][1:8], rows.astype(np.float32))
    assert not session.features["voice"][[0, 8, 9]].any()
    (finding,) = findings_of_kind(corpus, "frames without a row")
    assert (finding.session_id, finding.where) == ("1", "voice")
    assert (finding.count, finding.total) == (3, 10)


def test_rows_that_no_frame_takes_are_a_finding(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_features(root, "voice", "1", feature_values("1", 3, num_frames=14))

    (finding,) = findings_of_kind(read_corpus(root), "rows not used")
    assert (finding.session_id, finding.where) == ("1", "voice")
    assert (finding.count, finding.total) == (4, 14)


def test_frames_are_the_union_of_the_label_rows_of_all_targets(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_labels(root, "valence", "1", label_values("1", "valence", 11), start_ms=500)
    corpus = read_corpus(root)
    session = corpus.session("1")

    assert np.array_equal(session.timestamps_ms, np.arange(12) * 500)
    assert np.array_equal(np.isnan(session.labels["arousal"]), [False] * 10 + [True] * 2)
    assert np.array_equal(np.isnan(session.labels["valence"]), [True] + [False] * 11)
    assert [finding.count for finding in findings_of_kind(corpus, "labels unknown")] == [2, 1]


def test_targets_labelled_in_separate_passes_share_their_frames(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_labels(root, "valence", "1", label_values("1", "valence"), start_ms=250)

    corpus = read_corpus(root)
    session = corpus.session("1")

    assert np.array_equal(session.timestamps_ms, np.arange(10) * 500)
    assert np.array_equal(session.labels["valence"], label_values("1", "valence"))
    assert session.rows_of("valence").timestamps.tolist() == [
        str(250 + 500 * row) for row in range(10)
    ]
    assert not findings_of_kind(corpus, "labels unknown")
    (finding,) = findings_of_kind(corpus, "rows moved")
    assert (finding.level, finding.where, finding.count) == ("note", "valence", 10)


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


def test_a_row_of_zeros_is_missing(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    values[2:5] = 0
    values[7, :2] = 0
    write_features(root, "voice", "1", values)
    corpus = read_corpus(root)

    assert list(np.flatnonzero(~corpus.session("1").present["voice"])) == [2, 3, 4]
    (finding,) = findings_of_kind(corpus, "zero rows")
    assert (finding.level, finding.count, finding.total) == ("note", 3, 10)


def test_a_zero_in_a_set_of_one_column_is_a_measurement(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, sets={"resp": 1})
    values = feature_values("1", 1)
    values[4] = 0
    write_features(root, "resp", "1", values)

    assert read_corpus(root).session("1").present["resp"].all()


def test_single_gaps_are_imputed_in_time_and_counted(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    expected = values.copy()
    expected[0, 1] = expected[1, 1]

    values[3, 0] = values[0, 1] = np.nan
    path = write_features(root, "voice", "1", values)
    path.write_text(path.read_text().replace(f"{values[6, 2]:.9g}", "inf"))
    corpus = read_corpus(root)
    session = corpus.session("1")

    assert np.array_equal(session.features["voice"], expected.astype(np.float32))
    assert session.present["voice"].all()
    (finding,) = findings_of_kind(corpus, "cells imputed")
    assert (finding.level, finding.where) == ("warning", "voice")
    assert (finding.count, finding.total) == (3, 30)


def test_gaps_are_not_imputed_from_rows_of_zeros(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    values[4] = 0
    values[5, 0] = np.nan
    write_features(root, "voice", "1", values)
    imputed = read_corpus(root).session("1").features["voice"][5, 0]

    assert imputed == pytest.approx((2 * values[6, 0] + values[3, 0]) / 3)


def test_a_row_without_a_number_is_missing(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    values = feature_values("1", 3)
    values[3:5] = np.nan
    write_features(root, "voice", "1", values)
    corpus = read_corpus(root)

    assert list(np.flatnonzero(~corpus.session("1").present["voice"])) == [3, 4]
    assert np.isfinite(corpus.session("1").features["voice"]).all()
    assert [finding.count for finding in findings_of_kind(corpus, "empty rows")] == [2]


def test_a_feature_set_without_a_file_is_missing_in_all_frames(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    (root / "feature_segments/face/2.csv").unlink()
    corpus = read_corpus(root)
    session = corpus.session("2")

    assert not session.present["face"].any()
    assert session.features["face"].shape == (10, 2)
    (finding,) = findings_of_kind(corpus, "no file")
    assert (finding.level, finding.session_id, finding.where) == ("warning", "2", "face")


def test_constant_columns_are_a_finding_also_beside_rows_of_zeros(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    for session in PARTITIONS:
        values = feature_values(session, 3)
        values[:, 1] = 7
        values[0] = 0
        write_features(root, "voice", session, values)

    (finding,) = findings_of_kind(read_corpus(root), "constant columns")
    assert (finding.where, finding.count, finding.total) == ("voice", 1, 3)
    assert "'1'" in finding.message


def test_odd_labels_are_warnings(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_labels(root, "arousal", "1", np.full(10, 0.25))
    write_labels(root, "arousal", "2", label_values("2", "arousal") + 50)
    write_labels(root, "valence", "a-3", np.full(10, np.nan))
    corpus = read_corpus(root)
    warnings = [finding for finding in corpus.findings if finding.level == "warning"]

    assert {(warning.kind, warning.where, warning.session_id) for warning in warnings} == {
        ("constant labels", "arousal", "1"),
        ("label scale", "arousal", "2"),
        ("no labels", "valence", "a-3"),
        (PERSONS_UNKNOWN, "metadata/participants.csv", ""),
    }


def test_files_of_unlisted_sessions_are_not_read_and_are_a_finding(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_text(root / "feature_segments/voice/99.csv", "not,even,a,table")

    (finding,) = findings_of_kind(read_corpus(root), "unlisted files")
    assert (finding.where, finding.count) == ("feature_segments/voice", 1)
    assert "'99'" in finding.message


def test_sets_and_targets_have_the_order_in_which_they_were_named(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path), modalities=["voice", "face"], targets=["valence"])

    assert corpus.modalities == ("voice", "face")
    assert corpus.targets == ("valence",)
    assert list(corpus.sessions[0].features) == ["voice", "face"]
    assert list(corpus.sessions[0].labels) == ["valence"]


def test_a_corpus_without_labels_can_be_read(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path, targets=()))

    assert corpus.targets == ()
    assert corpus.frame_period_ms == 500


def test_arrays_are_read_only(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    parsed, cached = read_corpus(root), read_corpus(root)

    for session in (*parsed.sessions, *cached.sessions):
        arrays = [
            session.timestamps_ms,
            session.segment_ids,
            *session.features.values(),
            *session.present.values(),
            *session.labels.values(),
        ]
        assert not any(array.flags.writeable for array in arrays)


def test_the_digest_depends_on_contents_and_settings_but_not_on_the_path(tmp_path: Path) -> None:
    digest = read_corpus(write_corpus(tmp_path / "here")).digest
    other = write_corpus(tmp_path / "there")

    assert read_corpus(other).digest == digest
    assert read_corpus(other, tolerance_ms=250).digest == digest
    assert read_corpus(other, tolerance_ms=100).digest != digest

    digest_of_voice = read_corpus(other, modalities=["voice"]).digest
    assert digest_of_voice != digest

    write_features(other, "face", "1", feature_values("1", 2) + 1)
    assert read_corpus(other, modalities=["voice"]).digest == digest_of_voice
    assert read_corpus(other).digest != digest


@pytest.mark.slow
def test_the_real_corpus_can_be_read(real_corpus_path: Path) -> None:
    corpus = read_corpus(real_corpus_path)

    assert len(corpus.sessions) == 256
    assert len({session.subject for session in corpus.sessions}) == 32
    assert [len(corpus.partition(name)) for name in ("train", "devel", "test")] == [160, 48, 48]
    assert {name: len(columns) for name, columns in corpus.columns.items()} == {
        "gaze": 18,
        "head": 17,
        "physio": 25,
        "pupil": 14,
        "video": 8,
    }
    assert all(session.num_frames == 120 for session in corpus.sessions)
    assert not [finding for finding in corpus.findings if finding.level == "error"]


def test_a_real_session_holds_the_numbers_in_its_files(real_corpus_path: Path) -> None:
    corpus = read_corpus(real_corpus_path, modalities=["pupil"], targets=["valence"])
    session = corpus.session("P05_V3")

    with (real_corpus_path / "feature_segments/pupil/P05_V3.csv").open(newline="") as file:
        rows = np.array(list(csv.reader(file))[1:], np.float64)
    assert np.array_equal(session.timestamps_ms, rows[:, 0])
    assert np.array_equal(session.features["pupil"], rows[:, 2:].astype(np.float32))

    with (real_corpus_path / "label_segments/valence/P05_V3.csv").open(newline="") as file:
        labels = [float(row["value"]) for row in csv.DictReader(file)]
    assert np.array_equal(session.labels["valence"], labels)


LONG = 30
"""Frames of a session in which a sensor can be stuck for more than 5 s."""


def write_long_corpus(root: Path) -> Path:
    """Write a corpus of sessions of 15 s in which nothing is stuck."""
    write_corpus(root)
    for session in ("1", "2", "a-3", "4"):
        for feature_set, width in {"voice": 3, "face": 2}.items():
            write_features(root, feature_set, session, feature_values(session, width, LONG))
        for target in ("arousal", "valence") if session != "4" else ():
            write_labels(root, target, session, label_values(session, target, LONG))
    return root


def freeze(root: Path, session: str, frames: slice) -> None:
    """Let a session's voice stay the same for some frames."""
    voice = feature_values(session, 3, LONG)
    voice[frames] = voice[frames][0]
    write_features(root, "voice", session, voice)


def test_rows_of_a_stuck_sensor_are_missing_with_a_warning(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    write_participants(root)
    freeze(root, "a-3", slice(12, 28))
    corpus = read_corpus(root)

    assert corpus.max_held_frames == {"voice": 10, "face": 10}
    session = corpus.session("a-3")
    assert session.present["voice"].tolist() == [True] * 13 + [False] * 15 + [True] * 2
    assert session.present["face"].all()
    assert not session.features["voice"][13:28].any()
    assert not session.features["voice"].flags.writeable
    assert not session.present["voice"].flags.writeable

    warnings = [finding for finding in corpus.findings if finding.level == "warning"]
    (finding,) = warnings
    assert (finding.kind, finding.where, finding.session_id) == ("stuck rows", "voice", "a-3")
    assert (finding.count, finding.total) == (15, LONG)
    assert "longer than 5 s" in finding.message


def test_a_model_can_have_the_sessions_with_the_rows_of_stuck_sensors(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    freeze(root, "a-3", slice(0, LONG))
    corpus = read_corpus(root, mark_stuck_rows=False)

    assert corpus.session("a-3").present["voice"].all()
    assert corpus.max_held_frames == {}
    assert not [finding for finding in corpus.findings if "stuck" in finding.kind]
    assert corpus.digest != read_corpus(root).digest


def test_what_is_usual_in_training_is_not_stuck_and_noted(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    for session in ("1", "2", "a-3", "4"):
        freeze(root, session, slice(3, 15))
        write_features(root, "face", session, np.full((LONG, 2), 7.0))
    corpus = read_corpus(root)

    assert corpus.max_held_frames == {"voice": 24}
    assert all(session.present["voice"].all() for session in corpus.sessions)
    assert all(session.present["face"].all() for session in corpus.sessions)
    notes = {f.where: f.message for f in corpus.findings if f.kind == "rows held"}
    assert set(notes) == {"voice", "face"}
    assert "only after 12 s" in notes["voice"]
    assert "never stuck" in notes["face"]


def test_a_stuck_sensor_of_a_training_subject_is_found_though_it_was_trained_on(
    tmp_path: Path,
) -> None:
    root = write_long_corpus(tmp_path)
    freeze(root, "1", slice(0, LONG))
    corpus = read_corpus(root)

    assert corpus.max_held_frames["voice"] == 10
    assert not corpus.session("1").present["voice"].any()


def test_a_corpus_of_test_sessions_alone_is_checked_by_what_is_usual_in_it(
    tmp_path: Path,
) -> None:
    root = write_long_corpus(tmp_path)
    partitions = "".join(f"{session},test\n" for session in ("1", "2", "a-3", "4"))
    (root / "metadata/partition.csv").write_text("Id,Proposal\n" + partitions)
    freeze(root, "4", slice(10, LONG))
    corpus = read_corpus(root)

    assert [f.session_id for f in corpus.findings if f.kind == "stuck rows"] == ["4"]
