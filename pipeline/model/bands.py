"""Calibrated bands: where a new person's label lies with a stated probability. Knows no files.

Split conformal prediction over people. The errors of the training people, each predicted by models
that held them out, are divided by an expected error, sigma, and a quantile of these scores makes
the band: prediction +- quantile * sigma. Sigma grows with the difficulties of a frame and with the
disagreement of the unimodal predictions, so that a band is wide where the model may err.

Frames of one person depend on each other: every person counts alike, and the quantile is the one
that covers the share `level` of people that were left out of it. Without leaving them out (the
pooled CDF of Dunn et al.) it covers too little where people differ; with a share of 1 / (people +
1) set aside for the unknown person (Lee et al.) it never does, but covers too much where they are
alike.

Papadopoulos, H., Gammerman, A. and Vovk, V. (2008): Normalized nonconformity measures for
regression conformal prediction. AIA 2008, 64-69.
Dunn, R., Wasserman, L. and Ramdas, A. (2023): Distribution-free prediction sets for two-layer
hierarchical models. Journal of the American Statistical Association 118(544), 2491-2502.
Barber, R. F., Candes, E. J., Ramdas, A. and Tibshirani, R. J. (2021): Predictive inference with the
jackknife+. Annals of Statistics 49(1), 486-507.
Lee, Y., Barber, R. F. and Willett, R. (2023): Distribution-free inference with hierarchical data.
arXiv:2306.06342.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.display.short_repr import short_repr

Array = NDArray[np.float64]

LEVEL = 0.9
"""The share of a new person's frames that a band is to cover, on average over people."""
FRAMES_PER_PERSON = 1000
"""Of longer ones that many are taken, evenly spaced: neighbouring frames say nearly the same."""
SIGMA_FOLDS = 10
"""Into how many groups people are divided, so that sigma is fitted without those it scores."""
PRIOR_PEOPLE = 1.0
"""Sigma's weights are drawn to 0 as much as this many people without any relation would."""
LARGEST_INPUT = 3.0
"""Inputs of sigma are clipped there, in deviations; what is unknown counts as hard as that."""
ROUNDING = 1e-9
"""More than sums of weights lose to rounding, less than any frame weighs."""
SMALLEST = 1e-12
"""Keeps the logarithm of an error of 0 finite."""


@dataclass(frozen=True, repr=False)
class Band:
    """Where the label lies with the calibration's probability.

    Attributes:
        low: shape (frames,), in the label's unit; never above the prediction.
        high: shape (frames,); never below the prediction.
    """

    low: Array
    high: Array

    def __repr__(self) -> str:
        return short_repr(self, frames=len(self.low))


@dataclass(frozen=True)
class CalibrationPerson:
    """What one person tells about a model's errors; frames without a label are left out.

    Attributes:
        labels: shape (frames,).
        predictions: of models that held the person out, shape (frames,).
        inputs: of sigma, from `sigma_inputs`, shape (frames, inputs).
    """

    labels: Array
    predictions: Array
    inputs: Array


