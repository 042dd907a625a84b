"""Real files of other formats: each is imported, or refused with a sentence; raters and truth."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.importing.import_corpus import import_corpus
from pipeline.data.importing.import_options import ImportOptions
from pipeline.data.importing.raters import Fusion
from pipeline.data.importing.report import ImportReport
from pipeline.errors import InputError
from pipeline.metrics.ccc import ccc
from tests.pipeline_tests.data.importing.sources import column

DEFAULT_FOLDER = Path(__file__).resolve().parents[5] / "shared" / "data" / "foreign"
BOOTH = "annotations/booth2016_green_intensity"


@pytest.fixture
def foreign() -> Path:
    """Return the folder of real files; their licences keep them out of the repository."""
    path = Path(os.environ.get("AFFECTUNE_FOREIGN_FILES") or DEFAULT_FOLDER)
    if not path.is_dir():
        pytest.skip(
            f"NOT TESTED on files of other formats: no folder {path}; set AFFECTUNE_FOREIGN_FILES"
        )
    return path


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("annotations/avec2018_arff/templateGS.arff", {"target": "x"}, {"x": (7501, 1)}),
        ("features/openface_quori/11.csv", {"set_name": "face"}, {"face": (7657, 26)}),
        ("signals/opensignals_txt/acc.txt", {"set_name": "acc"}, {"acc": (2000, 3)}),
        ("signals/opensignals_txt/eeg_ec.txt", {"set_name": "eeg"}, {"eeg": (38219, 1)}),
        ("signals/xdf/minimal.xdf", {}, {"SendDataC": (9, 3)}),
        ("signals/xdf/clock_resets.xdf", {}, {"BioSemi": (27815, 8)}),
        ("signals/edf_bdf/test_utf8.edf", {}, {"edf": (89344, 1)}),
        (
            "signals/empatica_e4",
            {},
            {
                "acc": (9998, 3), "bvp": (9998, 1), "eda": (9998, 1), "hr": (4998, 1),
                "ibi": (4999, 1), "temp": (4998, 1),
            },
        ),
    ],
)  # fmt: skip
def test_a_real_file_has_the_rows_and_columns_that_it_has(
    foreign: Path,
    tmp_path: Path,
    name: str,
    options: dict[str, str],
    shapes: dict[str, tuple[int, int]],
) -> None:
    report = import_corpus(foreign / name, tmp_path / "corpus", ImportOptions(**options))  # type: ignore[arg-type]
    written = {file.name: (file.rows_written, len(file.columns)) for file in report.files}
    assert written == shapes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("README.md", "text for people"),
        ("signals/xdf/LICENSE", "licence"),
        ("signals/empatica_e4/tags.csv", "is empty"),
        ("signals/empatica_e4/info.txt", "text for people"),
        (
            "features/openface_quori/Participant_10_Round_1_Robot_1_Exercise_bicep_curls_Set_1.log",
            "program's log",
        ),
        (f"{BOOTH}/TaskA/annotations_raw/TaskA_ann1.csv", "--resample"),
    ],
)
def test_what_is_no_recording_is_refused_with_what_it_is(
    foreign: Path, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        import_corpus(foreign / name, tmp_path / "corpus", ImportOptions(target="x"))
    assert not (tmp_path / "corpus").exists()


def _fuse(foreign: Path, out: Path, fusion: Fusion, max_lag_ms: float) -> ImportReport:
    options = ImportOptions(
        target="green",
        pattern="{session}/annotations_10hz/{session}_{rater}.csv",
        resample_ms=100,
        raters=fusion,
        max_lag_ms=max_lag_ms,
        overwrite=True,
    )
    return import_corpus(foreign / BOOTH, out, options)


def _score(foreign: Path, out: Path, task: str) -> float:
    """Return the CCC of fused labels with what the raters were shown."""
    truth = foreign / BOOTH / task / "objective_truth" / f"{task}_normalized_10hz.csv"
    values = {
        round(time * 1000): value
        for time, value in zip(column(truth, "Time(sec)"), column(truth, "Data"), strict=True)
        if time is not None
    }
    labels = out / f"label_segments/green/{task}.csv"
    pairs = [
        (values[int(time)], value)
        for time, value in zip(column(labels, "timestamp"), column(labels, "value"), strict=True)
        if time is not None and value is not None and int(time) in values
    ]
    return ccc(*np.array(pairs, np.float64).T)


def test_aligned_raters_come_nearer_to_the_truth_than_their_mean(
    foreign: Path, tmp_path: Path
) -> None:
    scores = {}
    for name, fusion, max_lag_ms in (("mean", "mean", 0), ("ewe", "ewe", 0), ("lag", "ewe", 5000)):
        report = _fuse(foreign, tmp_path / name, fusion, max_lag_ms)  # type: ignore[arg-type]
        assert len(report.raters) == 20
        scores[name] = [_score(foreign, tmp_path / name, task) for task in ("TaskA", "TaskB")]

    assert scores["mean"] == pytest.approx([0.639, 0.917], abs=0.0006)  # as published
    # Ten raters who all listened have nearly equal weights: EWE alone changes nothing.
    assert scores["ewe"] == pytest.approx(scores["mean"], abs=0.003)
    assert all(np.subtract(scores["lag"], scores["mean"]) > 0.01)
