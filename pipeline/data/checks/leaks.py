"""Refuses features that are a label of the corpus: a model would learn the answer from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.input_errors import raise_if_any
from pipeline.data.tables.parse import FeatureTable, LabelTable
from pipeline.preprocessing.align import NO_ROW, nearest_rows

SAMPLED_ROWS = 8
"""Rows of a session that a column is tried on before all of it is read."""
MIN_ROWS = 10
"""On fewer labelled rows a column may be equal to a label by chance."""
EQUAL = 0.02
"""How far a value may be from an equal label, as a share of the range of the middle half of all."""
FARTHEST = 10
"""Labels that are farther from the median, in the same unit, are no labels but a sign for none."""
MOST = 0.98
"""From this share of equal rows on a column is the label."""
MANY_VALUES = 20
"""With so many different labels even half of the rows are not equal by chance."""
LINEAR = 1 - 1e-5
"""From this squared correlation on a column is the label in another unit."""


class FeatureContent(Protocol):
    """A file of a feature set."""

    @property
    def table(self) -> FeatureTable:
        """Return its rows."""


class LabelContent(Protocol):
    """A file of a target."""

    @property
    def table(self) -> LabelTable:
        """Return its rows."""


class _Joined(NamedTuple):
    """The rows of one session that have both features and a label.

    Attributes:
        table: the features.
        rows: shape (joined,); of the table.
        labels: shape (joined,).
    """

    table: FeatureTable
    rows: NDArray[np.intp]
    labels: NDArray[np.float64]


def raise_if_leaked(
    features: Mapping[str, Mapping[str, FeatureContent]],
    labels: Mapping[str, Mapping[str, LabelContent]],
    tolerance_ms: float,
) -> None:
    """Refuse a corpus in which a column of a feature set is a label, maybe in another unit.

    Args:
        features: feature set -> session -> file.
        labels: target -> session -> file.
        tolerance_ms: the farthest that a feature row may be from its label.

    Raises:
        InputError: there is such a column. The message names it, its set and the target.
    """
    mistakes = []
    for feature_set, files in features.items():
        for target, label_files in labels.items():
            joined = [
                _join(file.table, label_files[session].table, tolerance_ms)
                for session, file in files.items()
                if session in label_files
            ]
            leaked: dict[str, int] = {}
            for header, sessions in _by_header(joined).items():
                for column, num_rows in _leaked_columns(sessions):
                    leaked[header[column]] = leaked.get(header[column], 0) + num_rows

            mistakes += [
                f"feature_segments/{feature_set}: column {name!r} is the label of {target!r}, by "
                f"{num_rows} rows of the same time"
                for name, num_rows in leaked.items()
            ]

    raise_if_any(
        mistakes,
        "A model would learn the answer from it. Remove the column, or leave out the feature set.",
    )


def _by_header(sessions: Sequence[_Joined]) -> dict[tuple[str, ...], list[_Joined]]:
    """Group sessions by the columns of their tables: their order may differ within a set."""
    groups: dict[tuple[str, ...], list[_Joined]] = {}
    for pair in sessions:
        if len(pair.rows):
            groups.setdefault(pair.table.columns, []).append(pair)
    return groups


def _join(table: FeatureTable, labels: LabelTable, tolerance_ms: float) -> _Joined:
    rows = nearest_rows(labels.timestamps_ms, table.timestamps_ms, tolerance_ms)
    is_joined = (rows != NO_ROW) & np.isfinite(labels.values) & table.present[rows]
    return _Joined(table, rows[is_joined], labels.values[is_joined])


def _leaked_columns(sessions: Sequence[_Joined]) -> list[tuple[int, int]]:
    """Return the columns that are the label, each with the number of rows that it was tried on.

    Most columns are nothing like it on a few rows, so that most of a wide set is not even read from
    the disk.
    """
    every_label = np.concatenate([pair.labels for pair in sessions])
    low, median, high = np.percentile(every_label, [25, 50, 75])
    spread = float(high - low)
    if spread:
        # One number for "unknown", far from all labels, would make anything equal or linear.
        sessions = [_near(pair, median, FARTHEST * spread) for pair in sessions]
    sessions = [pair for pair in sessions if len(pair.rows)]
    if sum(len(pair.rows) for pair in sessions) < MIN_ROWS:
        return []

    sampled = [
        np.unique(np.linspace(0, len(pair.rows) - 1, SAMPLED_ROWS).astype(np.intp))
        for pair in sessions
    ]
    few_values = np.concatenate(
        [pair.table.values[pair.rows[few]] for pair, few in zip(sessions, sampled, strict=True)]
    )
    few_labels = np.concatenate(
        [pair.labels[few] for pair, few in zip(sessions, sampled, strict=True)]
    )
    labels = np.concatenate([pair.labels for pair in sessions])
    has_shape = len(np.unique(labels)) >= MIN_ROWS and any(_turns(p.labels) for p in sessions)

    leaked = []
    for column in np.flatnonzero(_may_be_label(few_values, few_labels, EQUAL * spread)):
        values = np.concatenate([pair.table.values[pair.rows, column] for pair in sessions])
        exact_values = values.astype(np.float64)
        is_linear = has_shape and _squared_correlation(exact_values[:, None], labels)[0] >= LINEAR
        if is_linear or _is_equal(exact_values, labels, EQUAL * spread):
            leaked.append((int(column), len(labels)))
    return leaked


def _near(pair: _Joined, median: float, limit: float) -> _Joined:
    is_near = np.abs(pair.labels - median) <= limit
    return _Joined(pair.table, pair.rows[is_near], pair.labels[is_near])


def _turns(labels: NDArray[np.float64]) -> bool:
    """Return whether labels rise and fall: what only rises is like any feature that does."""
    steps = np.diff(labels)
    return bool((steps > 0).any() and (steps < 0).any())


def _may_be_label(
    values: NDArray[np.float32], labels: NDArray[np.float64], limit: float
) -> NDArray[np.bool_]:
    """Return which columns deserve to be read in full, shape (columns,)."""
    exact_values = values.astype(np.float64)
    near_share = (
        np.abs(exact_values - labels[:, None]) <= limit + _rounding(labels)[:, None]
    ).mean(axis=0)
    is_linear = _squared_correlation(exact_values, labels) >= 0.99
    may_be_label: NDArray[np.bool_] = (near_share >= 0.4) | is_linear
    return may_be_label


def _is_equal(values: NDArray[np.float64], labels: NDArray[np.float64], limit: float) -> bool:
    """Return whether values are the labels, but for rounding and some rows that were filled."""
    different, counts = np.unique(labels, return_counts=True)
    if len(different) < 2 or len(labels) < MIN_ROWS:
        return False

    difference = np.abs(values - labels)
    is_exact = difference <= _rounding(labels)
    if len(np.unique(labels[is_exact])) >= MANY_VALUES and is_exact.mean() >= 0.5:
        return True

    # Most labels of a rare event are one number, which a constant column may have, too.
    is_other = labels != different[counts.argmax()]
    is_near = difference <= limit + _rounding(labels)
    if len(different) == 2:
        return bool(is_exact.all()) and int(is_other.sum()) >= MIN_ROWS
    return bool(is_near.mean() >= MOST and is_near[is_other].mean() >= MOST)


def _rounding(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far a 32-bit number may be from the label that it is."""
    return 1e-6 * np.maximum(1, np.abs(labels))


def _squared_correlation(
    values: NDArray[np.float64], labels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the squared correlation of each column with the labels; 0 for a constant."""
    values, labels = values - values.mean(axis=0), labels - labels.mean()
    variances = (values**2).sum(axis=0) * (labels**2).sum()
    covariances = labels @ values
    squared: NDArray[np.float64] = np.divide(
        covariances**2, variances, out=np.zeros_like(variances), where=variances > 0
    )
    return squared
