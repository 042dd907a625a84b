"""Reconstruction errors: their percentiles and their scale, also where none is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stages.difficulty import difficulty_columns, percentile, reference_percentiles


def test_references_are_the_percentiles_of_the_errors() -> None:
    errors = np.random.default_rng(0).gamma(1.0, size=(2000, 1)).astype(np.float32)
    errors[5] = np.nan
    reference = reference_percentiles([errors[:700], errors[700:]])

    known = np.sort(errors[np.isfinite(errors)])
    assert reference[50] == pytest.approx(np.median(known))
    assert (reference[0], reference[100]) == (known[0], known[-1])
    assert reference[90] == pytest.approx(known[int(0.9 * len(known))], rel=0.02)


def test_percentiles_place_an_error_among_the_references() -> None:
    training_errors = np.arange(1001, dtype=np.float32)
    reference = reference_percentiles([training_errors[:, None]])

    errors = np.array([-5, 0, 250, 1000, 9999, np.nan], dtype=np.float32)
    expected = [0, 0, 25, 100, 100, np.nan]
    np.testing.assert_allclose(percentile(errors, reference), expected, atol=1e-4)


def test_without_any_known_error_the_references_are_zero() -> None:
    unknown = np.full((3, 1), np.nan, dtype=np.float32)
    assert set(reference_percentiles([unknown])) == {0.0}


def test_the_log_scale_is_log1p_and_raw_is_untouched() -> None:
    errors = {"s": np.array([[0.0], [1.7182818], [np.nan]], dtype=np.float32)}
    log_errors = difficulty_columns(errors, "log")["s"][:, 0]
    np.testing.assert_allclose(log_errors, [0.0, 1.0, np.nan], rtol=1e-6)
    assert difficulty_columns(errors, "raw") is errors
