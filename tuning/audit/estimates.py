"""An estimate: a number with its 95% interval. Knows nothing of what is estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)
"""Ends of a 95% interval."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: the number.
        low: lower end of the interval; the value itself where nothing is uncertain.
        high: upper end, likewise.
    """

    value: float
    low: float
    high: float

    @classmethod
    def from_draws(cls, value: float, draws_B: Floats) -> Estimate:
        """Return a value with the percentile interval of draws, widened to contain the value.

        Args:
            value: the point estimate.
            draws_B: bootstrap or posterior draws of it, shape (draws,).
        """
        # Percentiles of equal draws may differ from them by rounding.
        if np.ptp(draws_B) == 0:
            return cls(float(value), float(value), float(value))

        low, high = np.percentile(draws_B, PERCENTILES)
        return cls(float(value), float(min(low, value)), float(max(high, value)))

    def to_json(self) -> dict[str, float]:
        """Return "value", "low" and "high"."""
        return {"value": self.value, "low": self.low, "high": self.high}
