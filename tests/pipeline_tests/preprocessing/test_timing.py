"""A timing moves labels, averages frames and adds columns; predictions come back in their place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocessing.timing import Timing


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None].astype(np.float32)


def test_by_default_nothing_is_changed() -> None:
    random = np.random.default_rng(0)
    raw, labels = random.normal(size=(9, 4)).astype(np.float32), random.normal(size=9)
    timing = Timing()

    assert timing.network_inputs(raw, difficulty_size=1) is raw
    assert np.array_equal(timing.network_labels(labels), labels)
    assert timing.session_outputs(raw, 9) is raw


@given(st.integers(1, 50), st.integers(0, 60))
def test_a_network_that_outputs_what_it_learned_is_right_after_the_delay(
    num_frames: int, delay_frames: int
) -> None:
    timing = Timing(delay_frames=delay_frames)
    labels = np.random.default_rng(num_frames).normal(size=num_frames)
    learned = timing.network_labels(labels)
    assert np.isnan(learned).sum() == min(delay_frames, num_frames)

    outputs = timing.session_outputs(_column(learned), num_frames)
    assert outputs.shape == (num_frames, 1)
    np.testing.assert_array_equal(outputs[delay_frames:], _column(labels)[delay_frames:])
    assert np.unique(outputs[: delay_frames + 1]).size <= 1


@given(st.integers(1, 60), st.integers(0, 9), st.integers(1, 9), st.integers(0, 9))
def test_a_line_is_the_same_after_delay_and_resampling_but_for_its_ends(
    num_blocks: int, last_frames: int, resample_frames: int, delay_frames: int
) -> None:
    num_frames = num_blocks * resample_frames + last_frames
    timing = Timing(delay_frames=delay_frames, resample_frames=resample_frames)
    line = 3.0 - 0.25 * np.arange(num_frames, dtype=np.float64)

    slow = Timing(resample_frames=resample_frames).network_labels(line)
    assert len(slow) == -(-num_frames // resample_frames)
    assert len(timing.network_inputs(_column(line), difficulty_size=0)) == len(slow)

    # The network says at every frame what the label will be after the delay.
    outputs = timing.session_outputs(_column(slow - 0.25 * delay_frames), num_frames)[:, 0]
    inside = slice(delay_frames + resample_frames, num_frames - resample_frames)
    np.testing.assert_allclose(outputs[inside], line[inside], rtol=1e-6, atol=1e-6)


def test_a_slow_frame_is_the_mean_of_what_is_there() -> None:
    raw = np.array([[1, 5], [3, np.nan], [np.nan, np.nan], [4, np.nan], [7, 8]], dtype=np.float32)
    timing = Timing(resample_frames=2)
    expected = np.array([[2, 5], [4, np.nan], [7, 8]], dtype=np.float32)
    np.testing.assert_array_equal(timing.network_inputs(raw, difficulty_size=0), expected)

    labels = np.array([0.5, np.nan, np.nan, np.nan, 2.0])
    np.testing.assert_array_equal(timing.network_labels(labels), [0.5, np.nan, 2.0])


def test_difficulty_stays_last_and_has_no_context() -> None:
    raw = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    timing = Timing(context_frames=(3, 5))
    inputs = timing.network_inputs(raw, difficulty_size=1)

    assert inputs.shape == (12, 2 + 2 * 2 * 2 + 1)
    np.testing.assert_array_equal(inputs[:, :2], raw[:, :2])
    np.testing.assert_array_equal(inputs[:, -1], raw[:, -1])


@pytest.mark.parametrize("timing", [Timing(), Timing(4, (3, 9), True, 2)])
def test_a_record_in_json_gives_the_same_timing(timing: Timing) -> None:
    assert Timing.from_json(json.loads(json.dumps(timing.to_json()))) == timing


def test_an_empty_record_is_the_default() -> None:
    """Bundles and stored stages from before there were timings have none."""
    assert Timing.from_json({}) == Timing()
