"""Targets that were annotated at other times share frames, and keep their own rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.muse import read_corpus
from pipeline.data.tables.parse import LabelTable
from pipeline.data.timeline.frames import Timing, labels_on_frames, make_frames
from tests.pipeline_tests.data.muse_files import label_values, write_corpus, write_labels

LABELLED = ("1", "2", "a-3")
timelines = st.lists(st.integers(0, 20_000), min_size=2, max_size=60, unique=True).map(sorted)


def table_of(times: list[int]) -> LabelTable:
    """Return labels that tell their time."""
    timestamps = np.array(times, np.int64)
    texts = np.array([str(time) for time in times], np.str_)
    return LabelTable(timestamps, texts, np.full(len(times), "1"), timestamps.astype(np.float64))


@given(first=timelines, second=timelines)
def test_every_row_has_a_frame_within_half_a_period(first: list[int], second: list[int]) -> None:
    labels = {"arousal": table_of(first), "valence": table_of(second)}
    frames = make_frames([], labels, Timing(500, 250, ("arousal", "valence")))

    assert np.isin(first, frames.timestamps_ms).all()
    for target, times in {"arousal": first, "valence": second}.items():
        rows = frames.label_rows[target]
        assert rows.timestamps.tolist() == [str(time) for time in times]
        distances = np.abs(frames.timestamps_ms[rows.frames] - np.array(times))
        assert distances.max() <= (0 if target == "arousal" else 250)
    # No frame without a row.
    used = [frames.label_rows[target].frames for target in labels]
    assert np.unique(np.concatenate(used)).tolist() == list(range(len(frames.timestamps_ms)))


@given(times=timelines)
def test_a_frame_has_the_mean_of_its_known_labels(times: list[int]) -> None:
    labels = {"arousal": table_of([0, 10_000, 20_000]), "valence": table_of(times)}
    frames = make_frames([], labels, Timing(10_000, 5_000, ("arousal", "valence")))
    rows = frames.label_rows["valence"]

    on_frames = labels_on_frames(rows, 3)

    for frame in range(3):
        values = rows.values[rows.frames == frame]
        expected = values.mean() if len(values) else np.nan
        np.testing.assert_allclose(on_frames[frame], expected)


@pytest.mark.parametrize(
    ("start_ms", "step_ms", "num_rows"),
    [(250, 500, 10), (130, 500, 9), (0, 100, 46), (40, 1500, 4)],
)
def test_targets_of_separate_passes_do_not_multiply_frames(
    tmp_path: Path, start_ms: int, step_ms: int, num_rows: int
) -> None:
    root = write_corpus(tmp_path)
    for name in LABELLED:
        labels = label_values(name, "valence", num_rows)
        write_labels(root, "valence", name, labels, start_ms=start_ms, step_ms=step_ms)

    corpus = read_corpus(root)

    session = corpus.session("1")
    assert session.num_frames == max(10, num_rows)
    assert corpus.frame_period_ms == min(500, step_ms)
    for target, count in {"arousal": 10, "valence": num_rows}.items():
        assert np.isfinite(session.labels[target]).sum() == count
        rows = session.rows_of(target)
        np.testing.assert_array_equal(session.labels[target][rows.frames], rows.values)
    assert not [f for f in corpus.findings if f.kind == "labels unknown" and f.level != "note"]


def test_shared_rows_read_as_they_always_did(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path))
    moved = [finding for finding in corpus.findings if finding.kind == "rows moved"]
    session = corpus.session("1")

    assert moved == []
    assert session.rows_of("valence").frames.tolist() == list(range(10))
    # A session without labels has rows, too: its frames.
    assert corpus.session("4").rows_of("valence").timestamps.tolist() == [
        str(500 * frame) for frame in range(10)
    ]
