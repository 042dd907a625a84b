"""Aligning rows with frames: every frame is kept, and only rows that are near are taken."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.preprocessing.align import NO_ROW, align, merge_timestamps, nearest_rows

timestamps = st.lists(st.integers(0, 20_000), min_size=1, max_size=40, unique=True)
timelines_ms = timestamps.map(lambda values: np.array(sorted(values)))
tolerances_ms = st.integers(0, 3_000)


def rows_of(timestamps_ms: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the values and presence of rows whose two columns tell their timestamp."""
    values = np.stack([timestamps_ms + 1, -timestamps_ms - 1], axis=1).astype(np.float32)
    return values, np.ones(len(timestamps_ms), np.bool_)


@given(frames_ms=timelines_ms, rows_ms=timelines_ms, tolerance_ms=tolerances_ms)
def test_every_frame_is_kept_in_order_and_gets_the_nearest_row_or_none(
    frames_ms: NDArray[np.int64], rows_ms: NDArray[np.int64], tolerance_ms: int
) -> None:
    aligned = align(frames_ms, rows_ms, *rows_of(rows_ms), tolerance_ms)

    assert aligned.values.shape == (len(frames_ms), 2)
    for frame_ms, values, present in zip(frames_ms, aligned.values, aligned.present, strict=True):
        distance = np.abs(rows_ms - frame_ms).min()
        assert present == (distance <= tolerance_ms)
        if present:
            assert abs(values[0] - 1 - frame_ms) == distance
        else:
            assert not values.any()


@given(frames_ms=timelines_ms, rows_ms=timelines_ms, tolerance_ms=tolerances_ms)
def test_every_row_and_frame_is_counted_once(
    frames_ms: NDArray[np.int64], rows_ms: NDArray[np.int64], tolerance_ms: int
) -> None:
    aligned = align(frames_ms, rows_ms, *rows_of(rows_ms), tolerance_ms)
    num_matched = len(frames_ms) - aligned.num_unmatched

    assert num_matched - aligned.num_reused == len(rows_ms) - aligned.num_unused


@given(num_frames=st.integers(1, 50), shift_ms=st.integers(-249, 249))
def test_a_shift_below_half_a_period_changes_nothing(num_frames: int, shift_ms: int) -> None:
    frames_ms = np.arange(num_frames) * 500
    values, present = rows_of(frames_ms)
    aligned = align(frames_ms, frames_ms + shift_ms, values, present, 250)

    assert np.array_equal(aligned.values, values)
    assert aligned.present.all()
    assert (aligned.num_unmatched, aligned.num_unused, aligned.num_reused) == (0, 0, 0)


@given(frames_ms=timelines_ms, tolerance_ms=tolerances_ms)
def test_rows_beyond_the_tolerance_are_missing(
    frames_ms: NDArray[np.int64], tolerance_ms: int
) -> None:
    rows_ms = frames_ms + 20_000 + tolerance_ms + 1
    aligned = align(frames_ms, rows_ms, *rows_of(rows_ms), tolerance_ms)

    assert not aligned.present.any()
    assert aligned.num_unmatched == len(frames_ms)


def test_the_earlier_of_two_equally_near_rows_is_taken() -> None:
    assert list(nearest_rows(np.array([500]), np.array([250, 750]), 250)) == [0]
    assert list(nearest_rows(np.array([500]), np.array([249, 751]), 250)) == [NO_ROW]


def test_a_row_that_is_missing_stays_missing() -> None:
    frames_ms = np.arange(3) * 500
    values, present = rows_of(frames_ms)
    present[1] = False
    values[1] = 0

    in_step = align(frames_ms, frames_ms, values, present, tolerance_ms=0)
    assert in_step.present.tolist() == [True, False, True]

    shifted = align(frames_ms + 100, frames_ms, values, present, tolerance_ms=250)
    assert shifted.present.tolist() == [True, False, True]


def test_rows_in_step_with_the_frames_are_not_copied() -> None:
    rows_ms = np.arange(9) * 500
    values, present = rows_of(rows_ms)
    aligned = align(rows_ms[2:7], rows_ms, values, present, 250)

    assert np.shares_memory(aligned.values, values)


@given(timelines=st.lists(timelines_ms, min_size=1, max_size=4), period_ms=st.integers(1, 3_000))
def test_merged_frames_are_rows_of_some_set_about_a_period_apart(
    timelines: list[NDArray[np.int64]], period_ms: int
) -> None:
    all_ms = np.unique(np.concatenate(timelines))
    merged_ms = merge_timestamps(timelines, period_ms)

    assert np.isin(merged_ms, all_ms).all()
    assert merged_ms[0] == all_ms[0]
    assert (np.diff(merged_ms) > period_ms / 2).all()
    # Rows that are left out are nearer than a period and a half to a frame.
    distance_ms = np.abs(all_ms[:, None] - merged_ms).min(axis=1)
    assert (distance_ms < 1.5 * period_ms).all()


def test_merging_timelines_with_equal_steps_changes_nothing() -> None:
    frames_ms = np.arange(20) * 500

    assert np.array_equal(merge_timestamps([frames_ms, frames_ms], 500), frames_ms)
    assert np.array_equal(merge_timestamps([frames_ms[1:], frames_ms[:-2]], 500), frames_ms)


def test_merging_keeps_the_frames_after_a_gap() -> None:
    timeline_ms = np.array([0, 500, 1000, 9000, 9500])
    assert np.array_equal(merge_timestamps([timeline_ms], 500), timeline_ms)
