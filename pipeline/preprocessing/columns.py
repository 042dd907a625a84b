"""The one rule by which columns are recognised, wherever features come from. Knows no files.

Columns are taken by their names, in any order, where the set of names is the expected one. Columns
that are only numbered, 0 to n - 1 or 1 to n, are taken by their numbers: real files of one feature
set begin with either. Anything else is a mistake, which names the columns.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.preprocessing.bookkeeping import (
    FileColumns,
    Kind,
    column_traits,
    failed_rows,
    named_columns,
    timed_columns,
)

NUM_NAMED = 3
"""How many missing and unknown columns a message names."""


class ColumnMistake(InputError):
    """Columns that are not the expected ones.

    Attributes:
        doubled: a name that occurs twice, then nothing else is known; else None.
        missing: expected names that are not given, in the expected order.
        unknown: given names that are not expected, in the given order.
        expected: all expected names.
    """

    def __init__(
        self,
        *,
        doubled: str | None = None,
        missing: Sequence[str] = (),
        unknown: Sequence[str] = (),
        expected: Sequence[str] = (),
    ) -> None:
        self.doubled, self.expected = doubled, tuple(expected)
        self.missing, self.unknown = tuple(missing), tuple(unknown)
        super().__init__(self.describe())

    def describe(self, quote: Callable[[str], str] = repr) -> str:
        """Return a clause such as "column 'a' is missing; 'A' is unknown (nearest: 'a')".

        Args:
            quote: how the given names are written, which may be anything.
        """
        if self.doubled is not None:
            return (
                f"two columns are named {quote(self.doubled)} (pandas would name the second one "
                f"{quote(f'{self.doubled}.1')})"
            )

        clauses = []
        if self.missing:
            names = [repr(name) for name in self.missing[:NUM_NAMED]]
            clauses.append(_count_clause(names, len(self.missing), "missing"))
        if self.unknown:
            names = [self._with_nearest(name, quote) for name in self.unknown[:NUM_NAMED]]
            clauses.append(_count_clause(names, len(self.unknown), "unknown"))
        if self.missing and self.unknown and all(map(str.isdigit, self.missing + self.unknown)):
            clauses.append("numbers count from 0 or from 1 only where every column has one")
        return "; ".join(clauses)

    def _with_nearest(self, name: str, quote: Callable[[str], str]) -> str:
        if _first_of_name(name) in self.expected:
            return f"{quote(name)} (pandas names a second {quote(_first_of_name(name))} so)"
        nearest = nearest_name(name, self.missing)
        return quote(name) if nearest is None else f"{quote(name)} (nearest: {nearest!r})"


class ChosenColumns(NamedTuple):
    """Which of the given columns a model reads.

    Attributes:
        positions: the place of each expected column among the given ones, in the expected order.
        set_aside: given columns that are no features -> what they are.
        is_failed: shape (rows,); the rows that one of these marks as missing.
    """

    positions: list[int]
    set_aside: Mapping[str, Kind]
    is_failed: NDArray[np.bool_]


def column_names(labels: Iterable[object]) -> tuple[str, ...]:
    """Return labels of columns as the names that are compared: text without blanks around it."""
    return tuple(str(label).strip() for label in labels)


def raise_if_doubled(names: Sequence[str]) -> None:
    """Refuse names of which one occurs twice.

    Raises:
        ColumnMistake: one does.
    """
    if len(set(names)) < len(names):
        [(name, _)] = Counter(names).most_common(1)
        raise ColumnMistake(doubled=name)


def column_order(expected: Sequence[str], given: Sequence[str]) -> list[int]:
    """Return the place of each expected column among the given ones.

    Args:
        expected: names, each once.
        given: names, as `column_names` returns them.

    Raises:
        ColumnMistake: a given name occurs twice, is missing, or is not expected.
    """
    raise_if_doubled(given)
    place_of = {name: place for place, name in enumerate(given)}
    if place_of.keys() == set(expected):
        return [place_of[name] for name in expected]

    expected_first, given_first = first_number(expected), first_number(given)
    if len(given) == len(expected) and expected_first is not None and given_first is not None:
        return [place_of[str(int(name) - expected_first + given_first)] for name in expected]

    features = set(expected)
    raise ColumnMistake(
        missing=[name for name in expected if name not in place_of],
        unknown=[name for name in given if name not in features],
        expected=expected,
    )


def first_number(names: Sequence[str]) -> int | None:
    """Return 0 or 1 where names are the numbers from there on, in any order; else None."""
    for first in (0, 1):
        if set(names) == {str(number) for number in range(first, first + len(names))}:
            return first
    return None


def usual_columns(headers: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the columns that most headers have, in the order that most of these have."""
    kinds = [_kind_of_header(header) for header in headers]
    usual_kind, _ = Counter(kinds).most_common(1)[0]
    of_usual_kind = [
        header for header, kind in zip(headers, kinds, strict=True) if kind == usual_kind
    ]
    return Counter(of_usual_kind).most_common(1)[0][0]


