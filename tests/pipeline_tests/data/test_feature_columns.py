"""Corpora whose files differ in their columns, or have columns that are no features."""

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
    write_corpus,
    write_features,
    write_labels,
)

NAMES = ["eda", "hr", "acc"]
NUM_FRAMES = 24


def labels_of(session: str, target: str) -> np.ndarray:
    """Return labels in -1..1, shape (frames,), that differ between targets."""
    frames = np.arange(NUM_FRAMES)
    pace = 0.3 if target == "arousal" else 0.7
    labels: np.ndarray = np.round(np.sin(pace * frames + len(session) + ord(target[0])), 4)
    return labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a corpus of a named set of three columns and a numbered one, without anything odd."""
    root = write_corpus(tmp_path / "corpus", sets={"face": 2})
    for session, partition in PARTITIONS.items():
        random = np.random.default_rng(sum(session.encode()))
        values = np.round(random.normal(size=(NUM_FRAMES, 3)), 4)
        values[[3, 9]] = 0  # two rows are missing
        write_features(root, "physio", session, values, header=NAMES)
        face = feature_values(session, 2, NUM_FRAMES)
        write_features(root, "face", session, face)
        for target in ("arousal", "valence") if partition != "test" else ():
            write_labels(root, target, session, labels_of(session, target))
    return root


def edit(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame], *sessions: str) -> None:
    """Change the table of the set physio, of some sessions or of all."""
    for session in sessions or PARTITIONS:
        path = root / "feature_segments/physio" / f"{session}.csv"
        change(pd.read_csv(path)).to_csv(path, index=False)


def finding(corpus: Corpus, kind: str) -> Finding:
    """Return the only finding of one kind."""
    (found,) = [each for each in corpus.findings if each.kind == kind]
    return found


def assert_same_arrays(actual: Corpus, expected: Corpus) -> None:
    """Compare the features and where they are present."""
    assert actual.columns == expected.columns
    for session, other in zip(actual.sessions, expected.sessions, strict=True):
        for name, values in other.features.items():
            assert session.features[name].tobytes() == values.tobytes()
            assert np.array_equal(session.present[name], other.present[name])


def message(root: Path, **arguments: object) -> str:
    """Return the message with which a corpus is refused."""
    with pytest.raises(InputError) as caught:
        read_corpus(root, **arguments)  # type: ignore[arg-type]
    return str(caught.value)


def test_files_with_the_columns_in_another_order_read_the_same(root: Path) -> None:
    before = read_corpus(root)
    edit(root, lambda table: table[[*table.columns[:2], "acc", "eda", "hr"]], "2", "a-3")
    for _ in ("parsed", "from the cache"):
        after = read_corpus(root)
        assert_same_arrays(after, before)
        assert finding(after, "other order").count == 2
        assert after.digest != before.digest


def test_numbered_columns_of_one_set_begin_with_0_or_1_in_any_order(root: Path) -> None:
    before = read_corpus(root)
    path = root / "feature_segments/face/2.csv"
    table = pd.read_csv(path)
    table.columns = [*table.columns[:2], "1", "2"]
    table[["segment_id", "2", "timestamp", "1"]].to_csv(path, index=False)
    after = read_corpus(root)
    assert_same_arrays(after, before)
    assert finding(after, "other headers").count == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (["eda", "HR", "acc"], "physio/2.csv: column 'hr' is missing; column 'HR' (nearest: 'hr')"),
        (["0", "1", "2"], "columns 'eda', 'hr', 'acc' are missing; columns '0', '1', '2' are"),
        (["eda", "eda", "acc"], "physio/2.csv: two columns are named 'eda' (pandas would name"),
        (["eda", "hr", "hr.1"], "'hr.1' (pandas names a second 'hr' so)"),
        (["eda", " eda ", "acc"], "two columns are named 'eda'"),
    ],
)
def test_other_columns_in_one_file_are_refused(
    root: Path, header: list[str], expected: str
) -> None:
    write_features(root, "physio", "2", feature_values("2", 3, NUM_FRAMES), header=header)
    assert expected in message(root)


def test_blanks_around_names_do_not_count(root: Path) -> None:
    before = read_corpus(root)
    edit(root, lambda table: table.rename(columns=lambda name: f" {name} "), "1")
    assert_same_arrays(read_corpus(root), before)


def _openface(table: pd.DataFrame) -> pd.DataFrame:
    """Add what OpenFace writes; lost frames have no zeros, but what the tracker held."""
    lost = (table[NAMES] == 0).all(axis=1)
    table.loc[lost, NAMES] = 7.5
    table.insert(0, "frame", range(1, len(table) + 1))
    table.insert(1, "face_id", 0)
    table.insert(3, "confidence", np.where(lost, 0.1, 0.98))
    table.insert(4, "success", 1 - lost.astype(int))
    return table


def _log(table: pd.DataFrame) -> pd.DataFrame:
    """Add a counter and a clock under names that say nothing, a file's name and a person."""
    return table.assign(
        n=range(len(table)),
        q=table["timestamp"] / 1000 + 1.7e9,
        filename="x.wav",
        Participant="P 1",
    )


