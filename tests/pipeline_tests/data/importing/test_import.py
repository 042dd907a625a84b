"""The command `corpus import`: from files of other formats to a corpus that can be checked."""

from __future__ import annotations

import json
import os
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.importing.import_corpus import import_corpus
from pipeline.data.importing.import_options import ImportOptions
from pipeline.data.muse import read_corpus
from pipeline.errors import AffectuneError, InputError
from tests.pipeline_tests.data.importing.sources import (
    column,
    files_below,
    read_rows,
    run,
    write,
    write_e4,
)
from tests.pipeline_tests.full_disk import REFUSED, with_small_files

START_S = 1560279825.0


def write_table(path: Path, *, num_rows: int = 40, column: str = "value", power: int = 1) -> Path:
    """Write a table of ten rows per second, whose values are powers of their row's number."""
    rows = [f"{row / 10:.1f},{row**power}" for row in range(num_rows)]
    return write(path, f"time_s,{column}", *rows)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


def test_features_and_labels_come_one_command_each_and_can_be_checked(
    tmp_path: Path, out: Path
) -> None:
    for session in ("a", "b", "c", "d"):
        write_table(tmp_path / f"voice/{session}.csv", column="pitch", power=2)
        write_table(tmp_path / f"labels/{session}.csv")

    first = run("import", tmp_path / "voice", out)
    assert f"affectune corpus import LABELS {out} --target arousal" in first.replace("\n", "")
    second = run("import", tmp_path / "labels", out, "--target", "arousal")
    assert f"affectune corpus check {out}" in second.replace("\n", "")

    assert files_below(out) == [
        *[f"feature_segments/voice/{name}.csv" for name in "abcd"],
        *[f"label_segments/arousal/{name}.csv" for name in "abcd"],
        "metadata/partition.csv",
    ]
    document = json.loads(run("check", out, "--json"))
    assert document["verdict"] != "cannot be learned"
    corpus = read_corpus(out)
    assert corpus.columns == {"voice": ("pitch",)}
    np.testing.assert_array_equal(corpus.session("a").labels["arousal"], np.arange(40))
    np.testing.assert_array_equal(corpus.session("a").timestamps_ms, np.arange(40) * 100)


def test_where_labels_are_missing_the_check_says_what_to_do(tmp_path: Path, out: Path) -> None:
    write_table(tmp_path / "a.csv")
    run("import", tmp_path / "a.csv", out, "--set", "voice")
    output = run("check", out)
    assert "affectune corpus import LABELS" in output.replace("\n", " ")


@pytest.mark.parametrize("is_new", [True, False])
def test_what_fails_leaves_nothing_behind(tmp_path: Path, out: Path, is_new: bool) -> None:
    if not is_new:
        write_table(tmp_path / "old.csv")
        run("import", tmp_path / "old.csv", out, "--set", "head")
    before = {name: (out / name).read_bytes() for name in files_below(out)} if not is_new else {}
    write_table(tmp_path / "voice/a.csv")
    write(tmp_path / "voice/b.csv", "time_s,value", "0.0,1", "0.1,one")

    with pytest.raises(InputError, match=r"voice/b\.csv, line 3, column 'value': 'one'"):
        run("import", tmp_path / "voice", out)
    left = {name: (out / name).read_bytes() for name in files_below(out)} if out.exists() else {}
    assert left == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_fails_while_files_are_moved_is_undone(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session in ("a", "b"):
        write_table(tmp_path / f"voice/{session}.csv")
    run("import", tmp_path / "voice", out)
    before = {name: (out / name).read_bytes() for name in files_below(out)}
    for session in ("a", "b"):
        write_table(tmp_path / f"voice/{session}.csv", num_rows=50)

    replace = os.replace
    calls: list[Path] = []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("pipeline.data.importing.corpus_folder.os.replace", failing)
    with pytest.raises(AffectuneError, match=r"No space left on device\. It is as it was"):
        run("import", tmp_path / "voice", out, "--overwrite")
    assert {name: (out / name).read_bytes() for name in files_below(out)} == before


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_full_disk_leaves_the_corpus_as_it_was_and_the_next_import_succeeds(
    tmp_path: Path, out: Path, size: int
) -> None:
    write_table(tmp_path / "a.csv")
    run("import", tmp_path / "a.csv", out, "--set", "voice")
    before = {name: (out / name).read_bytes() for name in files_below(out)}
    source = write_table(tmp_path / "b.csv", num_rows=1000)
    killed = tmp_path / f".{out.name}.{'0' * 32}.tmp"  # a killed import's
    (killed / "feature_segments").mkdir(parents=True)

    import_it = partial(run, "import", source, out, "--set", "face")
    assert with_small_files(size, import_it) == (
        REFUSED,
        f"SurroundingsError: Cannot write {out}: File too large. It is as it was. Raise the limit "
        "on the size of files (`ulimit -f`).",
    )
    assert {name: (out / name).read_bytes() for name in files_below(out)} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "corpus"]
    import_it()
    assert len(read_rows(out / "feature_segments/face/b.csv")) == 1001


