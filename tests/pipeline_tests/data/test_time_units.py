"""Units of time: recognised per set, said, and never guessed where two readings are possible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.corpus import Corpus, Finding
from pipeline.data.muse import read_corpus
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    feature_values,
    label_values,
    write_corpus,
    write_features,
    write_labels,
)

SINCE_1970_MS = 1_700_000_000_000
ROWS = 40


def write_times(files: list[Path], to_text: Callable[[int], str]) -> None:
    """Write the timestamps of files, which are in whole ms, in another way."""
    for path in files:
        header, *lines = path.read_text().splitlines()
        place = header.split(",").index("timestamp")
        rows = [line.split(",") for line in lines]
        for row in rows:
            row[place] = to_text(int(row[place]))
        path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")


def files_of(root: Path, folder: str = "*") -> list[Path]:
    """Return the files of features, of labels, or of both."""
    return sorted(root.glob(f"{folder}_segments/*/*.csv"))


def units(corpus: Corpus) -> list[Finding]:
    """Return what was said about units."""
    return [finding for finding in corpus.findings if finding.kind == "time unit"]


def assert_same_arrays(actual: Corpus, expected: Corpus, start_ms: int = 0) -> None:
    """Compare the frames of two corpora."""
    for session, other in zip(actual.sessions, expected.sessions, strict=True):
        np.testing.assert_array_equal(session.timestamps_ms - start_ms, other.timestamps_ms)
        for name, values in other.features.items():
            np.testing.assert_array_equal(session.features[name], values)
        for target, labels in other.labels.items():
            np.testing.assert_array_equal(session.labels[target], labels)


def iso(time_ms: int) -> str:
    """Return a time since 1970 as text, with a zone."""
    return f"{np.datetime64(SINCE_1970_MS + time_ms, 'ms')}Z"


@pytest.mark.parametrize(
    ("to_text", "start_ms", "level", "name"),
    [
        (lambda ms: f"{ms / 1000:g}", 0, "warning", "seconds"),
        (lambda ms: f"{ms * 1000}", 0, "warning", "microseconds"),
        (lambda ms: f"{ms * 1_000_000}", 0, "warning", "nanoseconds"),
        (lambda ms: f"{(SINCE_1970_MS + ms) / 1000:.3f}", SINCE_1970_MS, "warning", "since 1970"),
        (lambda ms: f"{SINCE_1970_MS + ms}", SINCE_1970_MS, "note", "since 1970"),
        (lambda ms: f"{(SINCE_1970_MS + ms) * 1000}", SINCE_1970_MS, "warning", "microseconds"),
        (lambda ms: f"{SINCE_1970_MS + ms}000000", SINCE_1970_MS, "warning", "nanoseconds"),
        (iso, SINCE_1970_MS, "warning", "dates and times"),
    ],
)
def test_every_unit_reads_to_the_same_arrays_and_is_said(
    tmp_path: Path, to_text: Callable[[int], str], start_ms: int, level: str, name: str
) -> None:
    expected = read_corpus(write_corpus(tmp_path / "ms"))
    root = write_corpus(tmp_path / "other")
    write_times(files_of(root), to_text)

    corpus = read_corpus(root)

    assert_same_arrays(corpus, expected, start_ms)
    (finding,) = units(corpus)
    assert (finding.level, finding.where) == (level, "timestamps")
    assert name in finding.message
    # What is written back is what was read.
    assert corpus.session("1").rows_of("arousal").timestamps.tolist()[:2] == [
        to_text(0),
        to_text(500),
    ]


def test_milliseconds_need_no_finding_and_keep_their_digest(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path))

    assert units(corpus) == []
    assert read_corpus(tmp_path, time_unit="ms").digest == corpus.digest


def test_features_and_labels_may_differ_in_unit(tmp_path: Path) -> None:
    expected = read_corpus(write_corpus(tmp_path / "ms"))
    root = write_corpus(tmp_path / "other")
    write_times(files_of(root, "feature"), lambda ms: str(ms / 1000))

    corpus = read_corpus(root)

    assert_same_arrays(corpus, expected)
    assert {finding.where for finding in units(corpus)} == {
        "feature_segments/face",
        "feature_segments/voice",
    }
    assert corpus.digest != expected.digest


def test_labels_once_a_second_are_seconds_beside_features_in_ms(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, partitions={"1": "train", "2": "devel"})
    for session in ("1", "2"):
        for name, width in {"voice": 3, "face": 2}.items():
            write_features(
                root, name, session, feature_values(session, width, 2 * ROWS), step_ms=500
            )
        for target in ("arousal", "valence"):
            write_labels(root, target, session, label_values(session, target, ROWS), step_ms=1)

    corpus = read_corpus(root)

    assert corpus.frame_period_ms == 1000
    assert corpus.session("1").num_frames == ROWS
    assert {finding.where for finding in units(corpus)} == {
        "label_segments/arousal",
        "label_segments/valence",
    }


def write_unlabelled(root: Path, num_rows: int) -> Path:
    """Write a session without labels with a row per unit of time."""
    write_corpus(root, partitions={"4": "test"}, sets={"voice": 3}, targets=())
    write_features(root, "voice", "4", feature_values("4", 3, num_rows), step_ms=1)
    return root


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_two_possible_readings_are_refused_until_one_is_named(tmp_path: Path, unit: str) -> None:
    # 20 s at 1 kHz, or five and a half hours at 1 Hz.
    root = write_unlabelled(tmp_path, 20_000)

    with pytest.raises(
        InputError, match=r"seconds .*milliseconds .*--time-unit s or --time-unit ms"
    ):
        read_corpus(root)
    corpus = read_corpus(root, time_unit="s" if unit == "s" else "ms")
    assert corpus.frame_period_ms == (1000 if unit == "s" else 1)


def test_features_at_1_khz_in_ms_are_told_by_their_labels(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, partitions={"1": "train", "2": "devel"}, sets={"voice": 3})
    for session in ("1", "2"):
        write_features(root, "voice", session, feature_values(session, 3, 5000), step_ms=1)

    corpus = read_corpus(root)

    assert units(corpus) == []
    assert corpus.resampling == {"voice": "mean"}


@pytest.mark.parametrize(
    ("folder", "factor"), [("feature_segments/voice", 1000), ("label_segments/arousal", 0.001)]
)
def test_files_of_one_set_in_two_units_are_refused(
    tmp_path: Path, folder: str, factor: float
) -> None:
    root = write_corpus(tmp_path)
    write_times([root / folder / "2.csv"], lambda ms: str(ms * factor))

    with pytest.raises(InputError, match=r"/2\.csv has a row every .* not in one unit"):
        read_corpus(root)


def test_dates_among_numbers_are_refused(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    write_times([root / "feature_segments/voice/2.csv"], iso)

    with pytest.raises(InputError, match=r"dates and times, other files numbers"):
        read_corpus(root)


@pytest.mark.parametrize("folder", ["feature", "label"])
def test_another_origin_is_refused_with_both_ranges(tmp_path: Path, folder: str) -> None:
    root = write_corpus(tmp_path)
    write_times(files_of(root, folder), lambda ms: str(SINCE_1970_MS + ms))

    with pytest.raises(InputError) as error:
        read_corpus(root)

    message = str(error.value)
    assert f"({SINCE_1970_MS} to {SINCE_1970_MS + 4500}) count since 1970" in message
    assert "(0 to 4500) do not" in message


def test_sessions_may_count_from_different_moments(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    of_session = [path for path in files_of(root) if path.stem == "2"]
    write_times(of_session, lambda ms: str(SINCE_1970_MS + ms))

    corpus = read_corpus(root)

    assert corpus.session("2").present["voice"].all()
    assert corpus.session("1").present["voice"].all()


def test_fractions_of_a_millisecond_are_not_rounded(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    times = [f"{100 / 3 * row:.3f}" for row in range(ROWS)]
    for name in PARTITIONS:
        values = feature_values(name, 3, ROWS)
        path = write_features(root, "voice", name, values, step_ms=1)
        write_times([path], lambda row: times[row])
    for target in ("arousal", "valence"):
        for name in ("1", "2", "a-3"):
            labels = label_values(name, target, ROWS)
            path = write_labels(root, target, name, labels, step_ms=1)
            write_times([path], lambda row: times[row])

    session = read_corpus(root).session("1")

    assert session.rows_of("arousal").timestamps.tolist() == times
    assert session.timestamps_ms.tolist() == [float(time) for time in times]
    np.testing.assert_array_equal(session.features["voice"], feature_values("1", 3, ROWS))


def test_two_rows_in_one_millisecond_are_two_rows(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, sets={"voice": 3})
    for session in PARTITIONS:
        values = feature_values(session, 3, 10_000)
        path = write_features(root, "voice", session, values, step_ms=1)
        write_times([path], lambda row: f"{row * 0.5}")

    corpus = read_corpus(root)

    rows = feature_values("1", 3, 10_000).astype(np.float32)
    # A frame takes the rows from half a period before it on: those of 250 ms, 0.5 ms apart.
    expected = pd.DataFrame(rows[500:1500]).mean().to_numpy()
    np.testing.assert_allclose(corpus.session("1").features["voice"][1], expected, rtol=1e-6)
