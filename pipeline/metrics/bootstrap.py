"""How sure a pooled CCC is: a bootstrap of subjects, also of the difference of two predictions.

Knows no model: predictions come as one series per session.

Efron, B. (1979): Bootstrap methods: another look at the jackknife. Annals of Statistics 7(1), 1-26.
Field, C. A. and Welsh, A. H. (2007): Bootstrapping clustered data. Journal of the Royal Statistical
Society B 69(3), 369-390.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.metrics.ccc import ccc_from_moments, moments

BOOTSTRAPS = 2000
"""How often the subjects are drawn."""
INTERVAL_PERCENTILES = (2.5, 97.5)
"""Between which percentiles of the drawn CCCs a 95% interval lies."""


@dataclass(frozen=True)
class Score:
    """A pooled CCC, or a difference of two, with its 95% interval.

    Attributes:
        ccc: in [-1, 1], a difference in [-2, 2]; NaN where undefined.
        low: lower end of the interval; NaN where undefined, as it is of fewer than two subjects.
        high: upper end of the interval; likewise.
    """

    ccc: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the score as tables show it, such as "0.512 [0.401, 0.623]"."""
        if not np.isfinite(self.ccc):
            return "undefined"
        if not self.has_interval:
            return f"{self.ccc:z.3f}"
        return f"{self.ccc:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"

    @property
    def has_interval(self) -> bool:
        """Return whether there were subjects enough for one."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def with_sign(self) -> str:
        """Return a difference as tables show it, such as "+0.012 [-0.003, +0.025]"."""
        if not np.isfinite(self.ccc):
            return "undefined"
        if not self.has_interval:
            return f"{self.ccc:+z.3f}"
        return f"{self.ccc:+z.3f} [{self.low:+z.3f}, {self.high:+z.3f}]"

    def to_json(self) -> dict[str, float | None]:
        """Return "ccc", "ccc_low" and "ccc_high"; None where undefined."""
        values = {"ccc": self.ccc, "ccc_low": self.low, "ccc_high": self.high}

        return {
            name: float(value) if np.isfinite(value) else None for name, value in values.items()
        }

    @classmethod
    def from_json(cls, record: Mapping[str, float | None]) -> Score:
        """Return the score that `to_json` wrote; None becomes NaN."""
        values = (record[name] for name in ("ccc", "ccc_low", "ccc_high"))

        return cls(*(np.nan if value is None else value for value in values))


def subject_moments(
    sessions: Sequence[Session],
    target: str,
    predictions: Sequence[NDArray[np.floating[Any]]],
    *,
    centre: float | None = None,
) -> NDArray[np.float64]:
    """Return the sums of each subject that a pooled CCC is made of: what a bootstrap draws from.

    A frame counts where its label and its prediction are both finite. The sums of all subjects
    share a centre, so `ccc_from_moments` of their total is the CCC pooled over all frames.

    Args:
        sessions: at least one; several may be of the same subject.
        target: the label to compare with.
        predictions: one per session, shape (frames,), in the label's unit; NaN where missing.
        centre: subtracted from both; the mean label by default.

    Returns:
        Shape (subjects, 6), subjects in the order of their names; rows as `moments` returns them,
        all 0 for a subject of whom no frame counts.
    """
    return sum_by_subject(sessions, session_moments(sessions, target, predictions, centre))


def session_moments(
    sessions: Sequence[Session],
    target: str,
    predictions: Sequence[NDArray[np.floating[Any]]],
    centre: float | None = None,
) -> NDArray[np.float64]:
    """Return the sums of each session, about a centre that all sessions share.

    Args:
        sessions: at least one.
        target: the label to compare with.
        predictions, centre: as `subject_moments` takes them.

    Returns:
        Shape (sessions, 6); rows as `moments` returns them.
    """
    if centre is None:
        labels = np.concatenate([session.labels[target] for session in sessions])
        centre = float(np.nanmean(labels)) if np.isfinite(labels).any() else 0.0

    sums = []
    for session, prediction in zip(sessions, predictions, strict=True):
        truth = session.labels[target]
        is_known = np.isfinite(truth) & np.isfinite(prediction)
        sums.append(moments(truth[is_known], prediction[is_known], centre))
    return np.stack(sums)


def sum_by_subject(sessions: Sequence[Session], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up the sums of the sessions of each subject.

    Args:
        sessions: several may be of the same subject.
        sums: shape (sessions, 6).

    Returns:
        Shape (subjects, 6), subjects in the order of their names.
    """
    names, rows = np.unique([session.subject for session in sessions], return_inverse=True)
    totals = np.zeros((len(names), sums.shape[1]))
    np.add.at(totals, rows, sums)
    return totals


