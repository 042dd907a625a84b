"""All configurations of some dimensions: one after the other, or only counted.

Counting does not list them: a range may have more values than could ever be listed. What matters to
the conditions of other dimensions is only which of the values that they name a dimension has. So
configurations fall into a few cases, and within a case the dimensions are independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tuning.spec.dimensions import Configuration, Dimension, Value, active_dimensions


@dataclass(frozen=True)
class Case:
    """One way in which the conditions of a space can turn out.

    Attributes:
        example: values of the dimensions that conditions refer to.
        num_combinations: how many combinations of these dimensions turn out the same way.
    """

    example: Configuration
    num_combinations: int


def grid(dimensions: Sequence[Dimension], defaults: Mapping[str, Value]) -> Iterator[Configuration]:
    """Yield every configuration once; the last dimension varies fastest.

    Args:
        dimensions: none is continuous; a condition refers only to earlier ones.
        defaults: path of a setting -> its value where no dimension decides it.
    """
    options = {dimension.path: _listed_values(dimension) for dimension in dimensions}
    return _combinations(dimensions, options, defaults, {})


def count(dimensions: Sequence[Dimension], defaults: Mapping[str, Value]) -> int:
    """Count the configurations that `grid` would yield."""
    total = 0

    for case in cases(dimensions, defaults):
        active = active_dimensions(dimensions, case.example, defaults)
        independent = [dimension for dimension in active if dimension.path not in case.example]
        sizes = [len(_listed_values(dimension)) for dimension in independent]
        total += case.num_combinations * prod(sizes)

    return total


def cases(dimensions: Sequence[Dimension], defaults: Mapping[str, Value]) -> Iterator[Case]:
    """Yield every way in which the conditions of some dimensions can turn out."""
    named: dict[str, list[Value]] = {}
    for dimension in dimensions:
        for path, allowed in dimension.when.items():
            named.setdefault(path, []).extend(allowed)

    deciding = [dimension for dimension in dimensions if dimension.path in named]
    counts = {
        dimension.path: _count_alike(_listed_values(dimension), named[dimension.path])
        for dimension in deciding
    }

    for example in _combinations(deciding, counts, defaults, {}):
        yield Case(example, prod(counts[path][value] for path, value in example.items()))


def _combinations(
    dimensions: Sequence[Dimension],
    options: Mapping[str, Iterable[Value]],
    defaults: Mapping[str, Value],
    chosen: Configuration,
) -> Iterator[Configuration]:
    """Yield every combination of the options, after those chosen; only of dimensions that apply."""
    if not dimensions:
        yield dict(chosen)
        return

    dimension, *later = dimensions
    if not dimension.is_active(chosen, defaults):
        yield from _combinations(later, options, defaults, chosen)
        return

    for value in options[dimension.path]:
        yield from _combinations(later, options, defaults, {**chosen, dimension.path: value})


def _count_alike(values: Sequence[Value], named: Sequence[Value]) -> dict[Value, int]:
    """Count the values that conditions cannot tell apart, under the first of them.

    Those that conditions name are counted one by one; all others are alike.
    """
    counts = {value: 1 for value in named if value in values}

    num_others = len(values) - len(counts)
    if num_others:
        first_other = next(value for value in values if value not in counts)
        counts[first_other] = num_others

    return counts


def _listed_values(dimension: Dimension) -> Sequence[Value]:
    values = dimension.domain.values
    if values is None:
        raise ValueError(f"'{dimension.path}' is continuous.")
    return values
