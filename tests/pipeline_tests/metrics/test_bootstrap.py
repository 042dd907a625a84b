"""The bootstrap against a plain one that draws subjects in a loop."""

from __future__ import annotations

from dataclasses import replace

import audmetric
import numpy as np
import pytest

from pipeline.metrics.bootstrap import bootstrap, subject_moments
from tests.pipeline_tests.corpora import tiny_session


def test_the_bootstrap_draws_subjects_not_frames() -> None:
    """The interval is that of a loop which pools the frames of the subjects drawn."""
    random = np.random.default_rng(0)
    truths = [random.normal(size=40) + subject for subject in range(5)]
    predictions = [truth + random.normal(size=40) for truth in truths]
    sessions = [
        replace(tiny_session(f"s{i}", f"p{i}", "devel", frames=40), labels={"arousal": truth})
        for i, truth in enumerate(truths)
    ]
    score = bootstrap(subject_moments(sessions, "arousal", predictions))

    coefficients = []
    for _ in range(2000):
        drawn = random.integers(0, 5, size=5)
        truth = np.concatenate([truths[i] for i in drawn])
        prediction = np.concatenate([predictions[i] for i in drawn])
        coefficients.append(audmetric.concordance_cc(truth, prediction))

    low, high = np.percentile(coefficients, [2.5, 97.5])
    assert score.low == pytest.approx(low, abs=0.03)
    assert score.high == pytest.approx(high, abs=0.03)


def test_two_sessions_of_one_subject_are_one_unit_and_one_subject_has_no_interval() -> None:
    """Sums are taken over subjects, and of one subject nothing can be drawn."""
    sessions = [tiny_session(f"s{i}", "same", "devel", seed=i) for i in range(3)]
    sums = subject_moments(sessions, "arousal", [session.labels["valence"] for session in sessions])

    assert sums.shape == (1, 6)
    assert np.isnan(bootstrap(sums).low)


def test_a_paired_difference_with_itself_is_zero() -> None:
    """Both predictions are scored on the same draws."""
    sessions = [tiny_session(f"s{i}", f"p{i}", "devel", seed=i) for i in range(4)]
    sums = subject_moments(sessions, "arousal", [session.labels["valence"] for session in sessions])
    score = bootstrap(sums, sums)

    assert (score.ccc, score.low, score.high) == (0, 0, 0)


def test_a_subject_without_labels_is_not_drawn() -> None:
    """Further subjects without labels change neither score nor interval."""
    labelled = [tiny_session(f"s{i}", f"p{i}", "devel", seed=i) for i in range(3)]
    unlabelled = [tiny_session(f"u{i}", f"q{i}", "devel", seed=i, labelled=False) for i in range(5)]
    sessions = [*labelled, *unlabelled]
    predictions = [session.features["voice"][:, 0].astype(np.float64) for session in sessions]

    alone = bootstrap(subject_moments(labelled, "arousal", predictions[:3]))
    both = bootstrap(subject_moments(sessions, "arousal", predictions))
    np.testing.assert_allclose(
        [both.ccc, both.low, both.high], [alone.ccc, alone.low, alone.high], rtol=1e-9
    )

    one_of_each = [labelled[0], unlabelled[0]]
    assert np.isnan(bootstrap(subject_moments(one_of_each, "arousal", predictions[:2])).low)