def common_moments(
    sessions: Sequence[Session],
    target: str,
    first: Sequence[NDArray[np.floating[Any]]],
    second: Sequence[NDArray[np.floating[Any]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of two predictions over the frames that both have: see `subject_moments`."""
    first_common, second_common = [], []
    for one, other in zip(first, second, strict=True):
        is_common = np.isfinite(one) & np.isfinite(other)
        first_common.append(np.where(is_common, one, np.nan))
        second_common.append(np.where(is_common, other, np.nan))

    return (
        subject_moments(sessions, target, first_common),
        subject_moments(sessions, target, second_common),
    )


def paired_difference(
    sessions: Sequence[Session],
    target: str,
    first: Sequence[NDArray[np.floating[Any]]],
    second: Sequence[NDArray[np.floating[Any]]],
) -> Score:
    """Return the CCC of one prediction minus that of another, over the frames that both have.

    Args:
        sessions: as for `subject_moments`, likewise the target and both predictions.
        target: the label to compare with.
        first: one series per session, shape (frames,).
        second: what is subtracted.
    """
    first_common, second_common = [], []
    for one, other in zip(first, second, strict=True):
        is_common = np.isfinite(one) & np.isfinite(other)
        first_common.append(np.where(is_common, one, np.nan))
        second_common.append(np.where(is_common, other, np.nan))

    return bootstrap(
        subject_moments(sessions, target, first_common),
        subject_moments(sessions, target, second_common),
    )


def bootstrap(
    subjects: NDArray[np.float64], other: NDArray[np.float64] | None = None, *, seed: int = 0
) -> Score:
    """Return a pooled CCC and its 95% interval by the percentile bootstrap of subjects.

    Frames of one subject depend on each other, so subjects are drawn, not frames (a cluster
    bootstrap, Field and Welsh 2007): each of `BOOTSTRAPS` draws takes as many subjects as there
    are, with replacement, and pools the frames of those drawn. The interval lies between the
    percentiles 2.5 and 97.5 of the draws' CCCs (Efron 1979).

    Args:
        subjects: sums from `subject_moments`, shape (subjects, 6); or of several targets of the
            same subjects, shape (targets, subjects, 6): the score is then the mean over targets of
            their CCCs, all taken of the same draws.
        other: those of a second prediction of the same frames. The score is then the difference of
            the CCCs, the second subtracted from the first, and paired: both are taken of the same
            draws.
        seed: of the draws.

    Returns:
        The score. A subject of whom no frame counts is not drawn. Draws with an undefined CCC are
        left out. The interval is NaN of fewer than two subjects, and where only one combination of
        subjects has a defined CCC: nothing varies then. The CCC is NaN where it is undefined.
    """
    has_frames = (subjects[..., 0] > 0).reshape(-1, subjects.shape[-2]).any(axis=0)
    subjects = subjects[..., has_frames, :]
    other = None if other is None else other[..., has_frames, :]
    num_subjects = subjects.shape[-2]
    if not num_subjects:
        return Score(np.nan, np.nan, np.nan)

    draws = np.random.default_rng(seed).multinomial(
        num_subjects, np.full(num_subjects, 1 / num_subjects), size=BOOTSTRAPS
    )
    value, drawn = _mean_ccc(subjects.sum(axis=-2)[..., None, :]), _mean_ccc(draws @ subjects)
    if other is not None:
        value = value - _mean_ccc(other.sum(axis=-2)[..., None, :])
        drawn = drawn - _mean_ccc(draws @ other)

    is_defined = np.isfinite(drawn)
    drawn = drawn[is_defined]
    if num_subjects < 2 or not drawn.size or _is_one_combination(draws[is_defined], drawn):
        return Score(value.item(), np.nan, np.nan)
    low, high = np.percentile(drawn, INTERVAL_PERCENTILES)
    return Score(value.item(), float(low), float(high))


def bootstrap_mean(subjects: NDArray[np.float64], *, seed: int = 0) -> tuple[float, float, float]:
    """Return a mean over frames and its 95% interval, by the bootstrap of subjects of `bootstrap`.

    Args:
        subjects: each subject's number of frames and the sum over them, shape (subjects, 2); at
            least one frame in all.
        seed: of the draws.

    Returns:
        The mean, the lower and the upper end; the ends are NaN of fewer than two subjects.
    """
    subjects = subjects[subjects[:, 0] > 0]
    num_subjects = len(subjects)
    frames, total = subjects.sum(axis=0).tolist()
    if num_subjects < 2:
        return total / frames, np.nan, np.nan

    draws = np.random.default_rng(seed).multinomial(
        num_subjects, np.full(num_subjects, 1 / num_subjects), size=BOOTSTRAPS
    )
    drawn = draws @ subjects
    low, high = np.percentile(drawn[:, 1] / drawn[:, 0], INTERVAL_PERCENTILES)
    return total / frames, float(low), float(high)


def _is_one_combination(draws: NDArray[np.int64], drawn: NDArray[np.float64]) -> bool:
    """Return whether all draws are of the same subjects, as often each.

    Args:
        draws: how often each subject was drawn, shape (draws, subjects).
        drawn: their CCCs, shape (draws,).
    """
    return bool(np.ptp(drawn) == 0 and (draws == draws[0]).all())


def _mean_ccc(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over targets of CCCs, shape (draws,), from sums (targets, draws, 6)."""
    coefficients = ccc_from_moments(sums)
    return np.asarray(coefficients.reshape(-1, coefficients.shape[-1]).mean(axis=0))
