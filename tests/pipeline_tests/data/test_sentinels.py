"""Numbers that stand for a missing value are named; those that only look like them are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.checks.summary import summarise
from pipeline.data.muse import read_corpus
from pipeline.data.tables.sentinels import find_sentinels, sentinel_rows, sentinels_by_column
from pipeline.errors import InputError
from pipeline.stages.requirements import raise_if_wrong
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    feature_values,
    label_values,
    write_corpus,
    write_features,
    write_labels,
    write_participants,
)

RANDOM = np.random.default_rng(7)
NORMAL = RANDOM.normal(size=500)
UNIT = RANDOM.uniform(size=500)
SYMMETRIC = RANDOM.uniform(-1, 1, size=500)
HEART_RATES = RANDOM.integers(55, 120, size=500).astype(float)
STEPS = RANDOM.integers(0, 30, size=500).astype(float)


def with_code(values: NDArray[np.float64], *codes: float, every: int = 9) -> NDArray[np.float64]:
    """Return the values with each code in every so many rows."""
    result = values.copy()
    for number, code in enumerate(codes):
        result[number::every] = code
    return result


@pytest.mark.parametrize("code", [-999.0, -9999.0, 9999.0, 99999.0, -32768.0, -1000.0, 1e30])
@pytest.mark.parametrize("values", [NORMAL, UNIT, SYMMETRIC, HEART_RATES, STEPS, np.sign(NORMAL)])
@pytest.mark.parametrize("is_label", [False, True])
def test_a_loud_code_is_found_in_values_of_any_kind(
    values: NDArray[np.float64], code: float, is_label: bool
) -> None:
    (sentinel,) = find_sentinels(with_code(values, code).astype(np.float32), is_label=is_label)

    assert sentinel.value == np.float32(code)
    if code != 1e30:
        assert sentinel.is_certain


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (UNIT, -1),
        (SYMMETRIC, -5),
        (HEART_RATES, -1),
        (300 * UNIT + 80, -1),
        (4 * UNIT + 2, -1),
        (100 * UNIT, -9),
        (NORMAL / 10, -5),
        (NORMAL, -100),
        (NORMAL, -5),
        (NORMAL, -9),
    ],
)
def test_a_quiet_code_is_found_where_it_is_far(values: NDArray[np.float64], code: float) -> None:
    found = find_sentinels(with_code(values, code))

    assert [sentinel.value for sentinel in found] == [code]


@pytest.mark.parametrize(
    "values",
    [
        np.clip(NORMAL, -1, 1),
        with_code(SYMMETRIC, -1),
        with_code(SYMMETRIC / 2, -1),
        with_code(STEPS, -1),
        np.sign(NORMAL),
        with_code(np.sign(NORMAL), 0),
        with_code(UNIT, 0),
        np.maximum(NORMAL, 0),
        with_code(NORMAL, -3),
        np.concatenate([NORMAL / 100, 10 + NORMAL / 100]),
        np.exp(2 * NORMAL),
        np.minimum(np.exp(NORMAL + 3), 100),
        np.round(np.exp(NORMAL)),
        np.arange(500) + 1.6e12,
        np.full(500, -999.0),
        np.full(500, np.nan),
        NORMAL[:0],
        np.append(NORMAL, -999),
    ],
)
def test_values_that_are_normal_are_no_codes(values: NDArray[np.float64]) -> None:
    """Ends of scales, neighbours, categories, two modes, heavy tails, saturation, a constant."""
    assert find_sentinels(values) == []


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (np.round(4 * UNIT), ()),
        (np.round(4 * UNIT), (-9,)),
        (1 + np.round(8 * UNIT), (-1,)),
        (SYMMETRIC, (-5,)),
        (SYMMETRIC, (-1,)),
        (np.round(2 * SYMMETRIC) / 2, ()),
    ],
)
def test_labels_may_be_few_steps_of_a_scale(
    values: NDArray[np.float64], codes: tuple[float, ...]
) -> None:
    found = [each.value for each in find_sentinels(with_code(values, *codes), is_label=True)]

    expected = [code for code in codes if code < values.min() - 0.1]
    assert found == expected


@pytest.mark.parametrize("codes", [(-999, 999), (-9999, -999), (-998, -999), (-32768, 32767)])
def test_several_codes_do_not_hide_each_other(codes: tuple[float, float]) -> None:
    found = find_sentinels(with_code(NORMAL, *codes))

    assert [sentinel.value for sentinel in found] == sorted(codes)


def test_columns_of_many_files_are_judged_together_and_interpolated_rows_are_left_out() -> None:
    first = np.stack([NORMAL, with_code(UNIT, -1)], axis=1).astype(np.float32)
    second = np.stack([NORMAL, UNIT], axis=1).astype(np.float32)
    second[5, 1] = -0.5  # between a code and a value
    is_written = np.arange(500) != 5

    found = sentinels_by_column([(first, np.full(500, True)), (second, is_written)])
    assert {column: [each.value for each in codes] for column, codes in found.items()} == {1: [-1]}
    assert sentinels_by_column([]) == {}


@pytest.mark.parametrize(
    ("values", "code", "expected"),
    [
        (NORMAL.reshape(-1, 5), -1, [-1]),
        (NORMAL.reshape(-1, 4), -5, [-5]),
        (300 * UNIT.reshape(-1, 10), -100, [-100]),
        (NORMAL.reshape(-1, 5), 1, []),
        (NORMAL.reshape(-1, 5), -0.5, []),
        (NORMAL.reshape(-1, 2), -1, []),
        (np.sign(NORMAL).reshape(-1, 5), -1, []),
    ],
)
def test_rows_of_one_negative_whole_number_are_found(
    values: NDArray[np.float64], code: float, expected: list[float]
) -> None:
    """Among categories it is a row like others, and two columns may be equal by chance."""
    rows = with_code(values, code).astype(np.float32)
    is_written = np.full(len(rows), True)

    assert sentinel_rows([(rows, is_written), (rows, ~is_written)]) == expected


def test_codes_in_rows_are_a_warning(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    values = (feature_values("1", 3, 40) - 4920) / 10
    values[4:8] = -1
    write_features(root, "voice", "2", values)

    corpus = read_corpus(root)
    (group,) = [each for each in summarise(corpus).findings if each.kind == "sentinel rows"]
    assert (group.level, group.sessions, group.count, group.total) == ("warning", ("2",), 4, 40)


def write_long_corpus(root: Path) -> Path:
    """Write a corpus of 40 frames per session that is ready."""
    write_corpus(root)
    write_participants(root)
    for session, partition in PARTITIONS.items():
        write_features(root, "voice", session, feature_values("1", 3, 40) / 100)
        write_features(root, "face", session, feature_values("2", 2, 40))
        for target in ("arousal", "valence") if partition != "test" else ():
            write_labels(root, target, session, label_values(session, target, 40))
    return root


def test_codes_in_features_are_a_warning_with_count_value_column_and_file(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    assert summarise(read_corpus(root)).verdict == "ready"

    for session in ("1", "a-3"):
        values = feature_values("1", 3, 40) / 100
        values[3:9, 1] = -999
        write_features(root, "voice", session, values, header=["f0", "hnr", "rms"])
    write_features(root, "voice", "2", feature_values("1", 3, 40), header=["f0", "hnr", "rms"])
    write_features(root, "voice", "4", feature_values("1", 3, 40), header=["f0", "hnr", "rms"])

    corpus = read_corpus(root)
    (group,) = [each for each in summarise(corpus).findings if each.kind == "sentinel values"]
    assert (group.level, group.where, group.sessions) == ("warning", "voice", ("1", "a-3"))
    assert (group.count, group.total) == (12, 80)
    assert "-999 (column 'hnr')" in group.message
    assert "feature_segments/voice/1.csv" in group.message
    assert "empty" in group.message
    raise_if_wrong(corpus)


def test_codes_in_labels_are_an_error_that_refuses_training(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    labels = label_values("2", "arousal", 40)
    labels[10:20] = -5
    write_labels(root, "arousal", "2", labels)

    corpus = read_corpus(root)
    summary = summarise(corpus)
    assert summary.verdict == "cannot be learned"
    assert "sentinel values" in summary.reason
    (group,) = [each for each in summary.findings if each.level == "error"]
    assert (group.where, group.count, group.total) == ("arousal", 10, 40)
    assert json.dumps(summary.to_document())

    with pytest.raises(InputError, match=r"arousal: -5 stands for .*label_segments/arousal/2.csv"):
        raise_if_wrong(corpus)

    labels[10:20] = np.nan
    write_labels(root, "arousal", "2", labels)
    assert summarise(read_corpus(root)).verdict == "ready"


def test_codes_that_could_be_labels_are_a_warning(tmp_path: Path) -> None:
    root = write_long_corpus(tmp_path)
    for session in ("1", "2", "a-3"):
        labels = (1 + label_values(session, "valence", 40)) / 2
        labels[:5] = -1
        write_labels(root, "valence", session, labels)

    corpus = read_corpus(root)
    (group,) = [each for each in summarise(corpus).findings if each.kind == "sentinel values"]
    assert (group.level, group.where, group.count) == ("warning", "valence", 15)
    raise_if_wrong(corpus)
