"""What is no feature is known by its name or its values; what is one is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.preprocessing.bookkeeping import (
    FileColumns,
    Kind,
    column_traits,
    failed_rows,
    may_be_bookkeeping,
)
from pipeline.preprocessing.columns import find_bookkeeping

TIMES_MS = 500 * np.arange(40, dtype=np.float64)
VARYING = np.sin(TIMES_MS)


def found(*files: dict[str, NDArray[np.float64]]) -> dict[str, Kind]:
    """Return what is no feature in files of one set."""
    return find_bookkeeping(
        [
            FileColumns(
                tuple(file),
                {name: column_traits(values, TIMES_MS) for name, values in file.items()},
                len(TIMES_MS),
            )
            for file in files
        ]
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Unnamed: 0", "row number"),
        ("Unnamed: 0.1", "row number"),
        ("", "row number"),
        ("Index", "row number"),
        ("Frame", "frame number"),
        ("frame_number", "frame number"),
        ("face ID", "id"),
        ("Subject_Id", "id"),
        ("participant", "id"),
        ("session", "id"),
        ("frameTime", "time"),
        ("time (s)", "time"),
        ("Timestamp_ms", "time"),
        ("unix time", "time"),
    ],
)
def test_names_that_no_feature_has(name: str, kind: Kind) -> None:
    assert may_be_bookkeeping(name)
    assert found({name: VARYING, "a": VARYING}) == {name: kind}


@pytest.mark.parametrize(
    "name",
    [
        "x", "n", "0", "01", "AU12_r", "gaze_angle_x", "pose_Rx", "eda", "lifetime", "framewise",
        "voice_id_probability", "F0semitoneFrom27.5Hz_sma3nz_amean", "sidestep", "row_mean",
        "idle", "update", "timeliness", "fix_on", "blink_rate_5s", "indexing", "dates_seen",
    ],
)  # fmt: skip
def test_names_of_features_are_left_alone(name: str) -> None:
    assert not may_be_bookkeeping(name)
    assert found({name: VARYING, "a": VARYING}) == {}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(40.0), "row number"),
        (np.arange(1.0, 41.0), "row number"),
        (TIMES_MS, "time"),
        (TIMES_MS / 1000 + 17.25, "time"),
        (1.7e9 + TIMES_MS / 1000, "time"),
        (np.round(TIMES_MS / 60000, 4), "time"),
        (TIMES_MS * 1e6, "time"),
        (60 - TIMES_MS / 1000, "time"),
    ],
)
def test_values_that_count_or_repeat_the_time(values: NDArray[np.float64], kind: Kind) -> None:
    assert found({"q": values, "a": VARYING}) == {"q": kind}
    assert found({"q": values}) == {}, "a set of one column may rise as it likes"
    assert found({"q": values, "a": VARYING}, {"q": VARYING, "a": VARYING}) == {}, "one decision"


@pytest.mark.parametrize(
    "values",
    [
        np.arange(40.0) + 60,  # a heart rate that rises
        np.arange(40.0) * 0.01,  # a ramp of luminance
        np.cumsum(np.abs(VARYING)),
        np.repeat(np.arange(20.0), 2),
        np.where(np.arange(40) == 7, np.nan, np.arange(40.0)),
    ],
)
def test_values_that_rise_are_features(values: NDArray[np.float64]) -> None:
    assert found({"q": values, "a": VARYING}) == {}


def test_some_names_are_ids_only_if_they_do_not_vary() -> None:
    assert found({"speaker": VARYING, "a": VARYING}) == {}
    assert found({"speaker": np.full(40, 3.0), "a": VARYING}) == {"speaker": "id"}
    assert found({"name": np.full(40, np.nan), "a": VARYING}) == {"name": "id"}


def test_success_marks_rows_and_confidence_that_is_a_share() -> None:
    success, confidence = (VARYING > 0).astype(float), np.abs(VARYING)
    marks: Kind = "marks missing rows"
    both = {"success": success, "Confidence": confidence, "a": VARYING}
    assert found(both) == {"success": marks, "Confidence": marks}
    percent = {"success": success, "confidence": 100 * confidence, "a": VARYING}
    assert found(percent) == {"success": marks, "confidence": "confidence that is not from 0 to 1"}
    assert found({"success": np.full(40, np.nan), "a": VARYING}) == {"success": marks}
    assert found({"confidence": confidence, "a": VARYING}) == {"confidence": marks}
    assert found({"success": VARYING, "confidence": confidence}) == {"confidence": marks}
    assert found({"confidence": 100 * confidence, "a": VARYING}) == {}
    assert found({"confidence": confidence}) == {}
    assert found({"success": success}) == {}


def test_rows_without_success_or_with_low_confidence_have_failed() -> None:
    columns = {
        "success": np.array([1, 1, 0, np.nan, 1]),
        "confidence": np.array([0.9, 0.49, 0.9, 0.9, 0.5]),
        "frame": np.zeros(5),
    }
    kinds: dict[str, Kind] = {
        "success": "marks missing rows",
        "confidence": "marks missing rows",
        "frame": "frame number",
    }
    assert failed_rows(columns, kinds).tolist() == [False, True, True, False, False]
