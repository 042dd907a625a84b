"""The page's modules without a browser, tried with node: tables, uses, labels, archives."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.tables.csv_columns import MISSING
from pipeline.data.tables.parse import parse_features, parse_labels
from pipeline.errors import InputError
from pipeline.metrics.ccc import ccc
from serving.page.routes import FILES
from serving.requests.schema import read_json
from serving.settings import Limits

PAGE = Path(__file__).parents[2] / "serving/page"
MODULES = ("assignment", "ccc", "prediction_files", "series", "session", "table", "zip")
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="NOT TESTED: the page's files, without node")
Run = Callable[..., Any]
DEMO = {
    "targets": ["arousal", "valence"],
    "features": {
        "face": ["AU00", "AU01"],
        "text": ["0", "1", "2"],
        "voice": ["0", "1", "2", "3"],
    },
}
"""A model like the demo's: the columns of text are among those of voice."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the value of an expression with what the modules export, or its mistake's message."""
    # As files of a package that says so, node takes them for modules, whatever its version.
    folder = tmp_path_factory.mktemp("modules")
    for path in PAGE.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    imports = "".join(f'import * as {name} from "./{name}.js";' for name in MODULES)

    def evaluate(expression: str, **values: Any) -> Any:
        names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        code = (
            f"{imports} {names} let result;"
            f"try {{ result = {expression}; }} catch (error) {{ result = error.message; }}"
            "console.log(JSON.stringify(result));"
        )
        assert NODE is not None
        command = [NODE, "--input-type=module", "-"]
        done = subprocess.run(
            command, input=code, capture_output=True, text=True, check=True, cwd=folder
        )
        return json.loads(done.stdout)

    return evaluate


def test_every_file_of_the_page_is_served() -> None:
    kinds = (".js", ".css", ".html")
    assert sorted(FILES) == sorted(path.name for path in PAGE.iterdir() if path.suffix in kinds)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,segment_id,a,b\n0,1,1,2\n500,1,3,4\n1000,1,5,7\n",
        '"timestamp", "segment_id", "a, b", b\n0,1,"1.5",2\n500,1," 3 ",4\n1000,1,5,"7"\n',
        "timestamp,segment_id,a,b,\n0,1,1,2,\n500,1,3,4,\n1000,1,5,7,\n",
        "timestamp,segment_id,a,b\n0,1,1,2,,\n500,1,3,4,,\n1000,1,5,7,,\n",
        '\ufeffb,"a""c",TIMESTAMP,Subject_ID\r\n1,1e1,0,1\r\n\r\n3,.5,500,1\r\n7,-2.,1000,1\r\n',
    ],
    ids=["plain", "quoted", "commas at the end", "commas below only", "shuffled"],
)
def test_the_page_reads_what_is_read_from_the_disk(run: Run, text: str) -> None:
    table = run('table.readTable(text, "s.csv")', text=text)
    expected = parse_features(text.encode(), "s.csv")
    assert tuple(table["columns"]) == expected.columns
    assert table["times"] == expected.timestamps.tolist()
    assert np.array_equal(np.float32(table["data"]), expected.values)


def test_what_stands_for_a_missing_number_is_missing(run: Run) -> None:
    blanks = [*MISSING, "  ", " ? ", "-NAN", "n/A", "inf", "-Infinity"]
    rows = "\n".join(f"{row},1,{blank},2" for row, blank in enumerate(blanks))
    table = run('table.readTable(text, "s.csv")', text=f"timestamp,segment_id,a,b\n{rows}\n")
    assert table["data"] == [[None, 2]] * len(blanks)
    assert table["mistakes"] == {}


@pytest.mark.parametrize("cell", ["0x10", "off", "1 2", "1_000", "0b1", "true"])
def test_a_text_in_a_column_that_is_read_is_a_mistake(run: Run, cell: str) -> None:
    text = f"timestamp,segment_id,a,note\n0,1,1,x\n\n500,1,{cell},y\n"
    read = 'session.toRequest("s", { set: table.readTable(text, "s.csv") }, { set: columns })'
    assert run(read, text=text, columns=["a"]) == 's.csv, line 4, column "a" is no number.'
    # By position, too, where columns are numbered from another start than the model's.
    numbered = text.replace(",a,", ",0,")
    assert "line 4" in run(read, text=numbered, columns=["1"])
    with pytest.raises(InputError, match="line 4, column 'a'"):
        parse_features(text.replace(",x", ",1").replace(",y", ",2").encode(), "s.csv")


def test_marks_of_rows_are_sent_as_numbers_and_other_texts_as_null(run: Run) -> None:
    text = "timestamp,a,success,filename\n0,1,Yes,x.wav\n500,2,FALSE,\n1000,3,true,7\n"
    table = run('table.readTable(text, "s.csv")', text=text)
    assert table["data"] == [[1, 1, None], [2, 0, None], [3, 1, 7]]


def test_every_file_keeps_its_own_timestamps(run: Run) -> None:
    """The endpoint puts rows on frames as in training: the page would only take the nearest."""
    slow = "timestamp,segment_id,a\n0,1,1\n500,1,2\n"
    fast = "timestamp,segment_id,b\n0,1,1\n50,1,2\n100,1,3\n"
    tables = '{ x: table.readTable(slow, "x.csv"), y: table.readTable(fast, "y.csv") }'
    model = {
        "features": {"x": ["a"], "y": ["b", "b_std"]},
        "resampling": {"x": "nearest", "y": "mean+std"},
    }
    ask = f'session.toRequest("s", {tables}, assignment.fileColumns(model))'
    read = read_json(json.dumps(run(ask, slow=slow, fast=fast, model=model)).encode(), Limits())
    assert read.timestamps_ms is None
    times = {
        name: np.array(each.timestamps_ms).tolist() for name, each in read.feature_sets.items()
    }
    assert times == {"x": [0, 500], "y": [0, 50, 100]}
    assert run('assignment.assign("s.csv", ["b"], model).use', model=model | {"targets": []}) == (
        "features y"
    )


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("timestamp,a\n\n0,1\n0,2\n", "s.csv, line 4: timestamps must ascend."),
        ("timestamp,a\n0,1\n,2\n", "s.csv, line 3: timestamps must ascend."),
        ("timestamp,a\n0,1\nx,2\n", 's.csv, line 3, column "timestamp" is no number.'),
        ("timestamp,a\n\n0,1,5\n", "s.csv, line 3: 3 cells, but the header has 2."),
        ("timestamp,a\n", "s.csv has no rows."),
    ],
)
def test_mistakes_name_the_line_of_the_file(run: Run, text: str, mistake: str) -> None:
    read = 'session.toRequest("s", { set: table.readTable(text, "s.csv") }, { set: ["a"] })'
    assert run(read, text=text) == mistake


def test_a_file_is_what_its_columns_or_else_its_names_say(run: Run) -> None:
    cases = [
        ("S1.csv", ["0", "1", "2"], "features text"),
        ("S1.csv", ["2", "0", "3", "1"], "features voice"),
        ("S1.csv", ["1", "2", "3", "4"], "features voice"),
        ("S1.csv", ["0", "1", "2", "success"], "features text"),
        ("S1.csv", ["0", "1", "2", "3", "success", "file"], "features voice"),
        ("S1.csv", ["confidence", "AU01", "AU00"], "features face"),
        ("corpus/features/text/S1.csv", ["0", "1", "2"], "features text"),
        ("features/face/S1.csv", ["AU00", "AU07"], "features face"),
        ("label_segments/arousal/S1.csv", ["value"], "label arousal"),
        ("S1_valence.csv", ["value"], "label valence"),
        ("valence.csv", ["rater", "value"], "label valence"),
    ]
    found = assign(run, cases)
    assert found == [{"use": use, "why": ""} for _, _, use in cases]


def test_a_file_that_may_be_several_or_none_is_not_assigned(run: Run) -> None:
    cases = [
        ("S1.csv", ["value"], "it may be label of arousal or label of valence"),
        ("S1.csv", ["0", "1", "2", "3", "4"], "no feature set"),
        ("S1.csv", ["x", "y"], "no feature set"),
        ("S1.csv", ["AU00"], "1 of the 2 columns of face is missing: AU01."),
        ("text/S1.csv", ["0", "1", "2", "3"], "named text, but has the columns of voice"),
        ("arousal/S1.csv", ["AU00", "AU01"], "label of arousal, but has the columns of face"),
        ("S1.csv", [], "no column beside"),
    ]
    for found, (_, _, why) in zip(assign(run, cases), cases, strict=True):
        assert found["use"] is None
        assert why in found["why"]


def assign(run: Run, cases: list[tuple[str, list[str], str]]) -> Any:
    """Return what the files of some cases are to `DEMO`."""
    return run(
        "cases.map(([path, columns]) => assignment.assign(path, columns, model))",
        cases=cases,
        model=DEMO,
    )


def test_the_same_columns_of_two_feature_sets_are_told_apart_by_their_names(run: Run) -> None:
    model = {"targets": ["arousal"], "features": {"vggface": ["0", "1"], "vit": ["0", "1"]}}
    paths = ["S1.csv", "vit/S1.csv", "S1_vggface.csv", "vit_S1.csv"]
    uses = run(
        "paths.map((path) => assignment.assign(path, ['0', '1'], model).use)",
        paths=paths,
        model=model,
    )
    assert uses == [None, "features vit", "features vggface", "features vit"]


def test_the_session_of_a_file_is_its_name_without_the_feature_set(run: Run) -> None:
    session_of = {
        "S1.csv": "S1",
        "corpus/feature_segments/voice/voice_1.csv": "voice_1",
        "S1_voice.csv": "S1",
        "Text-S1.CSV": "S1",
        "S1.arousal.csv": "S1",
        "S1/face.csv": "S1",
        "face.csv": "session",
        "invoice.csv": "invoice",
    }
    sessions = run(
        "paths.map((path) => assignment.sessionOf(path, model))", paths=list(session_of), model=DEMO
    )
    assert sessions == list(session_of.values())


def test_the_ccc_is_that_of_the_pipeline(run: Run) -> None:
    random = np.random.default_rng(0)
    label = random.normal([[0.0], [1e6], [3.0], [0.0]], size=(4, 50))
    prediction = 0.7 * label + random.normal(size=label.shape)
    label[2], prediction[3] = 3.0, 0.25
    constant = [[0.1] * 7, [0.3] * 7]
    series = [*zip(label.tolist(), prediction.tolist(), strict=True), constant, [[], []]]

    pairs = [list(zip(*each, strict=True)) for each in series]
    values = run("pairs.map(ccc.ccc)", pairs=pairs)
    expected = [ccc(*each) for each in series]
    np.testing.assert_allclose(np.array(values, float), expected, rtol=0, atol=1e-12)
    assert values[4:] == [None, None]


def test_labels_are_compared_where_they_are_and_where_a_frame_is(run: Run) -> None:
    label = {"values": [1, None, 3, 4], "times": [0, 490, 1010, 9000]}
    frames = run("session.nearestFrames(label.times, [0, 500, 1000], 250)", label=label)
    assert frames == [0, 1, 2, -1]
    pairs = run(
        "ccc.labelledPairs({ ...label, frames }, [0.5, 0.6, 0.7])", label=label, frames=frames
    )
    assert pairs == [[1, 0.5], [3, 0.7]]


def test_frames_are_those_of_the_labels_at_the_model_rate(run: Run) -> None:
    """As in a corpus: what the page predicts of a labelled session is what `evaluate` does."""
    labels = [{"times": [0, 500, 1000]}, {"times": [0, 500, 1000]}, {"times": [0, 40, 80]}]
    frames = "session.labelFrames"
    calls = f"[{frames}(labels.slice(0, 2), 500), {frames}(labels, 500), {frames}([], 500)]"
    assert run(calls, labels=labels) == [[0, 500, 1000], None, None]
    assert run(f"{frames}([labels[2]], 500)", labels=labels) is None


def test_no_line_and_no_area_bridges_missing_frames(run: Run) -> None:
    times, values = [0, 1, 2, 6, 7, 8, 9, 20], [1, 2, 3, 4, None, 6, 7, 8]
    line = run("series.line(times, values)", times=times, values=values)
    assert line["x"] == [0, 1, 2, None, 6, None, 8, 9, None, 20]
    assert line["y"] == [1, 2, 3, None, 4, None, 6, 7, None, 8]
    assert [size > 0 for size in line["marker"]["size"]] == [x in (6, 20) for x in line["x"]]

    area = run("series.ribbon(times, times.map(() => 0), values)", times=times, values=values)
    assert area["x"][:7] == [0, 1, 2, 2, 1, 0, None]
    assert area["y"][:7] == [1, 2, 3, 0, 0, 0, None]
    assert area["x"][7:12] == [5.5, 6.5, 6.5, 5.5, None]


def test_a_frame_without_any_feature_set_is_empty(run: Run) -> None:
    difficulty = {"a": {"percentile": [None, None, 5]}, "b": {"percentile": [3, None, None]}}
    response = {"timestamps_ms": [0, 500, 1000], "difficulty": difficulty}
    assert run("series.emptyFrames(response)", response=response) == [1]


def test_predictions_are_files_as_the_command_line_writes_them(run: Run) -> None:
    result = {
        "response": {"timestamps_ms": [0, 500, 1000], "predictions": {"arousal": [0.5, 1e-7, -3]}},
        "segments": ["1", "2", ""],
        "labels": {},
    }
    label = {"times": [10, 510, 9000], "frames": [0, 1, -1], "segments": ["7", "8", "9"]}
    labelled = result | {"labels": {"arousal": label}}
    sessions = [{"id": "S1", "result": result}, {"id": "a/b", "result": labelled}]
    files = run("prediction_files.predictionFiles(sessions)", sessions=sessions)
    assert list(files) == ["arousal/S1.csv", "arousal/a_b.csv"]
    assert files["arousal/S1.csv"].startswith("timestamp,value,segment_id\n0,0.5,1\n")

    tables = [parse_labels(text.encode(), name) for name, text in files.items()]
    assert tables[0].values.tolist() == [0.5, 1e-7, -3]
    assert tables[0].segment_ids.tolist() == ["1", "2", ""]
    assert tables[1].timestamps_ms.tolist() == [10, 510]
    assert tables[1].segment_ids.tolist() == ["7", "8"]


def test_the_archive_is_one_for_every_reader(run: Run) -> None:
    files = {"arousal/S1.csv": "timestamp\n0\n", "Erregung ä/П.csv": "x" * 70_000, "empty": ""}
    code = 'Buffer.from(zip.zipBytes(files)).toString("base64")'
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(run(code, files=files))))
    assert archive.testzip() is None
    assert {name: archive.read(name).decode() for name in archive.namelist()} == files
