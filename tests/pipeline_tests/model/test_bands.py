"""Bands: they cover a new person as often as they say, and are wide where a model may err."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.model.bands import (
    BandCalibration,
    CalibrationPerson,
    calibrate,
    fewest_people,
    jackknife_quantile,
    sigma_inputs,
)


def person_of(random: np.random.Generator, *, frames: int = 60, spread: float) -> CalibrationPerson:
    """Return a person with a scale of error of their own, whose errors grow with one input."""
    inputs = random.normal(size=(frames, 2))
    scale = np.exp(spread * random.normal() + 0.5 * inputs[:, 0])
    return CalibrationPerson(scale * random.normal(size=frames), np.zeros(frames), inputs)


def people_of(seed: int, count: int = 20, spread: float = 0.5) -> list[CalibrationPerson]:
    """Return people that differ by `spread`, the deviation of their error's logarithm."""
    random = np.random.default_rng(seed)
    return [person_of(random, spread=spread) for _ in range(count)]


def calibrated(people: list[CalibrationPerson], level: float = 0.9) -> BandCalibration:
    """Return the calibration; fails where there is none."""
    calibration = calibrate(people, level)
    assert calibration is not None
    return calibration


def coverage(calibration: BandCalibration, person: CalibrationPerson) -> float:
    """Return the share of a person's labels in their band."""
    band = calibration.band(person.predictions, person.inputs)
    return float(np.mean((band.low <= person.labels) & (person.labels <= band.high)))


@pytest.mark.parametrize("count", [10, 20, 30, 50])
def test_of_one_frame_each_the_quantile_is_that_of_split_conformal_prediction(count: int) -> None:
    """Papadopoulos et al. 2002: of n scores the smallest but ceil((n + 1) * level) - 1."""
    scores = np.random.default_rng(count).permutation(count).astype(np.float64)
    expected = math.ceil((count + 1) * 0.9) - 1

    assert jackknife_quantile([scores[[place]] for place in range(count)], 0.9) == expected


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_a_new_persons_frames_are_covered_as_often_as_the_level_says(spread: float) -> None:
    """Over many draws of people, whether they are alike or differ much."""
    covered = []
    for seed in range(150):
        *people, new = people_of(seed, count=21, spread=spread)
        covered.append(coverage(calibrated(people), new))

    standard_error = np.std(covered) / math.sqrt(len(covered))
    assert abs(np.mean(covered) - 0.9) < 3 * standard_error + 0.01


def test_people_count_alike_whatever_the_number_of_their_frames() -> None:
    scores = [np.random.default_rng(seed).exponential(seed + 1, size=50) for seed in range(20)]
    repeated = [np.tile(own, 1 + 7 * (place % 3)) for place, own in enumerate(scores)]

    assert jackknife_quantile(repeated, 0.9) == jackknife_quantile(scores, 0.9)


def test_a_higher_level_never_has_a_narrower_band() -> None:
    people = people_of(1, count=40)
    widths = []
    for level in (0.5, 0.7, 0.8, 0.9, 0.95):
        band = calibrated(people, level).band(people[0].predictions, people[0].inputs)
        widths.append(band.high - band.low)

    assert np.all(np.diff(widths, axis=0) >= 0)


def test_a_harder_frame_has_a_wider_band_and_an_unrelated_input_changes_little() -> None:
    calibration = calibrated(people_of(2, count=40, spread=0.1))
    hardness, unrelated = calibration.weights

    # The logarithm of the errors' scale grows by 0.5 with a deviation of the first input.
    assert hardness == pytest.approx(0.5, abs=0.08)
    assert 0 <= unrelated < 0.05


def test_a_frame_of_unknown_difficulty_has_a_band_as_wide_as_the_hardest() -> None:
    calibration = calibrated(people_of(3))
    band = calibration.band(np.zeros(2), np.array([[np.nan, 0.0], [1e9, 0.0]]))

    assert band.high[0] == band.high[1]


def test_a_harder_frame_never_has_a_narrower_band_even_where_the_harder_ones_err_less() -> None:
    people = [replace(person, inputs=-person.inputs) for person in people_of(4)]

    assert calibrated(people).weights[0] == 0


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_labels_unit_only_scales_the_band(factor: float) -> None:
    people = people_of(5)
    scaled = [
        CalibrationPerson(factor * each.labels, factor * each.predictions, each.inputs)
        for each in people
    ]
    band = calibrated(people).band(people[0].predictions, people[0].inputs)
    scaled_band = calibrated(scaled).band(scaled[0].predictions, scaled[0].inputs)

    np.testing.assert_allclose(scaled_band.high, factor * band.high, rtol=1e-6)


def test_the_constant_band_is_as_wide_everywhere() -> None:
    band = calibrated(people_of(6)).constant_band(np.arange(5.0))

    np.testing.assert_allclose(band.high - band.low, band.high[0] - band.low[0])


def test_an_end_that_several_people_reach_is_one_of_the_scale_and_bounds_the_band() -> None:
    people = [
        replace(person, labels=np.clip(person.labels, -1, None))
        for person in people_of(7, spread=1)
    ]
    calibration = calibrated(people)
    band = calibration.band(np.array([-0.9, -1.5]), np.full((2, 2), 3.0))

    assert (calibration.lowest, calibration.highest) == (-1.0, None)
    # A prediction beyond the end is in its band nevertheless.
    np.testing.assert_array_equal(band.low, [-1.0, -1.5])
    assert np.all(band.high > 0)


def test_too_few_people_have_no_band() -> None:
    """Nine largest errors of ten people bound the tenth's with probability 0.9."""
    assert fewest_people(0.9) == 10
    assert calibrate(people_of(8, count=9)) is None


def test_errors_of_zero_have_a_band_of_no_width() -> None:
    people = [replace(person, labels=np.zeros(60)) for person in people_of(9)]
    band = calibrated(people).band(np.ones(3), np.zeros((3, 2)))

    np.testing.assert_allclose(band.high - band.low, 0, atol=1e-9)


def test_people_without_a_labelled_frame_are_left_out() -> None:
    people = people_of(10)
    nobody = CalibrationPerson(np.empty(0), np.empty(0), np.empty((0, 2)))

    assert calibrate([*people, nobody]) == calibrate(people)


def test_numbers_survive_json() -> None:
    calibration = calibrated(people_of(11))

    assert BandCalibration.from_json(calibration.to_json()) == calibration


def test_sigma_reads_difficulties_and_the_disagreement_of_what_is_present() -> None:
    errors = np.array([[1.0, math.e], [np.nan, 1.0]], dtype=np.float32)
    predictions = np.array([[0.0, 2.0], [np.nan, 2.0]], dtype=np.float32)

    expected = np.array([[0.0, 1.0, 0.0], [np.nan, 0.0, np.nan]])
    np.testing.assert_allclose(sigma_inputs(errors, predictions), expected, atol=1e-6)


def test_of_one_modality_there_is_no_disagreement() -> None:
    assert sigma_inputs(np.ones((3, 1)), np.ones((3, 1))).shape == (3, 1)