def test_nothing_is_replaced_without_leave(tmp_path: Path, out: Path) -> None:
    write_table(tmp_path / "a.csv")
    run("import", tmp_path / "a.csv", out, "--set", "voice")
    write_table(tmp_path / "a.csv", num_rows=50)
    with pytest.raises(InputError, match=r"has feature_segments/voice/a\.csv already"):
        run("import", tmp_path / "a.csv", out, "--set", "voice")
    run("import", tmp_path / "a.csv", out, "--set", "voice", "--overwrite")
    assert len(column(out / "feature_segments/voice/a.csv", "value")) == 50


def test_a_folder_that_is_no_corpus_is_not_written_to(tmp_path: Path) -> None:
    write(tmp_path / "home/thesis.txt", "text")
    source = write_table(tmp_path / "a.csv")
    with pytest.raises(InputError, match="is a folder, but no corpus"):
        run("import", source, tmp_path / "home", "--set", "voice")
    assert files_below(tmp_path / "home") == ["thesis.txt"]


def test_sensors_of_a_recording_share_the_start_of_the_session(tmp_path: Path, out: Path) -> None:
    write_e4(tmp_path / "wrist/P01", START_S)
    write_e4(tmp_path / "wrist/P02", START_S + 5000, without=("IBI", "TEMP"))
    output = run("import", tmp_path / "wrist", out)
    assert "P02 has no IBI, TEMP." in output
    assert "P01: 1 button press (tags.csv)." in output

    for session in ("P01", "P02"):
        assert column(out / f"feature_segments/hr/{session}.csv", "timestamp") == [1000, 2000]
        assert column(out / f"feature_segments/eda/{session}.csv", "timestamp")[:2] == [0, 250]
    assert column(out / "feature_segments/acc/P01.csv", "acc_x")[0] == 1.0
    assert column(out / "feature_segments/acc/P01.csv", "acc_y")[0] == -0.5
    assert column(out / "feature_segments/ibi/P01.csv", "timestamp") == [500, 1250]
    assert read_rows(out / "metadata/origins.csv") == [
        ["session", "clock", "start_s", "start"],
        ["P01", "unix", "1560279825.0", "2019-06-11T19:03:45Z"],
        ["P02", "unix", "1560284825.0", "2019-06-11T20:27:05Z"],
    ]


def test_a_later_import_is_put_on_the_same_zero(tmp_path: Path, out: Path) -> None:
    run("import", write_e4(tmp_path / "P01", START_S), out)
    face = write(
        tmp_path / "P01.csv",
        "timestamp,smile",
        "2019-06-11T19:03:44.5Z,1",
        "2019-06-11T21:03:46.5+02:00,2",
    )
    run("import", face, out, "--set", "face")
    assert column(out / "feature_segments/face/P01.csv", "timestamp") == [-500, 1500]

    # The same moments without a zone: refused, until a person names it.
    local = write(
        tmp_path / "P01.csv", "timestamp,smile", "2019-06-11 21:03:45,1", "2019-06-11 21:03:46,2"
    )
    with pytest.raises(InputError, match="--timezone"):
        run("import", local, out, "--set", "eyes")
    run("import", local, out, "--set", "eyes", "--timezone", "Europe/Berlin")
    assert column(out / "feature_segments/eyes/P01.csv", "timestamp") == [0, 1000]


