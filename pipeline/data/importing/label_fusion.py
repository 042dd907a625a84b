"""The raters of one session: put on common frames, fused, and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.formats.recording import Track
from pipeline.data.importing.raters import Fusion, common_grid, fuse
from pipeline.data.importing.report import RaterReport
from pipeline.data.importing.resampling import resample
from pipeline.errors import InputError


class Rated(Protocol):
    """A track with its times in ms; each of its columns is a rater."""

    @property
    def rater(self) -> str:
        """Return the rater's name; "" where the columns name them."""

    @property
    def source(self) -> str:
        """Return how messages name the file."""

    @property
    def track(self) -> Track:
        """Return the numbers."""

    @property
    def times_ms(self) -> NDArray[np.float64]:
        """Return the times, shape (rows,)."""


@dataclass(frozen=True)
class FusedSession:
    """The fused labels of a session.

    Attributes:
        times_ms: shape (frames,).
        values: shape (frames,).
        raters: one entry per rater.
        notes: sentences about what is odd.
    """

    times_ms: NDArray[np.float64]
    values: NDArray[np.float64]
    raters: tuple[RaterReport, ...]
    notes: tuple[str, ...]


def fuse_session(
    session: str,
    target: str,
    items: Sequence[Rated],
    fusion: Fusion,
    resample_ms: float | None,
    max_lag_ms: float,
) -> FusedSession:
    """Fuse the raters of a session: files of one column each, or the columns of one file.

    Raises:
        InputError: there is one rater, two have one name, or they have different times and no
            period is given.
    """
    names, timelines, ratings = _list_raters(session, items)
    if len(names) < 2:
        raise InputError(
            f"Session {session!r} has one rater, {names[0]!r}: leave --raters out; or say "
            "where the others are: --session NAME if all files are of one session, or --pattern "
            "'{session}_{rater}.csv'."
        )

    if resample_ms:
        resampled = [
            resample(times_ms, values[:, None], resample_ms, holds=True)
            for times_ms, values in zip(timelines, ratings, strict=True)
        ]
        timelines = [times_ms for times_ms, _ in resampled]
        ratings = [values[:, 0] for _, values in resampled]
    else:
        _raise_unless_common(session, names, timelines)

    frames_ms, raters_KT = common_grid([np.rint(times_ms) for times_ms in timelines], ratings)
    period_ms = resample_ms or float(np.median(np.diff(frames_ms)))
    fused = fuse(raters_KT, fusion, period_ms, max_lag_ms)
    reports = [
        RaterReport(
            target=target,
            session=session,
            rater=name,
            fusion=fusion,
            weight=float(fused.weights[rater]),
            lag_ms=float(fused.lags_ms[rater]),
            ccc_with_others=_or_none(float(fused.agreements[rater])),
            mean_pairwise_ccc=_or_none(fused.pairwise),
        )
        for rater, name in enumerate(names)
    ]
    notes = tuple(f"Session {session!r}: {note}" for note in fused.notes)
    return FusedSession(frames_ms, fused.values_T, tuple(reports), notes)


def _list_raters(
    session: str, items: Sequence[Rated]
) -> tuple[list[str], list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Return the names, times and ratings of all raters."""
    names, timelines, ratings = [], [], []
    for item in items:
        columns = item.track.columns
        if len(items) > 1 and len(columns) > 1:
            raise InputError(
                f"{item.source} has {len(columns)} columns, and there are other files of session "
                f"{session!r}. Name the one to read: --column {columns[0]!r}."
            )
        for place, column in enumerate(columns):
            names.append(item.rater or item.source if len(columns) == 1 else column)
            timelines.append(item.times_ms)
            ratings.append(item.track.values[:, place])

    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"Session {session!r} has rater {doubled!r} twice. Keep one file.")
    return names, timelines, ratings


def _raise_unless_common(
    session: str, names: Sequence[str], timelines: Sequence[NDArray[np.float64]]
) -> None:
    """Raise where raters have different times, or one has a time twice."""
    for name, times_ms in zip(names, timelines, strict=True):
        has_same = len(times_ms) == len(timelines[0]) and np.allclose(
            times_ms, timelines[0], atol=0.5
        )
        if not has_same or (np.diff(np.rint(times_ms)) <= 0).any():
            what = f"has other times than {names[0]!r}" if not has_same else "has a time twice"
            raise InputError(
                f"Session {session!r}: rater {name!r} {what}. Pass a period that all are averaged "
                "to, in ms: --resample 100."
            )


def _or_none(number: float) -> float | None:
    return number if np.isfinite(number) else None
