"""How the page reads files, tried with node: cells, blanks, lines and columns as from the disk."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.tables.csv_columns import MISSING
from pipeline.data.tables.parse import parse_features
from pipeline.errors import InputError
from serving.schema import read_json
from serving.settings import Limits

SCRIPT = Path(__file__).parents[2] / "serving/page/session.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="NOT TESTED: the page's files, without node")


def run(expression: str, **values: Any) -> Any:
    """Return the value of an expression in the page's script, or the message of its mistake."""
    names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    code = (
        f"{SCRIPT.read_text()}{names} let result;"
        f"try {{ result = {expression}; }} catch (error) {{ result = error.message; }}"
        "console.log(JSON.stringify(result));"
    )
    assert NODE is not None
    command = [NODE, "--input-type=module", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


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
def test_the_page_reads_what_is_read_from_the_disk(text: str) -> None:
    table = run('readTable(text, "s.csv")', text=text)
    expected = parse_features(text.encode(), "s.csv")
    assert tuple(table["columns"]) == expected.columns
    assert table["times"] == expected.timestamps.tolist()
    assert np.array_equal(np.float32(table["data"]), expected.values)


def test_what_stands_for_a_missing_number_is_missing() -> None:
    blanks = [*MISSING, "  ", " ? ", "-NAN", "n/A", "inf", "-Infinity"]
    rows = "\n".join(f"{row},1,{blank},2" for row, blank in enumerate(blanks))
    table = run('readTable(text, "s.csv")', text=f"timestamp,segment_id,a,b\n{rows}\n")
    assert table["data"] == [[None, 2]] * len(blanks)
    assert table["mistakes"] == {}


@pytest.mark.parametrize("cell", ["0x10", "off", "1 2", "1_000", "0b1", "true"])
def test_a_text_in_a_column_that_is_read_is_a_mistake(cell: str) -> None:
    text = f"timestamp,segment_id,a,note\n0,1,1,x\n\n500,1,{cell},y\n"
    read = 'toRequest("s", { set: readTable(text, "s.csv") }, { set: columns })'
    assert run(read, text=text, columns=["a"]) == 's.csv, line 4, column "a" is no number.'
    # By position, too, where columns are numbered from another start than the model's.
    numbered = text.replace(",a,", ",0,")
    assert "line 4" in run(read, text=numbered, columns=["1"])
    with pytest.raises(InputError, match="line 4, column 'a'"):
        parse_features(text.replace(",x", ",1").replace(",y", ",2").encode(), "s.csv")


def test_marks_of_rows_are_sent_as_numbers_and_other_texts_as_null() -> None:
    text = "timestamp,a,success,filename\n0,1,Yes,x.wav\n500,2,FALSE,\n1000,3,true,7\n"
    table = run('readTable(text, "s.csv")', text=text)
    assert table["data"] == [[1, 1, None], [2, 0, None], [3, 1, 7]]


def test_every_file_keeps_its_own_timestamps() -> None:
    """The endpoint puts rows on frames as in training: the page would only take the nearest."""
    slow = "timestamp,segment_id,a\n0,1,1\n500,1,2\n"
    fast = "timestamp,segment_id,b\n0,1,1\n50,1,2\n100,1,3\n"
    tables = '{ x: readTable(slow, "x.csv"), y: readTable(fast, "y.csv") }'
    model = {
        "features": {"x": ["a"], "y": ["b", "b_std"]},
        "resampling": {"x": "nearest", "y": "mean+std"},
    }
    request = run(
        f'toRequest("s", {tables}, fileColumns(model))', slow=slow, fast=fast, model=model
    )
    session = read_json(json.dumps(request).encode(), Limits())
    assert session.timestamps_ms is None
    times = {
        name: np.array(each.timestamps_ms).tolist() for name, each in session.feature_sets.items()
    }
    assert times == {"x": [0, 500], "y": [0, 50, 100]}
    assert (
        run(
            'findSet("s.csv", readTable(fast, "y.csv"), fileColumns(model))', fast=fast, model=model
        )
        == "y"
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
def test_mistakes_name_the_line_of_the_file(text: str, mistake: str) -> None:
    read = 'toRequest("s", { set: readTable(text, "s.csv") }, { set: ["a"] })'
    assert run(read, text=text) == mistake