def test_another_clock_or_another_day_needs_a_start(tmp_path: Path, out: Path) -> None:
    run("import", write_e4(tmp_path / "P01", START_S), out)
    device = write(tmp_path / "P01.csv", "time_s,a", "600000.5,1", "600001.0,2")
    with pytest.raises(InputError, match="--start SECONDS"):
        run("import", device, out, "--set", "robot")
    run("import", device, out, "--set", "robot", "--start", "600000")
    assert column(out / "feature_segments/robot/P01.csv", "timestamp") == [500, 1000]

    write_e4(tmp_path / "next/P01", START_S + 86400)
    with pytest.raises(InputError, match=r"24\.0 hours after the start"):
        run("import", tmp_path / "next/P01", out, "--overwrite")


def test_clocks_that_meet_in_one_import_are_not_mixed(tmp_path: Path, out: Path) -> None:
    pattern = ["--session", "P01", "--pattern", "{set}.csv"]
    write(tmp_path / "s/a.csv", "time,x", "2023-06-12 12:00:00,1", "2023-06-12 12:00:01,2")
    write_table(tmp_path / "s/b.csv")
    warned = json.loads(run("import", tmp_path / "s", out, *pattern, "--json"))["warnings"]
    assert "count from the starts" in warned[0]
    with pytest.raises(InputError, match="one clock at a time"):
        run("import", tmp_path / "s", tmp_path / "new", *pattern, "--start", "5")

    write(tmp_path / "s/b.csv", "time,x", "2023-06-12 12:00:00Z,1", "2023-06-12 12:00:01Z,2")
    with pytest.raises(InputError, match="--timezone"):
        run("import", tmp_path / "s", tmp_path / "new", *pattern)


def test_a_start_that_nobody_states_is_said(tmp_path: Path, out: Path) -> None:
    write_table(tmp_path / "P01.csv")
    run("import", tmp_path / "P01.csv", out, "--target", "arousal")
    output = run("import", write_e4(tmp_path / "P01", START_S), out)
    assert "its first row is taken as the start of the session" in output


def test_seconds_of_a_file_begin_where_a_person_says(tmp_path: Path, out: Path) -> None:
    run("import", write_e4(tmp_path / "P01", START_S), out)
    source = write(tmp_path / "P01.csv", "time_s,value", "9.5,1", "10.5,2")
    warned = json.loads(run("import", source, out, "--target", "arousal", "--json"))["warnings"]
    assert "count from the starts that metadata/origins.csv states: 'P01'" in warned[0]
    assert column(out / "label_segments/arousal/P01.csv", "timestamp") == [9500, 10500]

    run("import", source, out, "--target", "arousal", "--start", "10", "--overwrite")
    assert column(out / "label_segments/arousal/P01.csv", "timestamp") == [-500, 500]


def test_labels_of_a_session_that_has_no_features_are_warned_of(tmp_path: Path, out: Path) -> None:
    write_table(tmp_path / "voice/P01.csv")
    write_table(tmp_path / "voice/P02.csv")
    run("import", tmp_path / "voice", out)
    write_table(tmp_path / "p02.csv")
    warned = json.loads(run("import", tmp_path / "p02.csv", out, "--target", "a", "--json"))
    assert "no features: 'p02'. The nearest name that has is 'P02'" in " ".join(warned["warnings"])


