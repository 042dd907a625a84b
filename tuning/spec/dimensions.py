"""Dimensions of a search: what varies, over which domain of values, and under which conditions.

Knows no stage and no settings: a path is only a name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from pipeline.errors import InputError

Value = bool | int | float | str
Configuration = dict[str, Value]
"""The values of one candidate: path of a dimension -> value."""


@dataclass(frozen=True)
class Choice:
    """A domain of listed values, in no order."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.values))}"

    @property
    def extremes(self) -> tuple[Value, ...]:
        """All values: none of them lies between two others."""
        return self.values

    def coerce(self, value: Value) -> Value | None:
        """Return a value as it is listed (not numpy's), or None where it is not listed."""
        return next((listed for listed in self.values if listed == value), None)


@dataclass(frozen=True)
class IntRange:
    """A domain of whole numbers, both ends included; log: equal ratios are equally likely."""

    low: int
    high: int
    log: bool = False

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    @property
    def values(self) -> Sequence[int]:
        """All values, in order."""
        return range(self.low, self.high + 1)

    @property
    def extremes(self) -> tuple[int, int]:
        """Both ends: all other values lie between them."""
        return self.low, self.high

    def coerce(self, value: Value) -> int | None:
        """Return a value as an int, or None where it is outside."""
        is_inside = isinstance(value, Integral) and self.low <= value <= self.high
        return int(value) if is_inside else None


@dataclass(frozen=True)
class FloatRange:
    """A domain of real numbers, both ends included; log: equal ratios are equally likely."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    @property
    def values(self) -> None:
        """None: a continuous domain cannot be listed."""

    @property
    def extremes(self) -> tuple[float, float]:
        """Both ends: all other values lie between them."""
        return self.low, self.high

    def coerce(self, value: Value) -> float | None:
        """Return a value as a float, or None where it is outside."""
        is_inside = isinstance(value, Real) and self.low <= value <= self.high
        return float(value) if is_inside else None


Domain = Choice | IntRange | FloatRange


@dataclass(frozen=True)
class Dimension:
    """One thing that varies.

    Attributes:
        path: of a setting below its stage ("fit.learning_rate"), of an upstream stage
            ("auto_encoder", "unimodal.voice"), or "modalities".
        domain: its values. For an upstream stage they are ranks, and 1 is the best.
        when: path of an earlier dimension -> values. The dimension applies where each of these
            paths has one of its values.
    """

    path: str
    domain: Domain
    when: Mapping[str, tuple[Value, ...]]

    def is_active(self, configuration: Mapping[str, Value], defaults: Mapping[str, Value]) -> bool:
        """Return whether the dimension applies.

        Args:
            configuration: values of the earlier dimensions that apply.
            defaults: path of a setting -> its value where the configuration has none.
        """
        return all(
            configuration.get(path, defaults.get(path)) in allowed
            for path, allowed in self.when.items()
        )

    def coerce(self, value: Value) -> Value:
        """Return a value in the domain's type.

        Raises:
            InputError: the value is outside the domain.
        """
        coerced = self.domain.coerce(value)
        if coerced is None:
            raise InputError(f"'{self.path}' cannot be {value!r}: it is {self.domain}.")
        return coerced


def active_dimensions(
    dimensions: Iterable[Dimension],
    configuration: Mapping[str, Value],
    defaults: Mapping[str, Value],
) -> tuple[Dimension, ...]:
    """Return the dimensions that apply.

    Args:
        dimensions: a condition refers only to earlier ones.
        configuration: values; those of dimensions that do not apply are ignored.
        defaults: path of a setting -> its value where the configuration has none.
    """
    active: list[Dimension] = []
    known: Configuration = {}

    for dimension in dimensions:
        if dimension.is_active(known, defaults):
            active.append(dimension)
            if dimension.path in configuration:
                known[dimension.path] = configuration[dimension.path]

    return tuple(active)
