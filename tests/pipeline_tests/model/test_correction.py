"""The correction of scale and bias: the best for the CCC, learned from other people only."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from pipeline.metrics.ccc import ccc, moments
from pipeline.model.correction import (
    Correction,
    best_correction,
    corrections_without_each,
    learn_correction,
)

CENTRE = 0.3
Person = tuple[NDArray[np.float64], NDArray[np.float64]]


def people_of(seed: int, scale: float, bias: float, noise: float = 0.3) -> list[Person]:
    """Return labels and predictions of 15 people; the predictions need about scale and bias."""
    random = np.random.default_rng(seed)
    people = []
    for _ in range(15):
        labels = random.normal(size=80) + 0.2 * random.normal()
        people.append((labels, (labels + noise * random.normal(size=80) - bias) / scale))
    return people


def sums_of(people: list[Person]) -> NDArray[np.float64]:
    """Return the sums that corrections are learned from."""
    return np.stack([moments(labels, predictions, CENTRE) for labels, predictions in people])


def pooled(people: list[Person]) -> Person:
    """Return the frames of all people."""
    labels, predictions = zip(*people, strict=True)
    return np.concatenate(labels), np.concatenate(predictions)


@pytest.mark.parametrize(("scale", "bias"), [(2.0, -0.5), (0.7, 10.0)])
def test_the_best_correction_is_what_an_optimiser_finds(scale: float, bias: float) -> None:
    people = people_of(0, scale, bias)
    labels, predictions = pooled(people)

    def disagreement(coefficients: NDArray[np.float64]) -> float:
        return -ccc(labels, coefficients[0] * predictions + coefficients[1])

    found = minimize(disagreement, np.array([1.0, 0.0]), method="Nelder-Mead", tol=1e-12)
    best = best_correction(sums_of(people), CENTRE)

    assert (best.scale, best.bias) == pytest.approx(tuple(found.x), abs=1e-4)
    # Lin 1989: the CCC of equal means and deviations is Pearson's correlation.
    correlation = np.corrcoef(labels, predictions)[0, 1]
    assert ccc(labels, best.apply(predictions)) == pytest.approx(correlation, abs=1e-12)


def test_a_clear_need_is_learned_almost_in_full() -> None:
    people = people_of(1, 2.0, 3.0)
    learned = learn_correction(sums_of(people), CENTRE)
    best = best_correction(sums_of(people), CENTRE)

    assert learned.scale == pytest.approx(best.scale, rel=0.02)
    assert 1 < learned.scale <= best.scale


def test_what_people_do_not_agree_on_is_not_corrected() -> None:
    """Half of the people need twice the scale and half of them half of it."""
    people = [*people_of(2, 2.0, 0.0), *people_of(3, 0.5, 0.0)]
    sums = sums_of(people)
    # As much of either, so that the ratio of deviations is 1 but for chance.
    labels, predictions = pooled(people)
    people = [(a, b * labels.std() / predictions.std()) for a, b in people]

    assert learn_correction(sums_of(people), CENTRE).scale == 1.0
    assert learn_correction(sums, CENTRE).scale != best_correction(sums, CENTRE).scale


def test_a_persons_correction_owes_nothing_to_the_person() -> None:
    people = people_of(4, 1.5, 0.4)
    before = corrections_without_each(sums_of(people), CENTRE)
    labels, predictions = people[0]
    after = corrections_without_each(sums_of([(-9 * labels, predictions), *people[1:]]), CENTRE)

    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("case", ["constant label", "constant prediction", "turned round"])
def test_where_nothing_can_be_matched_nothing_is_corrected(case: str) -> None:
    people = people_of(5, 2.0, 0.0)
    if case == "constant label":
        people = [(np.ones(80), predictions) for _, predictions in people]
    elif case == "constant prediction":
        people = [(labels, np.ones(80)) for labels, _ in people]
    else:
        people = [(labels, -predictions) for labels, predictions in people]

    assert best_correction(sums_of(people), CENTRE) == Correction()
    assert learn_correction(sums_of(people), CENTRE) == Correction()


def test_two_people_are_too_few_to_agree() -> None:
    assert learn_correction(sums_of(people_of(6, 2.0, 0.0)[:2]), CENTRE) == Correction()


def test_numbers_survive_json() -> None:
    correction = Correction(1.25, -0.5)

    assert Correction.from_json(correction.to_json()) == correction