def test_a_corpus_is_no_source(tmp_path: Path, out: Path) -> None:
    write_table(tmp_path / "a.csv")
    run("import", tmp_path / "a.csv", out, "--set", "voice")
    with pytest.raises(InputError, match="is a corpus already"):
        run("import", out, tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "a", "--target", "b"], "one after the other"),
        (["--set", "a", "--raters", "ewe"], "--raters fuses labels"),
        (["--target", "a", "--align-raters", "5"], "pass --raters ewe or mean"),
        (["--set", "a", "--resample", "0"], "--resample 0"),
        (["--set", "a", "--column", "x"], "no column 'x'"),
        (["--set", "a", "--pattern", "{speaker}.csv"], None),
        (["--set", "a", "--start", "noon"], "neither seconds nor a date"),
        ([], "name what it holds"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, out: Path, arguments: list[str], message: str | None
) -> None:
    source = write_table(tmp_path / "s.csv")
    if message is None:
        source, message = tmp_path, "The fields are session, set, rater"
    with pytest.raises(InputError, match=message):
        run("import", source, out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize("text", ["target,session\n", "TARGET\na,b\n"])
def test_a_file_of_raters_that_was_changed_is_refused(tmp_path: Path, out: Path, text: str) -> None:
    write_table(tmp_path / "features/a.csv", power=2)
    write_table(tmp_path / "labels/a.csv")
    run("import", tmp_path / "features/a.csv", out, "--set", "voice")
    run("import", tmp_path / "labels/a.csv", out, "--target", "arousal")
    write(out / "metadata/raters.csv", text)
    with pytest.raises(InputError, match="Import the labels again"):
        run("check", out)


def test_people_stay_in_one_partition_however_sessions_arrive(tmp_path: Path, out: Path) -> None:
    people = write(
        tmp_path / "people.tsv",
        "participant_id\tsession_id",
        *[f"p{number // 2}\ts{number}" for number in range(10)],
    )
    for number in range(10):
        write_table(tmp_path / f"{'first' if number < 5 else 'second'}/s{number}.csv")
    for part in ("first", "second"):
        run("import", tmp_path / part, out, "--set", "voice", "--participants", people)

    partitions = dict(read_rows(out / "metadata/partition.csv")[1:])
    assert {partitions[f"s{2 * p}"] for p in range(5)} == {"train", "devel", "test"}
    assert all(partitions[f"s{2 * p}"] == partitions[f"s{2 * p + 1}"] for p in range(5))
    assert dict(read_rows(out / "metadata/participants.csv")[1:])["s3"] == "p1"
    assert [session.subject for session in read_corpus(out).sessions][:3] == ["p0", "p0", "p1"]


def test_a_session_without_a_participant_is_refused_where_others_have_one(
    tmp_path: Path, out: Path
) -> None:
    people = write(tmp_path / "people.csv", "session,participant", "a,p1")
    write_table(tmp_path / "a.csv")
    write_table(tmp_path / "b.csv")
    run("import", tmp_path / "a.csv", out, "--set", "voice", "--participants", people)
    with pytest.raises(InputError, match="No participant is named for 1 sessions: 'b'"):
        run("import", tmp_path / "b.csv", out, "--set", "voice")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a,p1", "b,p2"), "names no column of sessions and none of participants"),
        (("session,participant", "a,p1", "a,p2"), "'a' has two participants, 'p1' and 'p2'"),
        (("session,participant", "a,"), "line 2: the column 'participant' has ''"),
    ],
)
def test_who_is_who_is_not_guessed(
    tmp_path: Path, out: Path, lines: tuple[str, ...], message: str
) -> None:
    people = write(tmp_path / "people.csv", *lines)
    source = write_table(tmp_path / "a.csv")
    with pytest.raises(InputError, match=message):
        run("import", source, out, "--set", "voice", "--participants", people)


def test_a_partition_that_is_given_counts(tmp_path: Path, out: Path) -> None:
    partition = write(tmp_path / "split.csv", "session;partition", "a;Test", "b;devel", "x;train")
    for session in ("a", "b"):
        write_table(tmp_path / f"voice/{session}.csv")
    run("import", tmp_path / "voice", out, "--partition", partition)
    assert read_rows(out / "metadata/partition.csv")[1:] == [["a", "test"], ["b", "devel"]]


def write_raters(folder: Path, *, irregular: bool = False) -> None:
    """Write two sessions with three raters each; the third one is asleep."""
    random = np.random.default_rng(0)
    for session in ("s1", "s2"):
        for rater in (1, 2, 3):
            times_s = np.arange(200) / 10
            if irregular:
                times_s = np.sort(np.repeat(times_s[::2], 2) + 0.01 * rater)
            values = np.sin(times_s) + 0.1 * random.normal(size=200)
            if rater == 3:
                values = random.normal(size=200)
            rows = [f"{time:.3f},{value:.6f}" for time, value in zip(times_s, values, strict=True)]
            write(folder / f"{session}_rater{rater}.csv", "Time(sec),Data", *rows)