@dataclass(frozen=True)
class BandCalibration:
    """How a band is made of a prediction: numbers only.

    Attributes:
        level: the share of a new person's frames that the band is to cover.
        people: training people it was calibrated on.
        quantile: half the width of a band, in sigmas.
        constant_half_width: half the width of a band of the same level that is as wide everywhere.
        intercept: logarithm of sigma at a frame of middling difficulty.
        weights: how much sigma's logarithm grows with each input, not negative: a harder frame
            never has a narrower band.
        centres: median of each input in training.
        deviations: half the distance of each input's percentiles 16 and 84 in training.
        lowest: end of the label's scale, which no band exceeds; None where none is known.
        highest: the other end.
    """

    level: float
    people: int
    quantile: float
    constant_half_width: float
    intercept: float
    weights: tuple[float, ...]
    centres: tuple[float, ...]
    deviations: tuple[float, ...]
    lowest: float | None
    highest: float | None

    def band(self, predictions: Array, inputs: Array) -> Band:
        """Return the band around predictions.

        Args:
            predictions: shape (frames,).
            inputs: from `sigma_inputs`, shape (frames, inputs).
        """
        scaled = _scale(inputs, self.centres, self.deviations)
        sigma = np.exp(self.intercept + scaled @ np.asarray(self.weights))
        return self._around(predictions, self.quantile * sigma)

    def constant_band(self, predictions: Array) -> Band:
        """Return the band of the same level that no difficulty widens or narrows."""
        return self._around(predictions, np.full(len(predictions), self.constant_half_width))

    def to_json(self) -> dict[str, Any]:
        """Return the numbers under the names of the attributes."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> BandCalibration:
        """Return the calibration that `to_json` wrote."""
        lists = ("weights", "centres", "deviations")
        return cls(**{**record, **{name: tuple(record[name]) for name in lists}})

    def _around(self, predictions: Array, half_widths: Array) -> Band:
        low, high = predictions - half_widths, predictions + half_widths
        if self.lowest is not None:
            low = np.minimum(predictions, np.maximum(low, self.lowest))
        if self.highest is not None:
            high = np.maximum(predictions, np.minimum(high, self.highest))
        return Band(low, high)


def sigma_inputs(
    errors: NDArray[np.floating[Any]], predictions: NDArray[np.floating[Any]]
) -> Array:
    """Return what sigma is a function of: logarithms of the difficulties, and of a disagreement.

    Args:
        errors: reconstruction errors, shape (frames, modalities), NaN where missing.
        predictions: unimodal ones, same shape, NaN where missing.

    Returns:
        Shape (frames, modalities + 1), or (frames, 1) of one modality: each modality's error, then
        the standard deviation of the unimodal predictions; NaN where unknown.
    """
    logarithms: Array = np.log(np.maximum(errors.astype(np.float64), SMALLEST))
    if predictions.shape[1] < 2:
        return logarithms

    values = predictions.astype(np.float64)
    is_present = np.isfinite(values)
    count = np.maximum(is_present.sum(axis=1), 1)
    mean = np.where(is_present, values, 0.0).sum(axis=1) / count
    squares = np.where(is_present, (values - mean[:, None]) ** 2, 0.0)
    spread = np.log(np.maximum(np.sqrt(squares.sum(axis=1) / count), SMALLEST))

    # Of one prediction there is no disagreement to see, which is not the same as none.
    spread = np.where(is_present.sum(axis=1) < 2, np.nan, spread)
    return np.column_stack([logarithms, spread])


def fewest_people(level: float) -> int:
    """Return the people that a band needs: with fewer, even their largest error is too small.

    Of n people that differ, the largest error covers a new person with probability n / (n + 1) at
    least; as the quantile is found by leaving one out, n - 1 must be enough.
    """
    return math.ceil(round(level / (1 - level), 9)) + 1


def calibrate(people: Sequence[CalibrationPerson], level: float = LEVEL) -> BandCalibration | None:
    """Calibrate the band of one target.

    Args:
        people: the training people, each predicted by models that held them out.
        level: the share of a new person's frames to cover, in (0, 1).

    Returns:
        None where there are too few people, or where the errors of the others do not reach far
        enough to cover those of each.
    """
    people = [_thinned(person) for person in people if len(person.labels)]
    if len(people) < fewest_people(level):
        return None

    stacked = np.concatenate([person.inputs for person in people])
    centres, deviations = _centres_and_deviations(stacked)
    inputs = [_scale(person.inputs, centres, deviations) for person in people]
    errors = [np.abs(person.labels - person.predictions) for person in people]

    scores = _held_out_scores(errors, inputs)
    quantile = jackknife_quantile(scores, level)
    constant_half_width = jackknife_quantile(errors, level)
    if quantile is None or constant_half_width is None:
        return None

    intercept, weights = _fit_sigma(errors, inputs)
    return BandCalibration(
        level=level,
        people=len(people),
        quantile=quantile,
        constant_half_width=constant_half_width,
        intercept=intercept,
        weights=weights,
        centres=centres,
        deviations=deviations,
        lowest=_end_of_scale([float(person.labels.min()) for person in people]),
        highest=_end_of_scale([-float(person.labels.max()) for person in people], sign=-1),
    )


def jackknife_quantile(scores: Sequence[Array], level: float) -> float | None:
    """Return the score below which a new person's scores lie with a probability.

    Every person counts alike, whatever the number of their frames. Which quantile it takes is found
    by leaving each person out: quantiles of the other people, at the share that is returned here,
    cover `level` of the scores of those left out.

    Args:
        scores: one array per person, none empty.
        level: the probability, in (0, 1).

    Returns:
        A score that occurs; None where even the largest scores of the others cover fewer.
    """
    num_people = len(scores)
    if num_people < 2:
        return None
    values = np.concatenate(list(scores))
    weights = np.concatenate([np.full(len(own), 1 / len(own)) for own in scores]) / num_people
    order = np.argsort(values, kind="stable")
    ascending, cumulated = values[order], np.cumsum(weights[order])

    # The rank of a score: the share of the other people's scores that are smaller.
    smaller = np.concatenate([[0.0], cumulated])[np.searchsorted(ascending, values)]
    smaller_own = np.concatenate([np.searchsorted(np.sort(own), own) / len(own) for own in scores])
    ranks = ((num_people * smaller - smaller_own) / (num_people - 1)).round(12)

    # A quantile of the others covers a score if it is taken at a share above the score's rank.
    rank_order = np.argsort(ranks, kind="stable")
    covered = np.cumsum(weights[rank_order])
    rank = ranks[rank_order][np.searchsorted(covered, level - ROUNDING)]
    if rank >= 1:
        return None

    # All shares from there up to the next rank cover as many; the largest is the safe one.
    larger = ranks[ranks > rank]
    share = min(1.0, larger.min()) if larger.size else 1.0
    return float(ascending[np.searchsorted(cumulated, share - ROUNDING)])


def _thinned(person: CalibrationPerson) -> CalibrationPerson:
    num_frames = len(person.labels)
    if num_frames <= FRAMES_PER_PERSON:
        return person
    kept = np.linspace(0, num_frames - 1, FRAMES_PER_PERSON).round().astype(int)
    return CalibrationPerson(person.labels[kept], person.predictions[kept], person.inputs[kept])


def _centres_and_deviations(inputs: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the middle and the spread of each input; (0, 1) of one that is unknown throughout."""
    centres, deviations = [], []
    for column in inputs.T:
        known = column[np.isfinite(column)]
        low, middle, high = np.percentile(known, (16, 50, 84)) if known.size else (0.0, 0.0, 0.0)
        centres.append(float(middle))
        deviations.append(float(high - low) / 2 or 1.0)
    return tuple(centres), tuple(deviations)


