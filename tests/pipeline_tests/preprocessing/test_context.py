"""Context columns are what numpy says of each window, missing values left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocessing.context import context_columns


def _by_numpy(
    values: np.ndarray, frames: int, *, is_centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and slopes of one column, window by window."""
    before = frames // 2 if is_centred else frames - 1
    after = before if is_centred else 0
    means, slopes = np.full(len(values), np.nan), np.full(len(values), np.nan)

    for frame in range(len(values)):
        window = np.arange(max(0, frame - before), min(len(values), frame + after + 1))
        window = window[np.isfinite(values[window])]
        if len(window):
            means[frame] = values[window].mean()
        if len(window) > 1:
            slopes[frame] = np.polyfit(window - frame, values[window], 1)[0]
    return means, slopes


@given(
    st.integers(1, 40),
    st.lists(st.integers(2, 60), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["none", "frames", "cells"]),
    st.integers(0, 2**32 - 1),
)
def test_means_and_slopes_are_those_of_numpy(
    num_frames: int, windows: list[int], is_centred: bool, missing: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    features = (20 + random.normal(size=(num_frames, 2))).astype(np.float32)
    if missing == "frames":
        features[random.random(num_frames) < 0.4] = np.nan
    if missing == "cells":
        features[random.random(features.shape) < 0.4] = np.nan

    context = context_columns(features, windows, is_centred=is_centred)
    assert context.shape == (num_frames, 4 * len(windows))
    assert context.dtype == np.float32

    expected = []
    for frames in windows:
        columns = [
            _by_numpy(column, frames, is_centred=is_centred)
            for column in features.T.astype(np.float64)
        ]
        expected += [means for means, _ in columns] + [slopes for _, slopes in columns]
    np.testing.assert_allclose(context, np.stack(expected, axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("is_centred", [True, False])
def test_a_line_far_from_zero_keeps_its_slope(is_centred: bool) -> None:
    """Values that are not exact in float32 would hide it: these are."""
    line = (2.0**22 + 0.5 * np.arange(9000))[:, None].astype(np.float32)
    slopes = context_columns(line, [61], is_centred=is_centred)[1:, 1]
    np.testing.assert_allclose(slopes, 0.5, rtol=1e-6)


def test_a_wild_frame_spoils_only_the_windows_that_it_is_in() -> None:
    calm = np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32)
    wild = calm.copy()
    wild[5] = 1e4

    expected = context_columns(calm, [7], is_centred=False)
    context = context_columns(wild, [7], is_centred=False)
    np.testing.assert_allclose(context[12:], expected[12:], atol=1e-6)
    assert (np.abs(context[5:12, 0] - expected[5:12, 0]) > 1000).all()


def test_trailing_windows_know_nothing_of_later_frames() -> None:
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    whole = context_columns(features, [4, 11], is_centred=False)
    begun = context_columns(features[:25], [4, 11], is_centred=False)
    np.testing.assert_allclose(begun, whole[:25], atol=1e-6)
