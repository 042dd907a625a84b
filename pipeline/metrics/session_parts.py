"""A pooled CCC in two parts: between sessions, of their means, and within sessions, about them.

Knows no model: predictions come as one series per session.

Let session s have n[s] frames, labels a[s, t] with mean A[s], predictions b[s, t] with mean B[s].
The CCC of Lin (1989), 2 cov / (var + var + squared difference of the means), is taken

- **pooled**: of all pairs (a[s, t], b[s, t]);
- **between sessions**: of the pairs (A[s], B[s]), each counted n[s] times: whether the model knows
  which sessions are high and which are low;
- **within sessions**: of all pairs (a[s, t] - A[s], b[s, t] - B[s]): whether it knows when, in a
  session, the label rises and falls.

Deviations from a session's mean add up to 0, so the numerator and the denominator of the pooled CCC
are the sums of those of its parts: it is their mean with the denominators as weights, and lies
between them. For the label alone this is the division of the analysis of variance: of its variance
about the mean A of all labels, the share sum_s n[s] (A[s] - A)^2 / sum_st (a[s, t] - A)^2 lies
between sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.bootstrap import Score, bootstrap, session_moments, sum_by_subject

ROUNDING = 1e-13
"""A share of a sum of squares that is no variation, but what rounding left (see `ccc`)."""
BETWEEN, WITHIN = "between", "within"
"""What the keys of the parts begin with: "between_ccc", "within_ccc_low"."""


@dataclass(frozen=True)
class SessionParts:
    """A pooled CCC and its two parts, each with its 95% interval over subjects.

    Attributes:
        pooled: over all frames.
        between: of the sessions' means; undefined of a single session.
        within: about the sessions' means.
    """

    pooled: Score
    between: Score
    within: Score

    def to_json(self) -> dict[str, float | None]:
        """Return "ccc", "between_ccc" and "within_ccc", each also with "_low" and "_high"."""
        record = self.pooled.to_json()
        for name, part in ((BETWEEN, self.between), (WITHIN, self.within)):
            record |= {f"{name}_{key}": value for key, value in part.to_json().items()}
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, float | None]) -> SessionParts:
        """Return what `to_json` wrote; parts that a record of an earlier version lacks are NaN."""
        parts = (
            Score.from_json(
                {key: record.get(f"{name}_{key}") for key in ("ccc", "ccc_low", "ccc_high")}
            )
            for name in (BETWEEN, WITHIN)
        )
        return cls(Score.from_json(record), *parts)


def session_parts(
    sessions: Sequence[Session],
    target: str,
    predictions: Sequence[NDArray[np.floating[Any]]],
    *,
    seed: int = 0,
) -> SessionParts:
    """Return the pooled CCC of a prediction, and its parts between and within sessions.

    Each has an interval from a bootstrap of subjects, and all three are taken of the same draws. A
    frame counts where its label and its prediction are both finite; a session's means are those of
    the frames that count.

    Args:
        sessions: at least one; several may be of the same subject.
        target: the label to compare with.
        predictions: one per session, shape (frames,), in the label's unit; NaN where missing.
        seed: of the draws.
    """
    sums = session_moments(sessions, target, predictions)
    between, within = _divide(sums)

    scores = (
        bootstrap(sum_by_subject(sessions, part), seed=seed) for part in (sums, between, within)
    )
    return SessionParts(*scores)


def label_variance_between_sessions(sessions: Sequence[Session], target: str) -> float:
    """Return which share of the label's variance lies between sessions.

    Args:
        sessions: at least one.
        target: the label; frames without one do not count.

    Returns:
        In [0, 1]: 0 where all sessions have the same mean, 1 where the label is constant in each.
        NaN without labels, or where they are all the same.
    """
    sums = session_moments(sessions, target, [session.labels[target] for session in sessions])
    n, total, _, squares, _, _ = sums.sum(axis=0)
    _, within = _divide(sums)

    variation = squares - total**2 / n if n else 0.0
    if variation <= ROUNDING * squares:
        return float("nan")
    return float(1 - within[:, 3].sum() / variation)


def _divide(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Divide the sums of each session, shape (sessions, 6), into those of its mean and about it."""
    n, a, b, aa, bb, ab = sums.T
    count = np.maximum(n, 1)  # all sums of a session without frames are 0

    between = np.stack([n, a, b, a * a / count, b * b / count, a * b / count], axis=1)

    within_aa, within_bb = aa - between[:, 3], bb - between[:, 4]
    is_constant_a, is_constant_b = within_aa <= ROUNDING * aa, within_bb <= ROUNDING * bb
    within = np.zeros_like(sums)
    within[:, 0] = n
    within[:, 3] = np.where(is_constant_a, 0.0, within_aa)
    within[:, 4] = np.where(is_constant_b, 0.0, within_bb)
    within[:, 5] = np.where(is_constant_a | is_constant_b, 0.0, ab - between[:, 5])

    return between, within
