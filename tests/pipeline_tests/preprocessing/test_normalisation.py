"""Normalisation: fitted on training frames alone, finite whatever comes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from pipeline.preprocessing.normalisation import CLIP, DIFFICULTY_CLIP, Normalisation


def _fit(
    sessions: list[np.ndarray],
    difficulty_size: int = 0,
    normalisation: Literal["train", "session", "both"] = "train",
    difficulty_scale: Literal["log", "raw"] = "log",
) -> Normalisation:
    return Normalisation.fit(
        sessions,
        difficulty_size=difficulty_size,
        normalisation=normalisation,
        difficulty_scale=difficulty_scale,
    )


def test_training_frames_have_mean_zero_and_deviation_one() -> None:
    random = np.random.default_rng(0)
    sessions = [random.normal(3, 7, size=(frames, 2)).astype(np.float32) for frames in (40, 90)]
    scaled = np.concatenate([_fit(sessions).apply(session) for session in sessions])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_session_normalisation_takes_each_session_by_itself() -> None:
    random = np.random.default_rng(0)
    session = random.normal(50, 9, size=(60, 2)).astype(np.float32)
    other = random.normal(-3, 1, size=(60, 2)).astype(np.float32)
    scaled = _fit([other], normalisation="session").apply(session)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)
    assert _fit([other], normalisation="both").apply(session).shape == (60, 4)
    assert _fit([other], normalisation="both").input_size == 4


def test_a_constant_column_becomes_zero_even_where_it_later_varies() -> None:
    train = np.array([[1.0, 5.0], [2.0, 5.0]], dtype=np.float32)
    scaled = _fit([train]).apply(np.array([[1.5, 9.0]], dtype=np.float32))
    assert scaled[0, 1] == 0


@pytest.mark.parametrize("normalisation", ["train", "session", "both"])
def test_the_result_is_finite_and_clipped(
    normalisation: Literal["train", "session", "both"],
) -> None:
    train = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    wild = np.array([[1e30, np.nan, -1e30]], dtype=np.float32)
    for values in (wild, np.full((4, 3), np.nan, dtype=np.float32), train[:1]):
        scaled = _fit([train], normalisation=normalisation).apply(values)
        assert np.isfinite(scaled).all()
        assert np.abs(scaled).max() <= CLIP


def test_a_missing_feature_is_average_and_a_missing_difficulty_is_hard() -> None:
    train = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    missing = np.full((1, 3), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(
        _fit([train], difficulty_size=1).apply(missing), [[0, 0, DIFFICULTY_CLIP]]
    )
    raw = _fit([train], difficulty_size=1, difficulty_scale="raw")
    assert raw.apply(missing)[0, 2] == train[:, 2].max()
    np.testing.assert_array_equal(raw.apply(train)[:, 2], train[:, 2])


def test_missing_training_frames_do_not_count() -> None:
    train = np.array([[1.0], [3.0], [np.nan]], dtype=np.float32)
    assert _fit([train]).mean[0] == 2.0
    assert _fit([train]).std[0] == 1.0