@pytest.mark.parametrize(
    ("change", "set_aside"),
    [
        (lambda table: table.reset_index().rename(columns={"index": "Unnamed: 0"}), "Unnamed: 0"),
        (lambda table: table.reset_index(), "index"),
        (lambda table: table.reset_index().rename(columns={"index": ""}), ""),
        (lambda table: table.assign(Subject_ID=4), "Subject_ID"),
        (lambda table: table.assign(frameTime=table["timestamp"] / 1000), "frameTime"),
        (_openface, "confidence,face_id,frame,success"),
        (_log, "Participant,filename,n,q"),
    ],
    ids=["unnamed", "index", "no name", "ids", "time", "openface", "log"],
)
def test_what_is_no_feature_is_set_aside_with_a_warning(
    root: Path, change: Callable[[pd.DataFrame], pd.DataFrame], set_aside: str
) -> None:
    before = read_corpus(root)
    edit(root, change)
    for _ in ("parsed", "from the cache"):
        after = read_corpus(root)
        assert_same_arrays(after, before)
        assert ",".join(sorted(after.set_aside["physio"])) == set_aside
        warning = finding(after, "columns set aside")
        assert (warning.level, warning.where) == ("warning", "physio")
        assert after.digest != before.digest

    # A model takes the files as they are, and goes by its own columns.
    columns = {"physio": ("acc", "hr", "eda"), "face": ("1", "2")}
    asked = read_corpus(root, model_columns=columns, model_set_aside=after.set_aside)
    assert asked.columns == columns
    for session, other in zip(asked.sessions, before.sessions, strict=True):
        assert np.array_equal(session.features["physio"], other.features["physio"][:, ::-1])
        assert np.array_equal(session.features["face"], other.features["face"])