def _scale(inputs: Array, centres: Sequence[float], deviations: Sequence[float]) -> Array:
    scaled = (inputs - np.asarray(centres)) / np.asarray(deviations)
    clipped: Array = np.clip(scaled, -LARGEST_INPUT, LARGEST_INPUT)
    return np.where(np.isnan(clipped), LARGEST_INPUT, clipped)


def _held_out_scores(errors: Sequence[Array], inputs: Sequence[Array]) -> list[Array]:
    """Return each person's errors in sigmas, by a sigma that was fitted on other people."""
    num_folds = min(SIGMA_FOLDS, len(errors))
    scores = list(errors)

    for fold in range(num_folds):
        others = [place for place in range(len(errors)) if place % num_folds != fold]
        intercept, weights = _fit_sigma([errors[i] for i in others], [inputs[i] for i in others])
        for place in range(fold, len(errors), num_folds):
            sigma = np.exp(intercept + inputs[place] @ np.asarray(weights))
            scores[place] = errors[place] / sigma
    return scores


def _fit_sigma(errors: Sequence[Array], inputs: Sequence[Array]) -> tuple[float, tuple[float, ...]]:
    """Fit the expected error: its logarithm is linear in the inputs, with no negative weight.

    The likelihood is that of Laplace errors of scale sigma, with a normal prior on the weights;
    every person counts alike. An input whose weight would be negative is left out.

    Returns:
        The intercept, and one weight per input.
    """
    frames = np.concatenate(list(errors))
    columns = np.concatenate(list(inputs))
    person_weights = np.concatenate([np.full(len(own), 1 / len(own)) for own in errors])
    mean_error = float(np.average(frames, weights=person_weights))
    weights = np.zeros(columns.shape[1])
    if mean_error <= SMALLEST:
        return math.log(SMALLEST), tuple(weights.tolist())

    used = list(range(columns.shape[1]))
    while True:
        # In units of the mean error, so that the label's unit does not matter.
        fitted = _newton(frames / mean_error, columns[:, used], person_weights)
        if all(fitted[1:] >= 0):
            break
        used.pop(int(np.argmin(fitted[1:])))

    weights[used] = fitted[1:]
    return float(fitted[0]) + math.log(mean_error), tuple(weights.tolist())


def _newton(errors: Array, columns: Array, person_weights: Array) -> Array:
    """Return the intercept and the weights that minimise the sum of log(sigma) + error / sigma."""
    design = np.column_stack([np.ones(len(errors)), columns])
    coefficients = np.zeros(design.shape[1])
    penalty = np.full(design.shape[1], PRIOR_PEOPLE)
    penalty[0] = 0.0

    for _ in range(100):
        ratios = person_weights * errors * np.exp(-design @ coefficients)
        gradient = design.T @ (person_weights - ratios) + penalty * coefficients
        hessian = (design * ratios[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        largest = float(np.abs(step).max())
        # The function is convex; a step of at most 1 in a logarithm cannot overshoot far.
        coefficients = coefficients - step / max(1.0, largest)
        if largest < 1e-9:
            break
    return coefficients


def _end_of_scale(extremes: Sequence[float], sign: int = 1) -> float | None:
    """Return the smallest extreme if several people share it, as they do at the end of a scale."""
    smallest = min(extremes)
    return sign * smallest if extremes.count(smallest) > 1 else None
