"""Rows with timestamps of their own: the same frames for a caller as for files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.corpus import RESAMPLINGS, Resampling, Session
from pipeline.data.muse import read_corpus
from pipeline.errors import InputError
from pipeline.model.raw_session import raw_session
from tests.pipeline_tests.data.muse_files import feature_values, write_corpus, write_features

PERIOD_MS = 500.0


def read(root: Path, kind: Resampling) -> tuple[Session, dict[str, tuple[str, ...]]]:
    """Return the session of a corpus without labels, as a model's, and its columns."""
    corpus = read_corpus(
        root,
        targets=[],
        frame_period_ms=PERIOD_MS,
        resampling={"voice": kind},
        mark_stuck_rows=False,
    )
    return corpus.session("4"), dict(corpus.columns)


@pytest.mark.parametrize("kind", RESAMPLINGS)
@pytest.mark.parametrize("step_ms", [20, 500, 700, 45])
def test_a_table_with_timestamps_gives_the_session_of_its_file(
    tmp_path: Path, kind: Resampling, step_ms: int
) -> None:
    root = write_corpus(tmp_path, partitions={"4": "test"}, sets={"voice": 3}, targets=())
    values = feature_values("4", 3, 300)
    values[20:50], values[70, 1] = 0, np.nan
    header = ["a", "b", "c"]
    path = write_features(root, "voice", "4", values, start_ms=130, step_ms=step_ms, header=header)
    expected, columns = read(root, kind)

    table = pd.read_csv(path)[["c", "timestamp", "a", "b"]]
    session = raw_session({"voice": table}, None, columns, PERIOD_MS, None, {"voice": kind})

    np.testing.assert_array_equal(session.timestamps_ms, expected.timestamps_ms)
    np.testing.assert_array_equal(session.features["voice"], expected.features["voice"])
    np.testing.assert_array_equal(session.present["voice"], expected.present["voice"])


def table_of(times: list[float]) -> pd.DataFrame:
    """Return a table of one column at some times."""
    return pd.DataFrame({"timestamp": times, "a": np.arange(len(times)) + 1.0})


@pytest.mark.parametrize(
    ("times", "timestamps_ms", "message"),
    [
        ([0, 0.5, 1, 1.5], None, "look like seconds"),
        ([0, 0.02, 0.04, 2], [0, 500, 1000, 1500], "look like seconds"),
        ([0, 20_000, 500_000, 1_500_000], [0, 500, 1000, 1500], "look like microseconds"),
        ([0, 20, 10], None, "ascending"),
        ([0, float("nan"), 10], None, "ascending"),
        ([90_000, 90_500], [0, 500, 1000], "rows 90000 to 90500, frames 0 to 1000"),
        ([0, 20, 40], [0, 0.5, 1], "look like seconds"),
    ],
)
def test_timestamps_that_do_not_fit_are_named(
    times: list[float], timestamps_ms: list[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        raw_session({"voice": table_of(times)}, timestamps_ms, {"voice": ("a",)}, PERIOD_MS)


def test_a_column_of_the_model_that_is_named_timestamp_is_a_feature() -> None:
    table = pd.DataFrame({"timestamp": [3.0, 1.0, 2.0]})
    session = raw_session({"clock": table}, None, {"clock": ("timestamp",)}, PERIOD_MS)

    assert session.features["clock"][:, 0].tolist() == [3, 1, 2]