@pytest.mark.parametrize("irregular", [False, True])
def test_raters_are_fused_and_their_agreement_is_shown(
    tmp_path: Path, out: Path, irregular: bool
) -> None:
    write_raters(tmp_path / "ratings", irregular=irregular)
    arguments = ["import", tmp_path / "ratings", out, "--target", "arousal", "--raters", "ewe"]
    if irregular:
        with pytest.raises(InputError, match="--resample 100"):
            run(*arguments)
        arguments += ["--resample", 200]
    document = json.loads(run(*arguments, "--json"))

    assert [rater["rater"] for rater in document["raters"][:3]] == ["rater1", "rater2", "rater3"]
    weights = [rater["weight"] for rater in document["raters"][:3]]
    assert sum(weights) == pytest.approx(1)
    assert weights[2] < weights[0]
    assert document["raters"][2]["ccc_with_others"] < 0.3

    write_table(tmp_path / "voice/s1.csv", num_rows=200)
    write_table(tmp_path / "voice/s2.csv", num_rows=200)
    run("import", tmp_path / "voice", out)
    checked = json.loads(run("check", out, "--json"))["raters"]
    assert [(entry["target"], entry["rater"], entry["sessions"]) for entry in checked] == [
        ("arousal", f"rater{number}", 2) for number in (1, 2, 3)
    ]
    assert "CCC with others" in run("check", out)
    session = read_corpus(out).session("s1")
    labels, expected = session.labels["arousal"], np.sin(session.timestamps_ms / 1000)
    is_known = np.isfinite(labels)
    assert np.corrcoef(labels[is_known], expected[is_known])[0, 1] > 0.8


def test_raters_may_be_columns_folders_or_named_by_a_pattern(tmp_path: Path, out: Path) -> None:
    rows = [f"{row / 10:.1f},{row},{row + 2}" for row in range(100)]
    table = write(tmp_path / "s1.csv", "time_s,ann,bob", *rows)
    with pytest.raises(InputError, match="--raters ewe or mean"):
        run("import", table, out, "--target", "a")
    run("import", table, out, "--target", "a", "--raters", "mean")
    for rater, shift in (("ann", 0), ("bob", 2)):
        lines = [f"{row / 10:.1f},{row + shift}" for row in range(100)]
        write(tmp_path / f"folders/s1/{rater}.csv", "time_s,v", *lines)
        write(tmp_path / f"deep/{rater}/x/s1-v2.csv", "time_s,v", *lines)
    run("import", tmp_path / "folders", out, "--target", "b", "--raters", "mean")
    pattern = ["--pattern", "{rater}/*/{session}-v2.csv"]
    run("import", tmp_path / "deep", out, "--target", "c", "--raters", "mean", *pattern)

    expected = [row + 1 for row in range(100)]
    for target in ("a", "b", "c"):
        assert column(out / f"label_segments/{target}/s1.csv", "value") == expected


def test_a_column_may_say_who_rated(tmp_path: Path, out: Path) -> None:
    rows = [
        f"{row // 2 / 10:.1f},{row % 2},s{row // 200},{row // 2 + row % 2}" for row in range(400)
    ]
    table = write(tmp_path / "all.csv", "time_s,annotator,session,value", *rows)
    with pytest.raises(InputError, match="If they are raters, fuse them"):
        run("import", table, out, "--target", "a")
    document = json.loads(run("import", table, out, "--target", "a", "--raters", "mean", "--json"))
    raters = [(rater["session"], rater["rater"]) for rater in document["raters"]]
    assert raters == [("s0", "0"), ("s0", "1"), ("s1", "0"), ("s1", "1")]
    assert column(out / "label_segments/a/s0.csv", "value") == [row + 0.5 for row in range(100)]


def test_files_of_raters_are_not_taken_for_sessions(tmp_path: Path, out: Path) -> None:
    write_raters(tmp_path / "ratings")
    with pytest.raises(InputError, match="seem to be raters of session 's1'"):
        run("import", tmp_path / "ratings", out, "--target", "arousal")


def test_folders_are_feature_sets_or_sessions(tmp_path: Path, out: Path) -> None:
    for feature_set in ("head", "voice"):
        write_table(tmp_path / f"sets/{feature_set}/s1.csv")
    run("import", tmp_path / "sets", out)
    write_table(tmp_path / "sessions/s1/gaze.csv")
    run("import", tmp_path / "sessions", out, "--set", "gaze")
    names = ("gaze", "head", "voice")
    assert files_below(out / "feature_segments") == [f"{name}/s1.csv" for name in names]


