"""A sensor that is stuck is missing: which rows of a feature set stay the same for too long.

The rule, the same for corpora, for evaluation and for requests:

- A *stretch* is a run of present rows of one feature set that are equal in every column. Missing
  rows within it are passed over: they neither end it nor count.
- A stretch of more frames than the set's *limit* is stuck. Its rows are missing from the first
  repeated row on. The first row itself was measured, if it follows another one; in the stretch
  that a session begins with it is missing, too, for nothing says that the sensor ever measured.
  So a sensor that is frozen throughout is missing throughout.
- The limit of a set is 5 s, or twice the longest stretch that is usual in training where that is
  more: embeddings of utterances and heart rates hold their values. A person's longest stretch is
  that of all their training sessions, and usual is the upper quartile over the persons, rounded
  down to a person: with two or more of them, one with a stuck sensor does not raise it. Over
  persons, because a stimulus that stands still does so for everyone.
- A set that holds one row through half of a session, likewise in the upper quartile of persons,
  is constant by nature and has no limit.
- A model keeps the limits of its training: see `FusedModel.max_held_frames`.

Knows no files: frames are counted as a frame period apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session

MIN_LIMIT_MS = 5000.0
"""No limit is shorter."""
USUAL_FACTOR = 2
"""How many times the longest usual stretch is still not stuck."""
USUAL_QUANTILE = 0.75
"""Over persons: up to which of them a longest stretch is usual."""
CONSTANT_SHARE = 0.5
"""From which share of a session's frames in one stretch a set is constant by nature."""

_FIRST_COLUMNS = 16
"""Most rows differ within these: of a wide set the others are not even read from the disk."""


def stuck_rows(
    values: NDArray[np.float32], present: NDArray[np.bool_], max_held_frames: int
) -> NDArray[np.bool_]:
    """Return which rows of a feature set are of a stuck sensor, and have to count as missing.

    Args:
        values: shape (frames, columns).
        present: shape (frames,).
        max_held_frames: the most frames of a stretch that is not stuck.

    Returns:
        Shape (frames,); True only in present rows. Once they are missing, no other row is stuck.
    """
    rows = np.flatnonzero(present)
    starts, lengths = _stretches(values, rows)

    is_stuck = np.repeat(lengths > max_held_frames, lengths)
    is_stuck[starts[1:]] = False  # a row that follows another one was measured

    stuck = np.zeros(len(values), dtype=np.bool_)
    stuck[rows[is_stuck]] = True
    return stuck


def mark_stuck(session: Session, max_held_frames: Mapping[str, int]) -> Session:
    """Return the session with the stuck rows of its feature sets missing.

    Args:
        session: whose sensors may be stuck.
        max_held_frames: feature set -> the limit; a set without one is left as it is.
    """
    features, present = dict(session.features), dict(session.present)

    for feature_set in max_held_frames.keys() & features.keys():
        values, limit = features[feature_set], max_held_frames[feature_set]
        stuck = stuck_rows(values, present[feature_set], limit)
        if stuck.any():
            features[feature_set] = np.where(stuck[:, None], np.float32(0), values)
            present[feature_set] = present[feature_set] & ~stuck
            features[feature_set].setflags(write=False)
            present[feature_set].setflags(write=False)

    return replace(session, features=features, present=present)


def learn_limits(sessions: Sequence[Session], frame_period_ms: float) -> dict[str, int]:
    """Learn from sessions how long each feature set may hold its values.

    Args:
        sessions: those of training, before any row of theirs is marked; at least one.
        frame_period_ms: distance of two frames.

    Returns:
        Feature set -> the most frames of a stretch that is not stuck; a set that is constant by
        nature is absent.
    """
    shortest = max(1, int(MIN_LIMIT_MS / frame_period_ms))
    limits = {}

    for feature_set in sessions[0].features:
        frames, share = _usual_stretch(sessions, feature_set)
        if share < CONSTANT_SHARE:
            limits[feature_set] = max(shortest, USUAL_FACTOR * frames)

    return limits


def _usual_stretch(sessions: Sequence[Session], feature_set: str) -> tuple[int, float]:
    """Return the usual length of the longest stretch, in frames and as a share of a session.

    Both are 0 where no row is repeated.
    """
    frames: dict[str, int] = {}
    shares: dict[str, float] = {}

    for session in sessions:
        rows = np.flatnonzero(session.present[feature_set])
        if not len(rows):
            continue
        _, lengths = _stretches(session.features[feature_set], rows)
        longest = int(lengths.max())
        held = longest if longest > 1 else 0

        person = session.subject
        frames[person] = max(frames.get(person, 0), held)
        shares[person] = max(shares.get(person, 0.0), held / session.num_frames)

    if not frames:
        return 0, 0.0
    return int(_usual(list(frames.values()))), float(_usual(list(shares.values())))


def _usual(persons: Sequence[float]) -> float:
    return float(np.quantile(persons, USUAL_QUANTILE, method="lower"))


def _stretches(
    values: NDArray[np.float32], rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the starts of all stretches among the present rows, and how many rows each has."""
    if not len(rows):
        nothing = np.zeros(0, dtype=np.intp)
        return nothing, nothing

    repeated = np.arange(1, len(rows))
    for columns in (slice(0, 1), slice(1, _FIRST_COLUMNS), slice(_FIRST_COLUMNS, None)):
        row, row_before = values[rows[repeated], columns], values[rows[repeated - 1], columns]
        repeated = repeated[(row == row_before).all(axis=1)]

    starts = np.delete(np.arange(len(rows)), repeated)
    return starts, np.diff(np.append(starts, len(rows)))
