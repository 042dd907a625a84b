"""Every format: recognised by its content, read as it is meant, and refused where it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from pipeline.data.importing.formats.recording import ReadOptions, Recording
from pipeline.data.importing.formats.registry import find_format, format_named
from pipeline.data.importing.formats.source_file import SourceFile, describe_unreadable
from pipeline.errors import InputError
from tests.pipeline_tests.data.importing.sources import write
from tests.pipeline_tests.data.importing.xdf_file import write_xdf


def read(path: Path, expected_format: str, **options: object) -> Recording:
    """Read a file that must be recognised as of a format."""
    file = SourceFile(path, path.name)
    found = find_format(file)
    assert found is not None, describe_unreadable(file)
    assert found.name == expected_format
    return found.read(file, ReadOptions(**options))  # type: ignore[arg-type]


def test_opensmile_has_seconds_names_and_a_counter(tmp_path: Path) -> None:
    path = write(
        tmp_path / "any.txt",
        "name;frameIndex;frameTime;F0;jitter",
        "'audio/P01.wav';0;0.00;1.5;2",
        "'audio/P01.wav';1;0.01;2.5;3",
        "'audio/P02.wav';0;0.00;3.5;4",
        "'audio/P02.wav';1;0.01;4.5;5",
    )
    first, second = read(path, "opensmile").tracks
    assert (first.session, second.session) == ("P01", "P02")
    assert first.columns == ("F0", "jitter")
    assert second.times_s.tolist() == [0, 0.01]
    assert second.values.tolist() == [[3.5, 4], [4.5, 5]]


def test_opensmile_without_a_name_states_no_session(tmp_path: Path) -> None:
    rows = ("name;frameTime;F0", "'unknown';0.0;1", "'unknown';0.5;2")
    [track] = read(write(tmp_path / "x.csv", *rows), "opensmile").tracks
    assert track.session == ""


def test_opensmile_counts_frames_only_by_a_rate_that_is_given(tmp_path: Path) -> None:
    rows = ("name;frameIndex;F0", "'a';0;1", "'a';1;2", "'a';3;2", "'b';0;3", "'b';1;4")
    path = write(tmp_path / "x.csv", *rows)
    with pytest.raises(InputError, match="--rate-hz"):
        read(path, "opensmile")
    first, _ = read(path, "opensmile", rate_hz=100.0).tracks
    assert first.times_s.tolist() == [0, 0.01, 0.03]


def test_functionals_over_a_whole_recording_are_no_features_over_time(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.arff",
        "@relation openSMILE_features",
        "@attribute name string",
        "@attribute frameTime numeric",
        "@attribute F0_mean numeric",
        "@attribute class numeric",
        "@data",
        "'a.wav',0,1.5,?",
        "'b.wav',0,1.25,?",
    )
    with pytest.raises(InputError, match="one row per recording"):
        read(path, "arff")


ARFF_HEAD = (
    "% made by Weka",
    "@RELATION 'gold standard'",
    "@ATTRIBUTE Instance_name STRING",
    "@ATTRIBUTE frameTime REAL",
    "@ATTRIBUTE 'Gold Standard' NUMERIC",
    "@ATTRIBUTE split {train, devel}",
    "@DATA",
)


@pytest.mark.parametrize(
    "rows",
    [
        ("dev_1,0,-0.5,train", "dev_1,0.04,?,train"),
        ("'dev_1',0,-0.5,train", "% a comment", "", '"dev_1", 0.04 , ?, devel'),
        ("dev_1\t0\t-0.5\ttrain", "dev_1\t0.04\t?\ttrain"),
        ("{0 dev_1, 2 -0.5}", "{0 'dev_1', 1 0.04, 2 ?, 3 devel}"),
    ],
)
def test_arff_rows_are_read_however_they_are_written(tmp_path: Path, rows: list[str]) -> None:
    recording = read(write(tmp_path / "gold.txt", *ARFF_HEAD, *rows), "arff")
    [track] = recording.tracks
    assert (track.session, track.columns) == ("dev_1", ("Gold Standard",))
    assert track.times_s.tolist() == [0, 0.04]
    np.testing.assert_array_equal(track.values[:, 0], [-0.5, np.nan])
    assert "'split'" in recording.notes[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("dev_1,0,1,train", "dev_1,0.04,x,train"), r"line 9, column 'Gold Standard': 'x'"),
        (("dev_1,0,1",), "line 8: 3 cells, but there are 4 attributes"),
        (("{1 0.5, 2 1}",), "leaves out 'Instance_name'"),
        (("{0 dev_1, 9 1}",), "'9 1' is no cell of a sparse row"),
        (("'dev_1,0,1,train",), "quotes"),
        ((), "no rows below @data"),
    ],
)
def test_arff_rows_that_break_the_format_are_named(
    tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "x.arff", *ARFF_HEAD, *rows), "arff")


def test_arff_dates_are_times(tmp_path: Path) -> None:
    head = ("@relation r", '@attribute t date "yyyy-MM-dd HH:mm:ss"', "@attribute a real", "@data")
    rows = ('"2023-06-12 12:05:03",1', '"2023-06-12 12:05:04",2')
    [track] = read(write(tmp_path / "x.arff", *head, *rows), "arff").tracks
    assert track.clock == "local"
    assert track.times_s.tolist() == [1686571503, 1686571504]


def test_arff_dates_of_a_pattern_are_translated_or_refused(tmp_path: Path) -> None:
    def head(pattern: str) -> tuple[str, ...]:
        return ("@relation r", f"@attribute t date '{pattern}'", "@attribute a real", "@data")

    rows = ("'12.06.2023 12:05:03',1", "'12.06.2023 12:05:04',2")
    [track] = read(write(tmp_path / "x.arff", *head("dd.MM.yyyy HH:mm:ss"), *rows), "arff").tracks
    assert track.times_s.tolist() == [1686571503, 1686571504]
    with pytest.raises(InputError, match="date pattern 'EEE dd'"):
        read(write(tmp_path / "y.arff", *head("EEE dd"), *rows), "arff")


def test_relational_attributes_are_refused_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.arff", "@relation r", "@attribute bag relational", "@data")
    with pytest.raises(InputError, match="line 2: attributes of the kind 'relational'"):
        read(path, "arff")


OPENFACE = "frame, face_id, timestamp, confidence, success, AU01_r, gaze_0_x"


def test_openface_frames_without_a_face_are_missing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv", OPENFACE, "1, 0, 0.000, 0.98, 1, 0.5, 1", "2, 0, 0.033, 0.1, 0, 0, 0"
    )
    recording = read(path, "openface")
    [track] = recording.tracks
    assert track.columns == ("AU01_r", "gaze_0_x")
    assert track.times_s.tolist() == [0, 0.033]
    np.testing.assert_array_equal(track.values, [[0.5, 1], [np.nan, np.nan]])
    assert track.num_missing_rows == 1
    assert "1 of 2 rows are missing, by 'confidence', 'success'" in " ".join(recording.notes)


def test_of_several_faces_one_is_named(tmp_path: Path) -> None:
    rows = ("1,0,0.0,1,1,5,1", "1,1,0.0,1,1,6,2", "2,0,0.1,1,1,7,3", "2,1,0.1,1,1,8,4")
    path = write(tmp_path / "x.csv", OPENFACE, *rows)
    with pytest.raises(InputError, match=r"2 faces: 0 in 2 rows, 1 in 2 rows.*--face 0"):
        read(path, "openface")
    [track] = read(path, "openface", face=1).tracks
    assert track.values[:, 0].tolist() == [6, 8]
    with pytest.raises(InputError, match="no face 7"):
        read(path, "openface", face=7)


def test_openface_of_one_face_needs_no_face_id(tmp_path: Path) -> None:
    rows = ("frame, timestamp, confidence, success, AU01_r", "1, 0, 1, 1, 2", "2, 0.1, 1, 1, 3")
    [track] = read(write(tmp_path / "x.csv", *rows), "openface").tracks
    assert track.values[:, 0].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("lines", "times_s", "columns"),
    [
        ((",timestamp,a", "0,0.0,1", "1,0.1,2"), [0, 0.1], ("a",)),
        (("Unnamed: 0,timestamp,a", "0,0.0,1", "1,0.1,2"), [0, 0.1], ("a",)),
        ((",a", "0.0,1", "0.1,2"), [0, 0.1], ("a",)),
        ((",a", "2023-06-12 12:05:03,1", "2023-06-12 12:05:03.100000,2"), [0, 0.1], ("a",)),
        (("# made by numpy", "# time a", "0.0 1", "0.1 2"), [0, 0.1], ("a",)),
        (("sep=;", "time;a", "0,0;1", "0,1;2"), [0, 0.1], ("a",)),
        (("time,a,b,note", "0.0,1,3,x", "0.1,2,4,y"), [0, 0.1], ("a", "b")),
        (("time,frame,a,success", "0.0,1,1,1", "0.1,2,2,1"), [0, 0.1], ("a",)),
    ],
)
def test_a_table_is_read_without_what_counts_its_rows(
    tmp_path: Path, lines: tuple[str, ...], times_s: list[float], columns: tuple[str, ...]
) -> None:
    [track] = read(write(tmp_path / "x.dat", *lines), "table").tracks
    np.testing.assert_allclose(track.times_s - track.times_s[0], times_s, atol=1e-6)
    assert track.columns == columns
    assert track.values[:, 0].tolist() == [1, 2]


def test_a_count_of_rows_is_no_time(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ",a", "0,1", "1,2", "2,3")
    with pytest.raises(InputError, match=r"no column that is called a time.*--rate-hz"):
        read(path, "table")
    [track] = read(path, "table", rate_hz=4.0).tracks
    assert track.times_s.tolist() == [0, 0.25, 0.5]
    assert track.columns == ("a",)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("time,a", "0.1,1", "0.0,2"), "go back in time"),
        (("time,a", "0.0,1", ",2"), "line 3, column 'time'"),
        (("time,a", "0.0,1", "0.1,one"), "line 3, column 'a': 'one' is no number"),
    ],
)
def test_a_table_that_breaks_its_own_rules_is_refused(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "x.csv", *lines), "table")


def test_a_simple_text_format_states_rate_columns_and_units(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x",
        "# Simple Text Format",
        "# Sampling Rate (Hz):= 4.00",
        "# Date:= 2023-06-12T12:05:03",
        "# Units:= mV\tV",
        "# Labels:= ECG\tEDA",
        "1\t2",
        "3\t4",
    )
    [track] = read(path, "opensignals").tracks
    assert track.columns == ("ECG", "EDA")
    assert track.units == {"ECG": "mV", "EDA": "V"}
    assert track.clock == "local"
    assert track.times_s.tolist() == [1686571503, 1686571503.25]


def opensignals(*rows: str) -> tuple[str, ...]:
    device = '{"00:07": {"sampling rate": 10, "column": ["nSeq", "CH1"], "date": "2023-6-12",'
    return (
        "# OpenSignals Text File Format",
        f'# {device} "time": "12:05:03.0"}}}}',
        "# EndOfHeader",
        *rows,
    )


def test_opensignals_counts_its_samples(tmp_path: Path) -> None:
    rows = ("14\t500\t", "15\t501\t", "0\t502\t")
    [track] = read(write(tmp_path / "x.txt", *opensignals(*rows)), "opensignals").tracks
    assert track.columns == ("CH1",)
    assert track.times_s[0] == 1686571503
    assert track.values[:, 0].tolist() == [500, 501, 502]

    path = write(tmp_path / "y.txt", *opensignals("0\t5\t", "1\t5\t", "4\t5\t"))
    with pytest.raises(InputError, match="samples were lost, first after row 2"):
        read(path, "opensignals")


@pytest.mark.parametrize("header", ["{" * 3, '{"a":' * 50_000, '{"a": 1, "a": 2}', "{}"])
def test_a_header_that_is_no_device_is_refused(tmp_path: Path, header: str) -> None:
    lines = ("# OpenSignals Text File Format", f"# {header}", "# EndOfHeader", "1\t2")
    with pytest.raises(InputError, match="not that of one device"):
        read(write(tmp_path / "x.txt", *lines), "opensignals")


@pytest.mark.parametrize("labels", ["ECG", "ECG\tEDA\tACC"])
def test_a_header_that_names_other_columns_is_refused(tmp_path: Path, labels: str) -> None:
    head = ("# Simple Text Format", "# Sampling Rate (Hz):= 4", f"# Labels:= {labels}")
    with pytest.raises(InputError, match="its rows have 2"):
        read(write(tmp_path / "x.txt", *head, "1\t2", "3\t4"), "opensignals")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("EDA", ("1560279825.0", "4.0", "0.1", "x"), r"line 4, column 'eda': 'x' is no number"),
        ("EDA", ("1560279825.0", "0.0", "0.1"), "line 2: '0.0' is no rate"),
        ("ACC", ("1560279825.0,1560279825.0,1560279825.0", "32,32,32", "1,2"), "line 3: 2 cells"),
        ("ACC", ("1560279825.0,1560279825.0,1560279825.0", "32,32,16", "1,2,3"), "is no rate"),
        ("IBI", ("1560279825.0, IBI", "2.5,0.8", "1.5,0.8"), "line 3: the time goes back"),
    ],
)
def test_a_sensor_of_an_e4_that_is_not_as_it_should_be_is_refused(
    tmp_path: Path, name: str, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / f"{name}.csv", *lines), "e4")


def test_an_empty_line_is_a_sample_where_times_are_counted(tmp_path: Path) -> None:
    eda = write(tmp_path / "EDA.csv", "1560279825.0", "4.0", "0.5", "", "0.75")
    starts = "1560279825.0,1560279825.0,1560279825.0"
    acc = write(tmp_path / "ACC.csv", starts, "4,4,4", "32,1,1", "", "48,1,1")
    head = ("# Simple Text Format", "# Sampling Rate (Hz):= 4", "# Labels:= EDA")
    simple = write(tmp_path / "x.txt", *head, "0.5", "", "0.75")
    for path, name in ((eda, "e4"), (acc, "e4"), (simple, "opensignals")):
        [track] = read(path, name).tracks
        np.testing.assert_array_equal(track.values[:, 0], [0.5, np.nan, 0.75])
        assert (track.times_s - track.times_s[0]).tolist() == [0, 0.25, 0.5]


def write_edf(path: Path, *, discontinuous: bool = False) -> Path:
    """Write four seconds of two signals with an annotation."""
    signals = [
        edfio.EdfSignal(np.linspace(-1, 1, 40), 10, label="EDA", physical_dimension="uS"),
        edfio.EdfSignal(np.linspace(-5, 5, 400), 100, label="ECG", physical_dimension="mV"),
    ]
    edf = edfio.Edf(signals, annotations=[edfio.EdfAnnotation(1, None, "start")])
    edf.write(path)
    if discontinuous:
        content = path.read_bytes().replace(b"EDF+C", b"EDF+D")
        # The second record of one second begins three seconds later than the first one ends.
        path.write_bytes(content.replace(b"+1\x14\x14", b"+4\x14\x14"))
    return path


def test_edf_signals_of_one_rate_are_a_track(tmp_path: Path) -> None:
    recording = read(write_edf(tmp_path / "x.bin"), "edf")
    fast, slow = recording.tracks
    assert (fast.name, fast.columns, fast.units) == ("edf_100hz", ("ECG",), {"ECG": "mV"})
    assert (slow.name, slow.columns, slow.num_rows) == ("edf_10hz", ("EDA",), 40)
    np.testing.assert_allclose(slow.values[:, 0], np.linspace(-1, 1, 40), atol=1e-4)
    np.testing.assert_allclose(np.diff(fast.times_s), 0.01)
    assert "1 annotations are set aside" in recording.notes[0]


def test_an_edf_file_with_gaps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has gaps \(EDF\+D\)"):
        read(write_edf(tmp_path / "x.edf", discontinuous=True), "edf")


def test_a_damaged_edf_file_is_refused(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "x.edf")
    path.write_bytes(path.read_bytes().replace(b"+0\x14\x14", b"+\xff\x14\x14"))
    with pytest.raises(InputError, match=r"x\.edf is a damaged EDF or BDF file"):
        read(path, "edf")


def test_bdf_is_not_read_as_edf(tmp_path: Path) -> None:
    signal = edfio.BdfSignal(np.linspace(-1, 1, 40), 10, label="EDA")
    edfio.Bdf([signal]).write(tmp_path / "x.bdf")
    [track] = read(tmp_path / "x.bdf", "edf").tracks
    assert track.name == "bdf"
    np.testing.assert_allclose(track.values[:, 0], np.linspace(-1, 1, 40), atol=1e-5)


@pytest.mark.parametrize("extra", ["edf", "xdf"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    path = write_edf(tmp_path / "x.edf") if extra == "edf" else write_xdf(tmp_path / "x.xdf")
    monkeypatch.setitem(sys.modules, {"edf": "edfio", "xdf": "pyxdf"}[extra], None)
    with pytest.raises(InputError, match=rf"pip install 'affectune\[{extra}\]'"):
        read(path, extra)


def test_xdf_streams_of_numbers_are_tracks_and_markers_are_set_aside(tmp_path: Path) -> None:
    recording = read(write_xdf(tmp_path / "x.bin"), "xdf")
    [track] = recording.tracks
    assert (track.name, track.columns, track.clock) == ("My_EDA", ("eda", "temp"), "lsl")
    assert track.units == {"eda": "uS", "temp": "C"}
    np.testing.assert_allclose(track.times_s, [5, 5.5, 6])
    assert track.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert "Stream 'Marks' has 2 markers in text: set aside." in recording.notes
    assert "Stream 'Empty' has no samples: set aside." in recording.notes


def test_a_cut_xdf_file_is_refused(tmp_path: Path) -> None:
    path = write_xdf(tmp_path / "x.xdf")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="damaged XDF file"):
        read(path, "xdf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 rest", "Excel workbook"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"RIFF....WAVE", "audio or video"),
        (b"\x00\x00\x00\x18ftypmp42", "MP4"),
        (b'{"a": [1, 2]}', "JSON"),
        (b"<html><body>", "XML or HTML"),
        (b"2023-06-12 14:05:03,902 | INFO | started\n" * 5, "program's log"),
        (b"Permission is hereby granted, free of charge\n", "no table"),
        (bytes(range(128, 256)) * 40 + bytes(3000), "binary file"),
    ],
)
def test_what_is_no_table_is_told_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    file = SourceFile(path, "x.csv")
    assert find_format(file) is None
    assert message in describe_unreadable(file)


def test_a_format_that_there_is_not_names_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"no format 'mat'.*xdf, edf, arff"):
        format_named("mat")


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("pid", lambda row: "7"),
        ("clip_id", lambda row: "3"),
        ("Sample No.", str),
        ("epoch_time", lambda row: str(1_700_000_000 + row / 2)),
        ("frame_idx", str),
        ("participant", lambda row: "P1"),
    ],
)
def test_an_import_sets_aside_what_a_corpus_would_set_aside(
    tmp_path: Path, name: str, cell: Callable[[int], str]
) -> None:
    rows = [f"{row / 2},{cell(row)},{np.sin(row):.4f}" for row in range(30)]
    recording = read(write(tmp_path / "x.csv", f"time_s,{name},a", *rows), "table")
    assert recording.tracks[0].columns == ("a",)
    assert repr(name) in " ".join(recording.notes)


@pytest.mark.parametrize("name", ["pid", "epoch_time"])
def test_a_column_that_a_person_names_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    rows = [f"{row / 2},{row / 2},{row % 7}" for row in range(30)]
    path = write(tmp_path / "x.csv", f"time_s,{name},a", *rows)
    assert read(path, "table", columns=(name,)).tracks[0].columns == (name,)


def test_labels_may_rise_in_step_with_the_time(tmp_path: Path) -> None:
    rows = [f"{row / 2},{row},{row % 7}" for row in range(30)]
    path = write(tmp_path / "x.csv", "time_s,ann,ben", *rows)
    assert read(path, "table", is_label=True).tracks[0].columns == ("ann", "ben")
    assert read(path, "table").tracks[0].columns == ("ben",)


@pytest.mark.parametrize(("format_name", "time"), [("openface", "timestamp"), ("table", "time_s")])
def test_a_low_confidence_marks_a_row_beside_a_success(
    tmp_path: Path, format_name: str, time: str
) -> None:
    rows = (f"{time},confidence,success,a", "0.0,0.9,1,5", "0.1,0.3,1,6", "0.2,0.9,,7")
    [track] = read(write(tmp_path / "x.csv", *rows), format_name).tracks
    np.testing.assert_array_equal(track.values[:, 0], [5, np.nan, np.nan])
    assert track.num_missing_rows == 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("subject,session,time_s,a", r"session 'v1' has rows of 2 people.*such as 'S1_v1'"),
        ("participant_id,session,time_s,a", "session 'v1' has rows of 2 people"),
        ("subject,note,time_s,a", r"2 people by its column 'subject'.*Add a column 'session'"),
    ],
)
def test_recordings_of_two_people_are_not_one_session(
    tmp_path: Path, header: str, message: str
) -> None:
    rows = [f"S{1 + row // 5},v1,{row / 2},{row % 3}" for row in range(10)]
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "x.csv", header, *rows), "table")


def test_speakers_may_change_within_a_session(tmp_path: Path) -> None:
    rows = [f"{'AB'[row % 2]},{row / 2},{row % 3}" for row in range(10)]
    [track] = read(write(tmp_path / "x.csv", "speaker,time_s,a", *rows), "table").tracks
    assert track.columns == ("a",)
