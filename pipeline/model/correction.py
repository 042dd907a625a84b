"""A correction of scale and bias, learned out of fold: the fused prediction times a, plus b.

A network's predictions may keep to the middle, or off it. The best correction for the CCC gives
them the labels' mean and standard deviation: then the CCC is Pearson's correlation (Lin 1989).
Knows sums of people only, no sessions and no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Correction:
    """What becomes of a prediction: scale * prediction + bias, in the label's unit."""

    scale: float = 1.0
    bias: float = 0.0

    def apply(self, predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corrected predictions, of the same shape."""
        return self.scale * predictions + self.bias

    def to_json(self) -> dict[str, float]:
        """Return "scale" and "bias"."""
        return {"scale": self.scale, "bias": self.bias}

    @classmethod
    def from_json(cls, record: Mapping[str, float]) -> Correction:
        """Return the correction that `to_json` wrote."""
        return cls(record["scale"], record["bias"])


def best_correction(people: NDArray[np.float64], centre: float) -> Correction:
    """Return the correction with the highest CCC on the people themselves.

    Args:
        people: sums of each person from `subject_moments`, shape (people, 6).
        centre: of these sums.

    Returns:
        The correction that gives the predictions the labels' mean and standard deviation; none
        where either is constant, or where they do not correlate positively: turning a prediction
        round is no correction of it.
    """
    shape = _log_scale_and_shift(people.sum(axis=0))
    return Correction() if shape is None else _correction(people, centre, *shape)


def learn_correction(people: NDArray[np.float64], centre: float) -> Correction:
    """Return the best correction, as far as the people agree on it.

    What a few people need is partly chance. The logarithm of the scale and the shift of the mean
    are each drawn to 0 by the factor 1 - variance / square (James and Stein 1961), with the
    jackknife's variance over people: a correction that is no larger than its own error vanishes.

    Args:
        people: sums of each person from `subject_moments`, shape (people, 6).
        centre: of these sums.

    Returns:
        No correction for fewer than three people.
    """
    people = people[people[:, 0] > 0]
    num_people = len(people)
    total = people.sum(axis=0)
    shape = _log_scale_and_shift(total)
    if shape is None or num_people < 3:
        return Correction()

    left_out = [_log_scale_and_shift(total - own) for own in people]
    if any(each is None for each in left_out):
        return Correction()
    jackknifed = np.array(left_out, dtype=np.float64)
    squares = (jackknifed - jackknifed.mean(axis=0)) ** 2
    variances = (num_people - 1) / num_people * squares.sum(axis=0)

    log_scale, shift = (
        value * (1 - variance / value**2) if value**2 > variance else 0.0
        for value, variance in zip(shape, variances.tolist(), strict=True)
    )
    return _correction(people, centre, log_scale, shift)


def corrections_without_each(people: NDArray[np.float64], centre: float) -> list[Correction]:
    """Return for each person the correction that is learned from all others."""
    return [
        learn_correction(np.delete(people, place, axis=0), centre) for place in range(len(people))
    ]


def _log_scale_and_shift(total: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the logarithm of the ratio of deviations, and the difference of means."""
    n, a, b, aa, bb, ab = total.tolist()
    if n == 0:
        return None
    variance_a, variance_b = aa / n - (a / n) ** 2, bb / n - (b / n) ** 2
    covariance = ab / n - a * b / n**2
    # Rounding leaves about 2**-52 of a sum of squares: less is no variation.
    if variance_a <= 1e-13 * aa / n or variance_b <= 1e-13 * bb / n or covariance <= 0:
        return None
    return 0.5 * float(np.log(variance_a / variance_b)), (a - b) / n


def _correction(
    people: NDArray[np.float64], centre: float, log_scale: float, shift: float
) -> Correction:
    """Return what scales predictions about their mean, and then shifts them."""
    total = people.sum(axis=0)
    mean = centre + total[2] / total[0]
    scale = float(np.exp(log_scale))
    return Correction(scale, float(mean + shift - scale * mean))
