"""Several predictions of the same sessions, against the bootstrap of each."""

from __future__ import annotations

import json

import audmetric
import numpy as np
import pytest

from pipeline.evaluation.paired_scores import PairedScores, mean_paired_scores, paired_scores
from tests.pipeline_tests.corpora import tiny_session

SESSIONS = [tiny_session(f"s{i}", f"p{i}", "devel", seed=i) for i in range(5)]
TARGETS = ("arousal", "valence")
PREDICTIONS = {
    target: {
        "good": [session.labels[target] + 0.1 for session in SESSIONS],
        "poor": [0.5 * session.labels[target][::-1] for session in SESSIONS],
    }
    for target in TARGETS
}


def _ccc(target: str, name: str) -> float:
    truth = np.concatenate([session.labels[target] for session in SESSIONS])
    return float(audmetric.concordance_cc(truth, np.concatenate(PREDICTIONS[target][name])))


def test_scores_are_pooled_and_differences_are_between_pooled_scores() -> None:
    scores = paired_scores(SESSIONS, PREDICTIONS["arousal"], "arousal", ["good"])

    assert scores.scores["good"].ccc == pytest.approx(_ccc("arousal", "good"))
    difference = scores.differences["good"]["poor"]
    assert difference.ccc == pytest.approx(_ccc("arousal", "good") - _ccc("arousal", "poor"))
    assert difference.low <= difference.ccc <= difference.high
    assert list(scores.differences) == ["good"]
    assert list(scores.differences["good"]) == ["poor"]


def test_a_mean_over_targets_is_that_of_the_pooled_scores() -> None:
    scores = mean_paired_scores(SESSIONS, PREDICTIONS, ["good", "poor"])
    for name in ("good", "poor"):
        expected = np.mean([_ccc(target, name) for target in TARGETS])
        assert scores.scores[name].ccc == pytest.approx(expected)

    forth, back = scores.differences["good"]["poor"], scores.differences["poor"]["good"]
    assert forth.ccc == pytest.approx(-back.ccc)
    assert forth.low == pytest.approx(-back.high)


def test_a_mean_over_targets_has_the_interval_of_common_draws() -> None:
    """Of two equal targets the mean is either, with its interval."""
    twice = {"arousal": PREDICTIONS["arousal"], "valence": PREDICTIONS["arousal"]}
    sessions = [tiny_session(f"s{i}", f"p{i}", "devel", seed=i) for i in range(len(SESSIONS))]
    for session in sessions:
        session.labels["valence"][:] = session.labels["arousal"]

    mean = mean_paired_scores(sessions, twice, []).scores["good"]
    single = paired_scores(sessions, twice["arousal"], "arousal", []).scores["good"]
    assert (mean.ccc, mean.low, mean.high) == pytest.approx((single.ccc, single.low, single.high))


def test_a_difference_is_over_the_frames_that_both_have() -> None:
    missing = [series.copy() for series in PREDICTIONS["arousal"]["good"]]
    for series in missing:
        series[:10] = np.nan

    predictions = {**PREDICTIONS["arousal"], "gaps": missing}
    scores = paired_scores(SESSIONS, predictions, "arousal", ["good"])
    assert scores.differences["good"]["gaps"].ccc == 0


def test_scores_come_back_from_json() -> None:
    scores = mean_paired_scores(SESSIONS, PREDICTIONS, ["good"])
    assert PairedScores.from_json(json.loads(json.dumps(scores.to_json()))) == scores
