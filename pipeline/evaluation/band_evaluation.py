"""How good bands are: what they cover, by person, too, and their width beside a constant band.

Knows no model: bands come as one pair of series per session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.bootstrap import bootstrap_mean
from pipeline.model.bands import Band


@dataclass(frozen=True)
class BandEvaluation:
    """What the bands of one target cover on one partition; widths are in the label's unit.

    Attributes:
        level: the share of a new person's frames that they are to cover.
        coverage: share of all labelled frames whose label lies in its band.
        subject_coverage: subject -> the same of the subject's frames.
        mean_width: mean over labelled frames.
        constant_coverage: coverage of bands of the same level that are as wide everywhere.
        constant_width: the mean width of these.
        width_difference: mean width minus that of the constant bands.
        width_difference_low: lower end of its 95% interval from a bootstrap of subjects; NaN of
            fewer than two.
        width_difference_high: upper end.
    """

    level: float
    coverage: float
    subject_coverage: dict[str, float]
    mean_width: float
    constant_coverage: float
    constant_width: float
    width_difference: float
    width_difference_low: float
    width_difference_high: float

    @property
    def worst_subject(self) -> str:
        """Return the subject of whom least is covered."""
        return min(self.subject_coverage, key=self.subject_coverage.__getitem__)

    @property
    def verdict(self) -> str:
        """Return what difficulty and disagreement do to the width: "narrow them" and so on."""
        if not np.isfinite([self.width_difference_low, self.width_difference_high]).all():
            return "cannot be judged from one person"
        if self.width_difference_high < 0:
            return "narrow them"
        if self.width_difference_low > 0:
            return "widen them here"
        return "neither narrow nor widen them clearly"

    def to_json(self) -> dict[str, Any]:
        """Return the bands' part of a target's evaluation; an interval is None where unknown."""
        interval = {
            "width_difference_low": self.width_difference_low,
            "width_difference_high": self.width_difference_high,
        }
        return {
            "level": self.level,
            "coverage": self.coverage,
            "worst_person_coverage": self.subject_coverage[self.worst_subject],
            "worst_person": self.worst_subject,
            "persons": self.subject_coverage,
            "mean_width": self.mean_width,
            "constant_coverage": self.constant_coverage,
            "constant_width": self.constant_width,
            "width_difference": self.width_difference,
            **{key: value if np.isfinite(value) else None for key, value in interval.items()},
        }


def evaluate_bands(
    sessions: Sequence[Session],
    target: str,
    level: float,
    bands: Sequence[Band],
    constant_bands: Sequence[Band],
) -> BandEvaluation | None:
    """Compare bands with labels.

    Args:
        sessions: labelled or not.
        target: of the labels.
        level: that the bands were calibrated to.
        bands: one per session.
        constant_bands: those of the same level that are as wide everywhere.

    Returns:
        None where no frame is labelled.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    for session, band, constant in zip(sessions, bands, constant_bands, strict=True):
        labels = session.labels[target]
        is_known = np.isfinite(labels)
        if is_known.any():
            own = np.array(
                [
                    is_known.sum(),
                    _is_covered(labels, band)[is_known].sum(),
                    (band.high - band.low)[is_known].sum(),
                    _is_covered(labels, constant)[is_known].sum(),
                    (constant.high - constant.low)[is_known].sum(),
                ],
                dtype=np.float64,
            )
            sums[session.subject] = sums.get(session.subject, np.zeros(5)) + own
    if not sums:
        return None

    subjects = sorted(sums)
    stacked = np.stack([sums[subject] for subject in subjects])
    frames, covered, width, constant_covered, constant_width = stacked.sum(axis=0).tolist()
    differences = np.stack([stacked[:, 0], stacked[:, 2] - stacked[:, 4]], axis=1)
    difference, low, high = bootstrap_mean(differences)
    return BandEvaluation(
        level=level,
        coverage=covered / frames,
        subject_coverage={
            subject: float(sums[subject][1] / sums[subject][0]) for subject in subjects
        },
        mean_width=width / frames,
        constant_coverage=constant_covered / frames,
        constant_width=constant_width / frames,
        width_difference=difference,
        width_difference_low=low,
        width_difference_high=high,
    )


def _is_covered(labels: NDArray[np.float64], band: Band) -> NDArray[np.bool_]:
    return (band.low <= labels) & (labels <= band.high)
