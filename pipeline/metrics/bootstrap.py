"""How sure a pooled CCC is: a bootstrap of subjects, also of the difference of two predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.ccc import ccc_from_moments, moments

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Score:
    """A pooled CCC with its 95% interval; NaN where undefined (an interval needs two subjects)."""

    ccc: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.ccc:.3f} [{self.low:.3f}, {self.high:.3f}]"
            if np.isfinite(self.ccc)
            else "undefined"
        )

    def to_json(self) -> dict[str, float | None]:
        """ "ccc", "ccc_low" and "ccc_high"; None where undefined."""
        named = {"ccc": self.ccc, "ccc_low": self.low, "ccc_high": self.high}
        return {name: float(value) if np.isfinite(value) else None for name, value in named.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, float | None]) -> Score:
        """The inverse of `to_json`."""
        values = (record[name] for name in ("ccc", "ccc_low", "ccc_high"))
        return cls(*(np.nan if value is None else value for value in values))


def subject_moments(
    sessions: Sequence[Session], target: str, series: Sequence[NDArray[np.floating[Any]]]
) -> NDArray[np.float64]:
    """The sums of each subject's CCC, shape (subjects, 6), subjects in order of name: what a bootstrap resamples."""
    known = np.concatenate([session.labels[target] for session in sessions])
    centre = float(np.nanmean(known)) if np.isfinite(known).any() else 0.0
    subjects: dict[str, NDArray[np.float64]] = {}
    for session, values in zip(sessions, series, strict=True):
        truth = session.labels[target]
        use = np.isfinite(truth) & np.isfinite(values)
        sums = moments(truth[use], values[use], centre)
        subjects[session.subject] = subjects.get(session.subject, np.zeros(6)) + sums
    return np.stack([subjects[name] for name in sorted(subjects)])


def bootstrap(
    subjects: NDArray[np.float64], other: NDArray[np.float64] | None = None, *, seed: int = 0
) -> Score:
    """Pooled CCC and its 95% interval over resampled subjects.

    Frames of one subject depend on each other, so subjects are drawn, not frames.

    Args:
        subjects: from `subject_moments`.
        other: of a second prediction of the same subjects: then the score is the difference, paired.
    """
    seen = subjects[:, 0] > 0  # a subject without a labelled frame says nothing, and is not drawn
    subjects, other = subjects[seen], None if other is None else other[seen]
    num_subjects = len(subjects)
    if not len(subjects):
        return Score(np.nan, np.nan, np.nan)
    draws = np.random.default_rng(seed).multinomial(
        num_subjects, np.full(num_subjects, 1 / num_subjects), size=BOOTSTRAPS
    )
    value, drawn = float(ccc_from_moments(subjects.sum(axis=0))), ccc_from_moments(draws @ subjects)
    if other is not None:
        value -= float(ccc_from_moments(other.sum(axis=0)))
        drawn = drawn - ccc_from_moments(draws @ other)
    drawn = drawn[np.isfinite(drawn)]
    if num_subjects < 2 or not drawn.size:
        return Score(value, np.nan, np.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(value, float(low), float(high))