def test_texts_beside_the_files_are_set_aside_but_other_files_are_not(
    tmp_path: Path, out: Path
) -> None:
    write_table(tmp_path / "voice/a.csv")
    write(tmp_path / "voice/README.md", "# How it was recorded")
    assert "README.md is a text for people" in run("import", tmp_path / "voice", out)

    write(tmp_path / "more/b.log", *["12:00:00 INFO started"] * 5)
    write_table(tmp_path / "more/a.csv")
    with pytest.raises(InputError, match=r"more/b\.log is a program's log"):
        run("import", tmp_path / "more", out, "--set", "x")


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, out: Path, name: str) -> None:
    source = write_table(tmp_path / "s.csv")
    with pytest.raises(InputError, match=r"cannot be the name|name what it holds"):
        import_corpus(source, out, ImportOptions(set_name=name))
    assert not out.exists()


def test_sessions_of_a_set_have_one_order_of_columns(tmp_path: Path, out: Path) -> None:
    write(tmp_path / "v/a.csv", "time_s,x,y", "0.0,1,2", "0.1,1,2")
    write(tmp_path / "v/b.csv", "time_s,y,x", "0.0,2,1", "0.1,2,1")
    run("import", tmp_path / "v", out)
    assert read_rows(out / "feature_segments/v/b.csv")[0] == ["timestamp", "segment_id", "x", "y"]
    assert column(out / "feature_segments/v/b.csv", "x") == [1, 1]

    write(tmp_path / "w/c.csv", "time_s,x,z", "0.0,1,2", "0.1,1,2")
    with pytest.raises(InputError, match="would have other columns in session 'c'"):
        run("import", tmp_path / "w", out, "--set", "v")


def test_rows_in_one_millisecond_need_a_period(tmp_path: Path, out: Path) -> None:
    rows = [f"{row / 4000:.5f},{row}" for row in range(40000)]
    source = write(tmp_path / "emg.csv", "time_s,emg", *rows)
    with pytest.raises(InputError, match=r"in the millisecond of the row before.*--resample"):
        run("import", source, out, "--set", "emg")
    run("import", source, out, "--set", "emg", "--resample", 100)
    values = column(out / "feature_segments/emg/emg.csv", "emg")
    assert len(values) == 101
    assert values[1] == pytest.approx(399.5, abs=1)


def test_names_with_commas_and_quotes_come_back(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "a.csv", 'time_s\tF0, mean\t"say ""hi"""', "0.0\t1\t2", "0.1\t3\t4")
    run("import", source, out, "--set", "voice")
    header = read_rows(out / "feature_segments/voice/a.csv")[0]
    assert header == ["timestamp", "segment_id", "F0, mean", 'say "hi"']
    write_table(tmp_path / "l/a.csv")
    run("import", tmp_path / "l", out, "--target", "arousal")
    assert read_corpus(out).columns["voice"] == ("F0, mean", 'say "hi"')


def test_a_feature_that_is_called_as_a_label_is_warned_of(tmp_path: Path, out: Path) -> None:
    rows = [f"{row / 10},{row},{row}" for row in range(9)]
    source = write(tmp_path / "a.csv", "time_s,pitch,Stress", *rows)
    document = json.loads(
        run("import", source, out, "--target", "x", "--column", "Stress", "--json")
    )
    assert document["files"][0]["columns"] == ["value"]
    document = json.loads(run("import", source, out, "--set", "s", "--json"))
    run("import", source, out, "--target", "stress", "--column", "Stress")
    document = json.loads(
        run("import", source, out, "--target", "y", "--column", "Stress", "--json")
    )
    assert any("has a column 'Stress'" in warning for warning in document["warnings"])


def test_the_report_says_what_was_understood(tmp_path: Path, out: Path) -> None:
    document = json.loads(run("import", write_e4(tmp_path / "P01", START_S), out, "--json"))
    assert (document["format"], document["kind"]) == ("e4", "feature set")
    [acc] = [file for file in document["files"] if file["name"] == "acc"]
    assert (acc["rows_read"], acc["rows_written"], acc["rate_hz"]) == (64, 64, 32)
    assert acc["units"] == {"acc_x": "g", "acc_y": "g", "acc_z": "g"}
    assert acc["start"] == "2019-06-11T19:03:45Z"
    assert document["new_sessions"] == {"P01": "train"}


