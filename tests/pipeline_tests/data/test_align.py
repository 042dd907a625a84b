"""Joining rows to frames: every frame is kept, near rows are found, far ones are not made up."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.align import NO_ROW, join, merge_timestamps, nearest_rows

times = st.lists(st.integers(0, 20_000), min_size=1, max_size=40, unique=True).map(
    lambda ms: np.array(sorted(ms))
)
tolerances = st.integers(0, 3_000)
quick = settings(deadline=None, max_examples=150)


def rows_of(timestamps_ms: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Two columns, from which the row can be read back."""
    values = np.stack([timestamps_ms + 1, -timestamps_ms - 1], axis=1).astype(np.float32)
    return values, np.ones(len(timestamps_ms), np.bool_)


@quick
@given(frames_ms=times, rows_ms=times, tolerance_ms=tolerances)
def test_every_frame_is_kept_in_order_and_gets_the_nearest_row_or_none(
    frames_ms: NDArray[np.int64], rows_ms: NDArray[np.int64], tolerance_ms: int
) -> None:
    joined = join(frames_ms, rows_ms, *rows_of(rows_ms), tolerance_ms)
    assert joined.values.shape == (len(frames_ms), 2)
    for frame_ms, values, present in zip(frames_ms, joined.values, joined.present, strict=True):
        distance = np.abs(rows_ms - frame_ms).min()
        assert present == (distance <= tolerance_ms)
        if present:
            assert abs(values[0] - 1 - frame_ms) == distance
        else:
            assert not values.any()


@quick
@given(frames_ms=times, rows_ms=times, tolerance_ms=tolerances)
def test_rows_are_used_unused_or_used_again(
    frames_ms: NDArray[np.int64], rows_ms: NDArray[np.int64], tolerance_ms: int
) -> None:
    joined = join(frames_ms, rows_ms, *rows_of(rows_ms), tolerance_ms)
    num_matched = len(frames_ms) - joined.num_unmatched
    assert num_matched - joined.num_reused == len(rows_ms) - joined.num_unused


@quick
@given(num_frames=st.integers(1, 50), shift_ms=st.integers(-249, 249))
def test_a_shift_below_half_a_period_changes_nothing(num_frames: int, shift_ms: int) -> None:
    frames_ms = np.arange(num_frames) * 500
    values, present = rows_of(frames_ms)
    joined = join(frames_ms, frames_ms + shift_ms, values, present, 250)
    assert np.array_equal(joined.values, values)
    assert joined.present.all()
    assert (joined.num_unmatched, joined.num_unused, joined.num_reused) == (0, 0, 0)


@quick
@given(frames_ms=times, tolerance_ms=tolerances)
def test_rows_out_of_reach_are_not_made_up(frames_ms: NDArray[np.int64], tolerance_ms: int) -> None:
    rows_ms = frames_ms + 20_000 + tolerance_ms + 1
    joined = join(frames_ms, rows_ms, *rows_of(rows_ms), tolerance_ms)
    assert not joined.present.any()
    assert joined.num_unmatched == len(frames_ms)


def test_of_two_rows_equally_near_the_earlier_is_taken() -> None:
    assert list(nearest_rows(np.array([500]), np.array([250, 750]), 250)) == [0]
    assert list(nearest_rows(np.array([500]), np.array([249, 751]), 250)) == [NO_ROW]


def test_a_row_that_is_missing_stays_missing() -> None:
    frames_ms = np.arange(3) * 500
    values, present = rows_of(frames_ms)
    present[1] = False
    values[1] = 0
    assert list(join(frames_ms, frames_ms, values, present, 0).present) == [True, False, True]
    assert list(join(frames_ms + 100, frames_ms, values, present, 250).present) == [
        True,
        False,
        True,
    ]


def test_rows_in_step_with_the_frames_are_not_copied() -> None:
    rows_ms = np.arange(9) * 500
    values, present = rows_of(rows_ms)
    assert np.shares_memory(join(rows_ms[2:7], rows_ms, values, present, 250).values, values)


@quick
@given(timelines=st.lists(times, min_size=1, max_size=4), period_ms=st.integers(1, 3_000))
def test_merged_frames_are_rows_of_some_set_about_a_period_apart(
    timelines: list[NDArray[np.int64]], period_ms: int
) -> None:
    every_ms = np.unique(np.concatenate(timelines))
    merged_ms = merge_timestamps(timelines, period_ms)
    assert np.isin(merged_ms, every_ms).all()
    assert merged_ms[0] == every_ms[0]
    assert (np.diff(merged_ms) > period_ms / 2).all()
    # Nothing is left out but what is nearer than a period and a half to a frame.
    assert (np.abs(every_ms[:, None] - merged_ms).min(axis=1) < 1.5 * period_ms).all()


def test_merging_equal_timelines_changes_nothing() -> None:
    frames_ms = np.arange(20) * 500
    assert np.array_equal(merge_timestamps([frames_ms, frames_ms], 500), frames_ms)
    assert np.array_equal(merge_timestamps([frames_ms[1:], frames_ms[:-2]], 500), frames_ms)


def test_merging_steps_over_a_gap() -> None:
    timeline_ms = np.array([0, 500, 1000, 9000, 9500])
    assert np.array_equal(merge_timestamps([timeline_ms], 500), timeline_ms)
