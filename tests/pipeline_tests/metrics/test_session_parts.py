"""The parts of a CCC against audmetric, against their sum, and where they are undefined."""

from __future__ import annotations

from dataclasses import replace

import audmetric
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.ccc import ccc
from pipeline.metrics.session_parts import (
    SessionParts,
    label_variance_between_sessions,
    session_parts,
)
from tests.pipeline_tests.corpora import tiny_session

Series = list[NDArray[np.float64]]


@pytest.fixture
def sessions() -> list[Session]:
    """Sessions of unequal length and level: two of each of three subjects."""
    made = []
    for number in range(6):
        session = tiny_session(
            f"s{number}", f"p{number % 3}", "devel", frames=20 + 7 * number, seed=number
        )
        level = 3.0 * np.cos(number)
        made.append(replace(session, labels={"arousal": session.labels["arousal"] + level}))
    return made


@pytest.fixture
def predictions(sessions: list[Session]) -> Series:
    """Return predictions of a smaller scale, with noise; some frames have none."""
    random = np.random.default_rng(0)
    series = []
    for session in sessions:
        truth = session.labels["arousal"]
        prediction = 0.5 * truth + random.normal(0, 0.5, len(truth)) + random.normal()
        prediction[:3] = np.nan
        series.append(prediction)
    return series


def known(sessions: list[Session], predictions: Series) -> tuple[Series, Series]:
    """Return labels and predictions of the frames that have both."""
    pairs = list(zip(sessions, predictions, strict=True))
    labels = [session.labels["arousal"][np.isfinite(values)] for session, values in pairs]
    return labels, [values[np.isfinite(values)] for values in predictions]


def test_between_is_audmetrics_of_the_session_means(
    sessions: list[Session], predictions: Series
) -> None:
    """Each mean counts as often as its session has frames."""
    labels, predicted = known(sessions, predictions)
    truth = np.concatenate([np.full(len(values), values.mean()) for values in labels])
    guess = np.concatenate([np.full(len(values), values.mean()) for values in predicted])

    parts = session_parts(sessions, "arousal", predictions)
    expected = audmetric.concordance_cc(truth, guess)
    assert parts.between.ccc == pytest.approx(expected, abs=1e-12)
    assert parts.between.low < parts.between.ccc < parts.between.high


def test_within_is_audmetrics_about_the_session_means(
    sessions: list[Session], predictions: Series
) -> None:
    """Each session's own means are removed, of the label and of the prediction."""
    labels, predicted = known(sessions, predictions)
    truth = np.concatenate([values - values.mean() for values in labels])
    guess = np.concatenate([values - values.mean() for values in predicted])

    parts = session_parts(sessions, "arousal", predictions)
    expected = audmetric.concordance_cc(truth, guess)
    assert parts.within.ccc == pytest.approx(expected, abs=1e-12)
    assert parts.within.low < parts.within.ccc < parts.within.high


def test_the_pooled_ccc_is_the_weighted_mean_of_its_parts(
    sessions: list[Session], predictions: Series
) -> None:
    """The weights are the parts' denominators, computed here from variances."""
    labels, predicted = known(sessions, predictions)
    truth, guess = np.concatenate(labels), np.concatenate(predicted)
    pooled = truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2
    about = [np.concatenate([v - v.mean() for v in values]) for values in (labels, predicted)]
    weight = (about[0].var() + about[1].var()) / pooled

    parts = session_parts(sessions, "arousal", predictions)
    assert parts.pooled.ccc == pytest.approx(ccc(truth, guess), abs=1e-12)
    mean = (1 - weight) * parts.between.ccc + weight * parts.within.ccc
    assert parts.pooled.ccc == pytest.approx(mean, abs=1e-12)


def test_who_knows_only_the_sessions_has_all_between_and_nothing_within(
    sessions: list[Session],
) -> None:
    """A constant guess per session, at its mean, is perfect between sessions."""
    means = [np.full(session.num_frames, session.labels["arousal"].mean()) for session in sessions]
    parts = session_parts(sessions, "arousal", means)

    assert parts.between.ccc == pytest.approx(1, abs=1e-12)
    assert parts.within.ccc == 0


def test_an_offset_of_each_session_leaves_the_ccc_within(sessions: list[Session]) -> None:
    """Whoever knows the course, and not the level, is perfect within sessions."""
    shifted = [
        session.labels["arousal"] + 100.0 * number for number, session in enumerate(sessions)
    ]
    parts = session_parts(sessions, "arousal", shifted)

    assert parts.within.ccc == pytest.approx(1, abs=1e-9)
    assert parts.between.ccc < 0.1


def test_a_single_session_and_constant_labels_leave_a_part_undefined(
    sessions: list[Session],
) -> None:
    """One mean has no variance; constant labels and guesses have none within."""
    alone = session_parts(sessions[:1], "arousal", [sessions[0].labels["arousal"]])
    assert np.isnan(alone.between.ccc)
    assert alone.within.ccc == pytest.approx(1)

    # 0.1 has no exact float: sums of it leave rounding errors, which are no variance.
    constant = [
        replace(session, labels={"arousal": np.full(session.num_frames, 0.1 * number)})
        for number, session in enumerate(sessions)
    ]
    guesses = [session.labels["arousal"] for session in constant]
    parts = session_parts(constant, "arousal", guesses)
    assert np.isnan(parts.within.ccc)
    assert parts.between.ccc == pytest.approx(1)
    assert label_variance_between_sessions(constant, "arousal") == pytest.approx(1)


def test_the_share_between_sessions_is_that_of_an_analysis_of_variance(
    sessions: list[Session],
) -> None:
    """Sum of squares between over total; unknown labels do not count."""
    sessions[0].labels["arousal"][:5] = np.nan
    labels = [session.labels["arousal"] for session in sessions]
    labels = [values[np.isfinite(values)] for values in labels]
    truth = np.concatenate(labels)
    between = sum(len(values) * (values.mean() - truth.mean()) ** 2 for values in labels)

    share = label_variance_between_sessions(sessions, "arousal")
    assert share == pytest.approx(between / ((truth - truth.mean()) ** 2).sum(), abs=1e-12)
    flat = [replace(s, labels={"arousal": np.ones(s.num_frames)}) for s in sessions]
    assert np.isnan(label_variance_between_sessions(flat, "arousal"))


def test_parts_are_the_same_after_json(sessions: list[Session], predictions: Series) -> None:
    """A record of an earlier version has the pooled CCC alone."""
    parts = session_parts(sessions, "arousal", predictions)
    assert SessionParts.from_json(parts.to_json()) == parts

    old = SessionParts.from_json({"ccc": 0.5, "ccc_low": 0.25, "ccc_high": None})
    assert (old.pooled.ccc, old.pooled.low) == (0.5, 0.25)
    assert np.isnan([old.pooled.high, old.between.ccc, old.within.ccc]).all()
