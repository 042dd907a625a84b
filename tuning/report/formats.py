"""How a report writes numbers, dates and settings. Knows no table and no chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, stdev

import numpy as np

from pipeline.metrics.bootstrap import Score
from pipeline.stages.task import Task
from tuning.spec.space import Value

NOTHING = "-"
"""What stands where there is no number."""


@dataclass(frozen=True)
class Mean:
    """A mean with its spread.

    Attributes:
        value: the mean.
        spread: the standard deviation; None for a single value.
        num_values: of how many.
    """

    value: float
    spread: float | None
    num_values: int

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Mean | None:
        """Return the mean of some values; None where there are none."""
        if not values:
            return None
        spread = stdev(values) if len(values) > 1 else None
        return cls(fmean(values), spread, len(values))

    def __str__(self) -> str:
        return f"{self.value:z.3f}{self._spread_text()}"

    def with_sign(self) -> str:
        """Return the mean as a difference: its sign is always written."""
        return f"{self.value:+.3f}{self._spread_text()}"

    def _spread_text(self) -> str:
        return "" if self.spread is None else f" ± {self.spread:.3f}"


def measure_name(task: Task) -> str:
    """Return what the scores of a task are: a CCC, or a reconstruction error (RE)."""
    return "CCC" if task.target else "RE"


def display_sign(task: Task) -> float:
    """Return what a task's score is multiplied with for people.

    The score of an auto-encoder is minus its reconstruction error; people read the error.
    """
    return 1.0 if task.target else -1.0


def value_text(value: Value) -> str:
    """Return a setting's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace(",", " + ") or "none"


def values_text(values: Mapping[str, Value]) -> str:
    """Return a configuration in one line."""
    return ", ".join(f"{path} = {value_text(value)}" for path, value in values.items())


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def score_text(score: Score | None) -> str:
    """Return a CCC with its interval, where it has one."""
    if score is None:
        return NOTHING
    if not np.isfinite(score.ccc):
        return "undefined"
    return f"{score.ccc:.3f} {interval_text(score)}".rstrip()


def interval_text(score: Score) -> str:
    """Return the interval of a CCC; an empty text where it has none."""
    return f"[{score.low:.3f}, {score.high:.3f}]" if _has_interval(score) else ""


def difference_text(difference: Score | None) -> str:
    """Return the difference of two CCCs with its interval, where it has one, all with signs."""
    if difference is None:
        return ""
    if not np.isfinite(difference.ccc):
        return "undefined"

    text = f"{difference.ccc:+.3f}"
    if _has_interval(difference):
        text += f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return text


def estimate_text(estimate: Mapping[str, float] | None) -> str:
    """Return a number of an audit and its interval; a dash where there are too few trials."""
    if estimate is None:
        return NOTHING
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def date_text(seconds: float) -> str:
    """Return a time, in seconds since 1970, as a date and a time of day."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _has_interval(score: Score) -> bool:
    return bool(np.isfinite([score.low, score.high]).all())