def test_one_decision_holds_for_all_files(root: Path) -> None:
    """The column counts rows in one file alone, or is constant in one alone: it is a feature."""

    def add(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(n=np.arange(len(table)), speaker=1)

    edit(root, add)
    assert read_corpus(root).set_aside == {"physio": ("n", "speaker")}
    edit(root, lambda table: table.assign(n=table["n"][::-1].to_numpy(), speaker=table["n"]), "2")
    corpus = read_corpus(root)
    assert corpus.set_aside == {}
    assert corpus.columns["physio"] == (*NAMES, "n", "speaker")
    assert corpus.session("1").features["physio"][5, 3] == 5


def test_failed_rows_are_missing_and_counted(root: Path) -> None:
    edit(root, lambda table: table.assign(success=(table.index % 4 > 0).astype(int)))
    corpus = read_corpus(root)
    assert corpus.columns["physio"] == tuple(NAMES)
    present = corpus.session("1").present["physio"]
    assert np.flatnonzero(~present).tolist() == [0, 3, 4, 8, 9, 12, 16, 20]
    counts = {
        each.kind: each.count
        for each in corpus.findings
        if (each.where, each.session_id) == ("physio", "1")
    }
    assert counts == {"zero rows": 2, "failed rows": 6}


@pytest.mark.parametrize(
    "values",
    [np.arange(NUM_FRAMES), np.arange(NUM_FRAMES) + 60, np.linspace(0, 1, NUM_FRAMES)],
    ids=["counter", "heart rate", "ramp"],
)
def test_a_set_of_one_column_that_rises_is_read(root: Path, values: np.ndarray) -> None:
    edit(root, lambda table: table[["timestamp", "segment_id"]].assign(lum=values))
    corpus = read_corpus(root)
    assert corpus.columns["physio"] == ("lum",)
    assert np.array_equal(corpus.session("1").features["physio"][:, 0], np.float32(values))
    is_time = [each for each in corpus.findings if each.kind == "time as feature"]
    assert len(is_time) == (values[1] == 1)


def test_a_confidence_alone_marks_rows_where_it_is_a_share(root: Path) -> None:
    before = read_corpus(root)
    edit(root, lambda table: table.assign(confidence=np.where(table.index % 4, 0.98, 0.2)))
    corpus = read_corpus(root)
    assert (corpus.columns["physio"], corpus.set_aside) == (
        before.columns["physio"],
        {"physio": ("confidence",)},
    )
    # Rows of zeros are missing in spite of it, and so is every fourth row.
    present = before.session("1").present["physio"].copy()
    present[::4] = False
    assert np.array_equal(corpus.session("1").present["physio"], present)

    edit(root, lambda table: table.assign(confidence=100 * table["confidence"]))
    corpus = read_corpus(root)
    assert corpus.columns["physio"] == (*NAMES, "confidence")
    assert finding(corpus, "marker as feature").level == "note"


@pytest.mark.parametrize(
    "values",
    [
        lambda table: 7,
        lambda table: np.arange(100, 100 + len(table)),
        lambda table: (np.arange(len(table)) % 5 > 0) * 100,
        lambda table: table["timestamp"] / table["timestamp"].max(),
    ],
    ids=["person", "counter", "percent", "share of the time"],
)
def test_rows_of_zeros_but_for_one_column_are_a_warning(
    root: Path, values: Callable[[pd.DataFrame], int | np.ndarray | pd.Series]
) -> None:
    assert not [each for each in read_corpus(root).findings if each.kind == "nearly zero rows"]
    edit(root, lambda table: table.assign(q=values(table)))
    corpus = read_corpus(root)
    assert corpus.columns["physio"] == (*NAMES, "q")
    warning = finding(corpus, "nearly zero rows")
    assert (warning.level, warning.where, warning.count) == ("warning", "physio", 8)
    assert "but 'q' is 0" in warning.message


def test_a_set_that_has_zeros_by_nature_has_no_nearly_zero_rows(root: Path) -> None:
    def one_hot(table: pd.DataFrame) -> pd.DataFrame:
        words = pd.DataFrame(np.eye(6)[table.index // 4 % 6], columns=list("abcdef"))
        return pd.concat([table[["timestamp", "segment_id"]], words], axis=1)

    edit(root, one_hot)
    assert not [each for each in read_corpus(root).findings if each.kind == "nearly zero rows"]


def test_a_second_timestamp_is_set_aside_only_if_it_is_a_time(root: Path) -> None:
    before = read_corpus(root)

    def second(values: Callable[[pd.DataFrame], pd.Series]) -> None:
        for session in PARTITIONS:
            path = root / "feature_segments/physio" / f"{session}.csv"
            table = pd.read_csv(path)[["timestamp", "segment_id", *NAMES]]
            table.insert(2, "t", values(table))
            path.write_text(table.to_csv(index=False).replace(",t,", ",timestamp,", 1))

    second(lambda table: table["timestamp"] / 1000 + 12)
    after = read_corpus(root)
    assert_same_arrays(after, before)
    assert after.set_aside == {"physio": ("timestamp.1",)}

    second(lambda table: table["eda"])
    assert "physio/1.csv: the second column 'timestamp' does not ascend" in message(root)


@pytest.mark.parametrize(
    "leak",
    [
        lambda labels: labels,
        lambda labels: np.round(labels, 2),
        lambda labels: 50 + 100 * labels,
        lambda labels: -labels,
    ],
    ids=["equal", "rounded", "another unit", "turned"],
)
def test_a_label_among_the_features_is_refused(
    root: Path, leak: Callable[[np.ndarray], np.ndarray]
) -> None:
    for session, partition in PARTITIONS.items():
        labels = labels_of(session, "valence")
        values = np.zeros(NUM_FRAMES) if partition == "test" else leak(labels)
        edit(root, lambda table, values=values: table.assign(x=values), session)  # type: ignore[misc]
    expected = "feature_segments/physio: column 'x' is the label of 'valence'"
    assert expected in message(root)
    assert read_corpus(root, targets=["arousal"]).columns["physio"] == (*NAMES, "x")


def test_a_feature_that_is_only_like_the_label_is_read(root: Path) -> None:
    random = np.random.default_rng(0)
    for session in PARTITIONS:
        values = labels_of(session, "valence") + random.normal(size=NUM_FRAMES) / 20
        edit(root, lambda table, values=values: table.assign(x=values), session)  # type: ignore[misc]
    assert "x" in read_corpus(root).columns["physio"]


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (np.linspace(0, 1, NUM_FRAMES), np.arange(NUM_FRAMES) + 60.0),
        (np.where(np.arange(NUM_FRAMES) == 5, [1.0], [0.0]), np.zeros(NUM_FRAMES)),
        (
            np.where(np.arange(NUM_FRAMES) < 4, -999, np.cos(np.arange(NUM_FRAMES))),
            np.where(np.arange(NUM_FRAMES) < 4, -999, np.sin(np.arange(NUM_FRAMES))),
        ),
    ],
    ids=["both rise", "a rare event", "one sign for unknown"],
)
def test_what_a_feature_has_in_common_with_a_label_by_chance_is_no_leak(
    root: Path, labels: np.ndarray, values: np.ndarray
) -> None:
    for session in ("1", "2", "a-3"):
        write_labels(root, "valence", session, labels)
    edit(root, lambda table: table.assign(x=values))
    assert "x" in read_corpus(root).columns["physio"]


def test_what_a_model_reads_is_a_feature_whatever_its_name(root: Path) -> None:
    edit(root, lambda table: table.assign(frame=table["timestamp"] / 10, success=1, n=table.index))
    columns = {"physio": ("frame", *NAMES), "face": ("0", "1")}
    corpus = read_corpus(root, model_columns=columns)
    assert corpus.columns == columns
    assert corpus.session("1").features["physio"][4, 0] == 200
    assert corpus.set_aside == {"physio": ("success", "n")}

    refused = {**columns, "physio": ("frame", "eda", "hr", "temp")}
    expected = "1.csv: column 'temp' is missing; column 'acc' is unknown"
    assert expected in message(root, model_columns=refused)
    assert "that the model reads" in message(root, model_columns=refused)


def test_a_set_without_any_feature_is_refused(root: Path) -> None:
    edit(root, lambda table: table[["timestamp", "segment_id"]].assign(frame=range(NUM_FRAMES)))
    assert "has no feature, but only 'frame' (frame number)" in message(root)
