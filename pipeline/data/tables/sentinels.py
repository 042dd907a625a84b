"""Finds numbers that stand for a missing value, such as -1, -5 or -999. Knows arrays only.

A sentinel is written again and again, is a whole number, and lies apart from all other values of
its column: below them if it is negative, above them if it is positive. How far it must be depends
on how well it is known:

- *loud* ones (-99, -999, 9999, -32768 and the like): by the scale of the other values, other loud
  ones left out, or below 0 where no other value is;
- *quiet* ones (-1, -5, -9 and the like): likewise, but among values that are finely spaced, for
  -1 may be a category or the next whole number. -1 and -2 also end scales such as -1..1: they count
  only where no other value is negative;
- any other whole number: by ten times that scale, among values that are not whole.

A quiet one from -5 down also counts in features if it is there far more often than any other value
and somewhat apart. A row with one negative whole number in all its columns is a sentinel of its
own, where most cells are not whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUIET = frozenset({-1.0, -2.0, -5.0, -7.0, -8.0, -9.0})
LOUD = frozenset(
    float(np.float32(value))
    for value in (
        *[sign * (10**digits - 1) for digits in range(2, 11) for sign in (-1, 1)],
        *[-(10**digits) for digits in range(3, 39)],
        *[10**digits for digits in range(6, 39)],
        *[-(2**15), 2**15 - 1, 2**16 - 1, -(2**31), 2**31 - 1, 2**32 - 1],
        *[-np.finfo(np.float32).max, np.finfo(np.float32).max],
    )
)
"""As float32, which features are: -99, 999, ...; -1000, -10000, ...; ends of number types."""
MIN_REPEATS = 3
MIN_LOUD_REPEATS = 2
MIN_FINE = 8
"""So many other values at least are no categories."""
MIN_FINE_LABELS = 3
FINE_STEPS = 20
"""A quiet sentinel is so many usual steps of the other values away from them."""
UNKNOWN_FACTOR = 10
BEYOND_CATEGORIES = 3
"""So many scales away from a few categories, a code is none of them."""
CERTAIN_SCALES = 1.5
OFTEN_FACTOR = 10
OFTEN_GAP = 0.1
"""As a share of the range of the other values."""
MAX_CODES = 3
"""So many sentinels in a row, such as -998 and -999 for two reasons to be missing."""
MIN_ROW_COLUMNS = 3
COLUMNS_AT_ONCE = 64


@dataclass(frozen=True)
class Sentinel:
    """A number that likely stands for a missing value.

    Attributes:
        value: the number.
        is_certain: whether it cannot be a value of the same scale as the others.
    """

    value: float
    is_certain: bool


@dataclass(frozen=True)
class _Distinct:
    """Distinct values of a column, ascending, and how often each is there."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]


def find_sentinels(values: NDArray[np.floating], *, is_label: bool = False) -> list[Sentinel]:
    """Return the sentinels among the values of one column, ascending.

    Args:
        values: shape (rows,); those that are not finite are passed over.
        is_label: annotations have few values by nature, and a scale that begins at 0 or 1.
    """
    distinct, counts = np.unique(values[np.isfinite(values)].astype(np.float64), return_counts=True)
    sentinels: list[Sentinel] = []

    def take(end: int) -> bool:
        """Move the sentinels at one end of the values to the list; tell whether there are any."""
        nonlocal distinct, counts
        for number in range(1, min(MAX_CODES, len(distinct) - 1) + 1):
            codes = slice(None, number) if end < 0 else slice(len(distinct) - number, None)
            others = slice(number, None) if end < 0 else slice(None, len(distinct) - number)
            rest = _Distinct(distinct[others], counts[others])
            found = _judge(_Distinct(distinct[codes], counts[codes]), rest, end, is_label)
            if found:
                sentinels.extend(found)
                distinct, counts = rest.values, rest.counts
                return True
        return False

    while take(-1) or take(1):
        pass
    return sorted(sentinels, key=lambda sentinel: sentinel.value)


def sentinels_by_column(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]],
) -> dict[int, list[Sentinel]]:
    """Return position -> sentinels, of the columns of a feature set that have any.

    Args:
        parts: of each file the values, shape (rows, columns), and which rows are as written.
    """
    parts = [(values, is_written) for values, is_written in parts if is_written.any()]
    if not parts:
        return {}

    # Most columns are ruled out by their ends, so that a wide set is read once and not sorted.
    ends = [(rows.min(axis=0), rows.max(axis=0)) for rows in map(_written_rows, parts)]
    low = np.min([lowest for lowest, _ in ends], axis=0)
    high = np.max([highest for _, highest in ends], axis=0)
    is_candidate = ((low < 0) & (low == np.rint(low))) | ((high > 0) & (high == np.rint(high)))

    sentinels = {}
    for column, values in _columns(parts, np.flatnonzero(is_candidate)):
        if low[column] >= 0 and _is_count(values):
            continue
        if found := find_sentinels(values):
            sentinels[column] = found
    return sentinels


