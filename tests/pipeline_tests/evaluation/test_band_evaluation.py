"""What bands cover: counted over labelled frames and by person, beside a constant band."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.corpus import Session
from pipeline.evaluation.band_evaluation import BandEvaluation, evaluate_bands
from pipeline.model.bands import Band
from tests.pipeline_tests.corpora import tiny_session


def session_of(subject: str, labels: list[float]) -> Session:
    """Return a session with these labels of arousal."""
    session = tiny_session(subject, subject, "devel", frames=len(labels))
    return replace(session, labels={"arousal": np.array(labels)})


def evaluated(sessions: list[Session], half_widths: list[float]) -> BandEvaluation:
    """Evaluate bands about 0 of the given half widths, beside those of half width 1."""

    def about_zero(session: Session, half_width: float) -> Band:
        half_widths = np.full(session.num_frames, half_width)
        return Band(-half_widths, half_widths)

    bands = [about_zero(*each) for each in zip(sessions, half_widths, strict=True)]
    constant = [about_zero(session, 1.0) for session in sessions]
    evaluation = evaluate_bands(sessions, "arousal", 0.9, bands, constant)
    assert evaluation is not None
    return evaluation


def test_coverage_and_width_are_counted_over_labelled_frames() -> None:
    one = session_of("one", [0.0, 0.4, 0.6, np.nan])
    other = session_of("other", [0.0, 1.5, 3.0, -1.9, 0.9])
    evaluation = evaluated([one, other], [0.5, 2.0])

    # In +-0.5: 0 and 0.4 of three; in +-2: all but 3 of five. In +-1: three of three, two of five.
    assert evaluation.coverage == pytest.approx(6 / 8)
    assert evaluation.subject_coverage == pytest.approx({"one": 2 / 3, "other": 4 / 5})
    assert evaluation.worst_subject == "one"
    assert evaluation.mean_width == pytest.approx((3 * 1 + 5 * 4) / 8)
    assert (evaluation.constant_width, evaluation.constant_coverage) == pytest.approx((2, 5 / 8))
    assert evaluation.width_difference == pytest.approx(7 / 8)
    # Draws are of "one" alone (-1), of "other" alone (2), or of both.
    ends = evaluation.width_difference_low, evaluation.width_difference_high
    assert ends == pytest.approx((-1, 2))


@pytest.mark.parametrize(
    ("half_width", "verdict"),
    [
        (0.5, "narrow them"),
        (2.0, "widen them here"),
        (1.0, "neither narrow nor widen them clearly"),
    ],
)
def test_the_verdict_follows_the_interval(half_width: float, verdict: str) -> None:
    sessions = [session_of(name, [0.0, 1.0]) for name in ("one", "other")]

    assert evaluated(sessions, [half_width] * 2).verdict == verdict


def test_of_one_person_the_interval_is_unknown_and_null_in_json() -> None:
    record = evaluated([session_of("one", [0.0, 2.0])], [0.5]).to_json()

    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["width_difference_low"] is None
    assert (record["worst_person"], record["worst_person_coverage"]) == ("one", 0.5)


def test_without_a_label_there_is_nothing_to_evaluate() -> None:
    session = session_of("one", [np.nan, np.nan])
    band = Band(np.zeros(2), np.ones(2))

    assert evaluate_bands([session], "arousal", 0.9, [band], [band]) is None