@pytest.mark.parametrize("name", ["fusion", "segment_id", "a,b", "x" * 260])
def test_a_name_that_training_would_refuse_is_refused_at_once(
    tmp_path: Path, out: Path, name: str
) -> None:
    source = write_table(tmp_path / "s.csv")
    for options in (ImportOptions(set_name=name), ImportOptions(target=name)):
        with pytest.raises(InputError, match="cannot be the name of a"):
            import_corpus(source, out, options)
    assert not out.exists()


def test_other_columns_of_the_metadata_stay_as_they_are(tmp_path: Path, out: Path) -> None:
    write_table(out / "feature_segments/voice/a.csv", column="x")
    people = ("age;participant;session", "33;p1;a")
    write(out / "metadata/participants.csv", *people)
    write(out / "metadata/partition.csv", "Proposal,Id,site", "train,a,here")
    more = write(tmp_path / "people.txt", "subject\trecording", "p2\tb")
    run("import", write_table(tmp_path / "b.csv"), out, "--set", "face", "--participants", more)
    assert read_rows(out / "metadata/participants.csv") == [
        ["age", "participant", "session"],
        ["33", "p1", "a"],
        ["", "p2", "b"],
    ]
    assert read_rows(out / "metadata/partition.csv")[:2] == [
        ["Proposal", "Id", "site"],
        ["train", "a", "here"],
    ]


def test_metadata_between_tabs_is_not_doubled(tmp_path: Path, out: Path) -> None:
    write_table(out / "feature_segments/voice/a.csv", column="x")
    write(out / "metadata/partition.tsv", "Id\tProposal", "a\ttrain")
    with pytest.raises(InputError, match=r"has metadata/partition\.tsv, and imports write"):
        run("import", write_table(tmp_path / "b.csv"), out, "--set", "voice")


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_a_table_of_people_may_be_of_any_encoding(tmp_path: Path, out: Path, encoding: str) -> None:
    people = tmp_path / "people.csv"
    people.write_bytes("session;participant\na;Jürgen\n".encode(encoding))
    source = write_table(tmp_path / "a.csv")
    run("import", source, out, "--set", "voice", "--participants", people)
    assert read_rows(out / "metadata/participants.csv")[1:] == [["a", "Jürgen"]]


@pytest.mark.parametrize("columns", ["GoldStandard", "arousal,valence", "Rating"])
def test_labels_are_not_taken_for_features_unless_someone_says_so(
    tmp_path: Path, out: Path, columns: str
) -> None:
    rows = [",".join([f"{row / 10}", *["1"] * len(columns.split(","))]) for row in range(9)]
    write(tmp_path / "gold/a.csv", f"time_s,{columns}", *rows)
    with pytest.raises(InputError, match=r"seems to hold labels.*--target arousal"):
        run("import", tmp_path / "gold", out)
    assert "called as labels are" in run("import", tmp_path / "gold", out, "--set", "ratings")


@pytest.mark.parametrize("lines", [("anna,ben", "{0},{1}"), ("rater,value", "r{2},{0}")])
def test_a_folder_of_tables_may_name_its_raters_inside(
    tmp_path: Path, out: Path, lines: tuple[str, str]
) -> None:
    rows = [f"{row // 2 / 10}," + lines[1].format(row // 2, row, row % 2) for row in range(80)]
    kept = rows if "rater" in lines[0] else rows[::2]
    write(tmp_path / "gold/P.csv", f"time_s,{lines[0]}", *kept)
    arguments = ("--target", "arousal", "--raters", "mean", "--json")
    document = json.loads(run("import", tmp_path / "gold", out, *arguments))
    assert {rater["session"] for rater in document["raters"]} == {"P"}
    assert len(document["raters"]) == 2


def test_a_note_without_a_place_is_said_once(tmp_path: Path, out: Path) -> None:
    write_e4(tmp_path / "P01", START_S)
    write(tmp_path / "P01/IBI.csv", f"{START_S}, IBI")
    assert run("import", tmp_path / "P01", out).count("IBI.csv has no rows") == 1


@pytest.mark.parametrize("name", ["my corpus", "it's", "größe $HOME"])
def test_the_next_commands_can_be_pasted_whatever_the_folder_is_called(
    tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    source = write_table(tmp_path / "a.csv", column="pitch", power=2)
    for arguments in (("--set", "voice"), ("--target", "arousal")):
        document = json.loads(run("import", source, out, *arguments, "--json"))
        for command in document["next_commands"]:
            assert str(out) in shlex.split(command)