def sentinel_rows(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]],
) -> list[float]:
    """Return the numbers that stand in all columns of a row, again and again.

    Args:
        parts: as for the columns.
    """
    counts: Counter[float] = Counter()
    num_whole = num_cells = 0
    for values, is_written in parts:
        is_constant = rows_of_one_number(values) & is_written
        counts.update(values[is_constant, 0].tolist())
        others = values[~is_constant & is_written, :COLUMNS_AT_ONCE]
        num_whole += int((others == np.rint(others)).sum())
        num_cells += others.size

    if num_whole > num_cells / 2:
        return []
    return sorted(
        value
        for value, count in counts.items()
        if value < 0 and value == np.rint(value) and count >= MIN_REPEATS
    )


def rows_of_one_number(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which rows have the same number in all of three or more columns, shape (rows,)."""
    is_constant = np.full(len(values), values.shape[1] >= MIN_ROW_COLUMNS)
    for columns in (slice(0, MIN_ROW_COLUMNS), slice(MIN_ROW_COLUMNS, None)):
        rows = np.flatnonzero(is_constant)
        is_constant[rows] = (values[rows, columns] == values[rows, :1]).all(axis=1)
    return is_constant


def _is_count(values: NDArray[np.float32]) -> bool:
    """Tell whether values from 0 on end too early, and too closely, for a sentinel above them."""
    highest = values.max()
    others = values[values < highest]
    return bool(highest < 99 and len(others) and highest < (1 + UNKNOWN_FACTOR / 2) * others.max())


def _written_rows(
    part: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> NDArray[np.float32]:
    values, is_written = part
    return values if is_written.all() else values[is_written]


def _columns(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]], positions: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(positions), COLUMNS_AT_ONCE):
        block = positions[start : start + COLUMNS_AT_ONCE]
        values = np.concatenate([rows[:, block][is_written] for rows, is_written in parts])
        for index, column in enumerate(block):
            yield int(column), values[:, index]


def _judge(codes: _Distinct, rest: _Distinct, end: int, is_label: bool) -> list[Sentinel]:
    """Return the sentinels that some values at one end are, or none if one of them is none.

    Args:
        codes: the values.
        rest: all values beyond which they lie; at least one.
        end: -1 where the codes are the lowest values, 1 where they are the highest.
        is_label: whether they are annotations.
    """
    values = codes.values
    is_whole = bool((values == np.rint(values)).all())
    if not is_whole or (np.sign(values) != end).any():
        return []

    is_loud = bool(_is_loud(values).all())
    is_quiet = all(value in QUIET for value in values.tolist())
    repeats = MIN_LOUD_REPEATS if is_loud else MIN_REPEATS
    if (codes.counts < repeats).any():
        return []

    edge = rest.values[0] if end < 0 else rest.values[-1]
    gap = float(np.abs(values - edge).min())
    measured = rest.values[~_is_loud(rest.values)] if is_loud else rest.values
    if not len(measured):
        return []
    scale = _scale(measured)
    is_sign_alone = end < 0 and rest.values[0] >= 0

    if is_loud:
        is_far = gap >= scale or (is_sign_alone and gap >= FINE_STEPS * _step(rest))
    elif is_quiet:
        is_far = _is_far_quiet(values, gap, scale, rest, is_label)
        if not is_label:
            is_far |= _is_often(codes, gap, rest)
    else:
        is_fine = len(rest.values) >= MIN_FINE and (rest.values != np.rint(rest.values)).any()
        is_far = bool(is_fine and gap >= UNKNOWN_FACTOR * scale)

    is_certain = is_loud or (abs(float(values[0])) >= 5 and gap >= CERTAIN_SCALES * scale)
    return [Sentinel(value, is_certain) for value in values.tolist()] if is_far else []


def _is_far_quiet(
    values: NDArray[np.float64], gap: float, scale: float, rest: _Distinct, is_label: bool
) -> bool:
    lowest, is_large = float(rest.values[0]), bool((values <= -5).all())
    if is_large and len(rest.values) > 1 and gap >= BEYOND_CATEGORIES * scale:
        return True
    if len(rest.values) < (MIN_FINE_LABELS if is_label else MIN_FINE):
        return False
    if lowest < 0:
        return is_large and gap >= scale

    step = _step(rest)
    skips_a_value = gap >= 2 * step
    if is_label and lowest >= 1:
        return skips_a_value
    return (gap >= scale and skips_a_value) or gap >= FINE_STEPS * step


def _is_often(codes: _Distinct, gap: float, rest: _Distinct) -> bool:
    """Tell whether codes are a mode of their own, beside values of which none is repeated much."""
    if (codes.values > -5).any() or len(rest.values) < MIN_FINE:
        return False
    is_mode = bool((codes.counts >= OFTEN_FACTOR * rest.counts.max()).all())
    return is_mode and gap >= OFTEN_GAP * float(np.ptp(rest.values))


def _is_loud(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32).tolist()
    return np.array([value in LOUD for value in single], np.bool_)


def _scale(values: NDArray[np.float64]) -> float:
    """Return how far values reach: from each other, or from 0."""
    return max(float(np.ptp(values)), float(np.abs(values).max()) / 2)


def _step(rest: _Distinct) -> float:
    """Return the usual distance of neighbouring values; 0 if there is only one."""
    return float(np.median(np.diff(rest.values))) if len(rest.values) > 1 else 0.0
