"""Normalisation is fitted on training frames alone, and its result is always finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest

from pipeline.preprocessing.normalisation import CLIP, DIFFICULTY_CLIP, Normalisation

Mode = Literal["train", "session", "both"]


def fitted(
    sessions: Sequence[np.ndarray],
    difficulty_size: int = 0,
    mode: Mode = "train",
    difficulty_scale: Literal["log", "raw"] = "log",
) -> Normalisation:
    """Return a normalisation that was fitted on sessions, with the defaults of these tests."""
    return Normalisation.fit(
        sessions,
        difficulty_size=difficulty_size,
        mode=mode,
        difficulty_scale=difficulty_scale,
    )


def test_training_frames_have_mean_zero_and_deviation_one() -> None:
    random = np.random.default_rng(0)
    sessions = [random.normal(3, 7, size=(frames, 2)).astype(np.float32) for frames in (40, 90)]
    normalisation = fitted(sessions)

    scaled = np.concatenate([normalisation.apply(session) for session in sessions])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_session_normalisation_takes_each_session_by_itself() -> None:
    random = np.random.default_rng(0)
    session = random.normal(50, 9, size=(60, 2)).astype(np.float32)
    other = random.normal(-3, 1, size=(60, 2)).astype(np.float32)

    scaled = fitted([other], mode="session").apply(session)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)

    both = fitted([other], mode="both")
    assert both.apply(session).shape == (60, 4)
    assert both.input_size == 4


def test_a_constant_column_becomes_zero_even_where_it_later_varies() -> None:
    train = np.array([[1.0, 5.0], [2.0, 5.0]], dtype=np.float32)
    scaled = fitted([train]).apply(np.array([[1.5, 9.0]], dtype=np.float32))
    assert scaled[0, 1] == 0


@pytest.mark.parametrize("mode", ["train", "session", "both"])
def test_the_result_is_finite_and_clipped(mode: Mode) -> None:
    train = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    extreme = np.array([[1e30, np.nan, -1e30]], dtype=np.float32)
    missing = np.full((4, 3), np.nan, dtype=np.float32)

    for values in (extreme, missing, train[:1]):
        scaled = fitted([train], mode=mode).apply(values)
        assert np.isfinite(scaled).all()
        assert np.abs(scaled).max() <= CLIP


def test_a_missing_feature_is_average_and_a_missing_difficulty_is_high() -> None:
    train = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    missing = np.full((1, 3), np.nan, dtype=np.float32)

    log = fitted([train], difficulty_size=1)
    np.testing.assert_array_equal(log.apply(missing), [[0, 0, DIFFICULTY_CLIP]])

    raw = fitted([train], difficulty_size=1, difficulty_scale="raw")
    assert raw.apply(missing)[0, 2] == train[:, 2].max()
    np.testing.assert_array_equal(raw.apply(train)[:, 2], train[:, 2])


def test_missing_training_frames_do_not_count() -> None:
    train = np.array([[1.0], [3.0], [np.nan]], dtype=np.float32)
    normalisation = fitted([train])
    assert normalisation.mean[0] == 2.0
    assert normalisation.std[0] == 1.0