def find_bookkeeping(
    files: Sequence[FileColumns], expected: Collection[str] = (), known: Collection[str] = ()
) -> dict[str, Kind]:
    """Return the columns of a feature set that are no features, and what they are.

    One decision holds for all files: what a column is by its name, and by its values in every file.
    A column that only its values betray stays where no feature would be left without it: a set of
    one column may rise as it likes.

    Args:
        files: the columns of every file of the set.
        expected: the columns that a model reads: they are features to it. Empty if none does.
        known: columns that were no features when the model was trained.
    """
    expected_names = set(expected)
    named = named_columns(files, expected_names, known)
    if expected and all(_is_expected(expected, _left(file, named)) for file in files):
        return named

    found = timed_columns(files, expected_names) | named  # a name says more than values do
    if all(_left(file, found) for file in files):
        return found
    return named


def choose_columns(
    expected: Sequence[str],
    labels: Iterable[object],
    values: Callable[[int], NDArray[np.float64]],
    timestamps_ms: NDArray[np.float64],
    known: Collection[str] = (),
) -> ChosenColumns:
    """Choose the columns that a model reads among those of one session.

    Args:
        expected: the model's columns.
        labels: those given.
        values: place of a given column -> its values, shape (rows,), NaN where it has no number.
            Only columns that the model does not read are asked for.
        timestamps_ms: shape (rows,).
        known: columns that were no features when the model was trained.

    Raises:
        ColumnMistake: columns are missing or unknown, or a name occurs twice.
    """
    names = column_names(labels)
    raise_if_doubled(names)
    nothing_failed = np.zeros(len(timestamps_ms), np.bool_)
    if _is_expected(expected, names):
        return ChosenColumns(column_order(expected, names), {}, nothing_failed)

    features = set(expected)
    extra = {name: values(place) for place, name in enumerate(names) if name not in features}
    traits = {name: column_traits(series, timestamps_ms) for name, series in extra.items()}
    file = FileColumns(names, traits, len(timestamps_ms))
    set_aside = find_bookkeeping([file], expected, known)

    left = [place for place, name in enumerate(names) if name not in set_aside]
    order = column_order(expected, [names[place] for place in left])
    series_of = {name: extra[name] for name in set_aside}
    return ChosenColumns(
        [left[place] for place in order],
        set_aside,
        failed_rows(series_of, set_aside) if series_of else nothing_failed,
    )


def describe_set_aside(set_aside: Mapping[str, Kind], quote: Callable[[str], str] = repr) -> str:
    """Return a list such as "'frame' (frame number), 'success' (marks missing rows)"."""
    named = [f"{quote(name)} ({kind})" for name, kind in list(set_aside.items())[: 2 * NUM_NAMED]]
    num_hidden = len(set_aside) - len(named)
    return ", ".join(named) + (f" and {num_hidden} more" if num_hidden else "")


def nearest_name(name: str, candidates: Sequence[str]) -> str | None:
    """Return the candidate that is most like a name, the case of letters apart; or None."""
    by_plain_name = {candidate.casefold(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.casefold(), list(by_plain_name), n=1)
    return by_plain_name[close[0]] if close else None


def second_columns(names: Sequence[str]) -> list[str]:
    """Return the names such as "a.1" beside "a": pandas makes them of two columns "a"."""
    every = set(names)
    return [name for name in names if _first_of_name(name) in every]


def _first_of_name(name: str) -> str:
    """Return "a" for "a.1", and "" for a name that pandas did not make of a doubled one."""
    made = re.fullmatch(r"(.+)\.\d+", name)
    return made[1] if made else ""


def _is_expected(expected: Collection[str], names: Sequence[str]) -> bool:
    try:
        column_order(list(expected), names)
    except ColumnMistake:
        return False
    return True


def _left(file: FileColumns, set_aside: Collection[str]) -> list[str]:
    return [name for name in file.names if name not in set_aside]


def _kind_of_header(header: tuple[str, ...]) -> frozenset[str] | int:
    """Return what headers have in common whose files are read together."""
    return frozenset(header) if first_number(header) is None else len(header)


def _count_clause(quoted: Sequence[str], count: int, state: str) -> str:
    names = ", ".join(quoted)
    if count == 1:
        return f"column {names} is {state}"
    more = f" and {count - len(quoted)} more" if count > len(quoted) else ""
    return f"columns {names}{more} are {state}"
