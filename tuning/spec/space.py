"""Search spaces: which settings of a stage vary, over which values, and when. Knows no sampler: who asks chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from numbers import Integral, Real
from operator import getitem
from typing import Any, Literal, get_args

from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.spec import AutoEncoderSpec, FusionSpec, Spec, UnimodalSpec, say

Value = bool | int | float | str
Stage = Literal["auto_encoder", "unimodal", "fusion"]
StageSpec = AutoEncoderSpec | UnimodalSpec | FusionSpec
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which they are trained."""
UPSTREAM: dict[Stage, Stage | None] = {
    "auto_encoder": None,
    "unimodal": "auto_encoder",
    "fusion": "unimodal",
}
"""Which stage feeds which; its name is also the path of the dimension that chooses among its best."""
MODALITIES = "modalities"
"""Path of the dimension of fusion that chooses a subset of the modalities; its values are names with commas."""


@dataclass(frozen=True)
class Choice:
    """Some values, in no order."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.values))}"

    def member(self, value: Value) -> Value | None:
        """The value in the domain's own type (not numpy's); None where it is outside."""
        return next((own for own in self.values if own == value), None)


@dataclass(frozen=True)
class IntRange:
    """Whole numbers, both ends included; log: equal ratios are equally likely."""

    low: int
    high: int
    log: bool = False

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    @property
    def values(self) -> Sequence[int]:
        """All of them."""
        return range(self.low, self.high + 1)

    def member(self, value: Value) -> int | None:
        """The value as an int; None where it is outside."""
        return (
            int(value) if isinstance(value, Integral) and self.low <= value <= self.high else None
        )


@dataclass(frozen=True)
class FloatRange:
    """Real numbers, both ends included; log: equal ratios are equally likely."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    @property
    def values(self) -> None:
        """There is no end of them."""

    def member(self, value: Value) -> float | None:
        """The value as a float; None where it is outside."""
        return float(value) if isinstance(value, Real) and self.low <= value <= self.high else None


Domain = Choice | IntRange | FloatRange


@dataclass(frozen=True)
class Dimension:
    """One thing that varies.

    Attributes:
        path: of a setting below its stage ("fit.learning_rate"), of an upstream stage ("auto_encoder",
            "unimodal.voice"), or "modalities".
        domain: its values. For an upstream stage: 1 is the best.
        when: path of an earlier dimension -> values; the dimension applies where all of them hold. What counts is the
            setting as it will be: the base's, where the earlier dimension does not apply itself.
    """

    path: str
    domain: Domain
    when: Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Space:
    """All configurations of one stage; `tuning.spec.study_spec` reads it.

    Values are a mapping from path to value. They are drawn dimension by dimension, because a dimension applies only
    where its conditions hold (see `sample`); a setting without a dimension that applies has its value from the base.

    Attributes:
        stage: whose settings.
        base: the spec underneath.
        modalities: of the study, in order.
        dimensions: a condition looks only at earlier ones.
    """

    stage: Stage
    base: Spec
    modalities: tuple[str, ...]
    dimensions: tuple[Dimension, ...]

    def sample(self, suggest: Callable[[Dimension], Value]) -> dict[str, Value]:
        """Draw a configuration: each dimension that applies is asked for once, in order.

        Raises:
            InputError: a suggestion lies outside its domain.
        """
        values: dict[str, Value] = {}
        for dimension in self.dimensions:
            if self._applies(dimension, values):
                values[dimension.path] = _member(dimension, suggest(dimension))
        return values

    def start(self) -> dict[str, Value]:
        """The base as a configuration: its own settings or, where the space has no such value, the nearest; of stages
        above the best, and all modalities.
        """
        return self.sample(self._nearest)

    def active(self, values: Mapping[str, Value]) -> tuple[Dimension, ...]:
        """The dimensions that apply. One that has no value yet counts, in the conditions of others, as its base."""
        known: dict[str, Value] = {}
        found = []
        for dimension in self.dimensions:
            if self._applies(dimension, known):
                found.append(dimension)
                if dimension.path in values:
                    known[dimension.path] = values[dimension.path]
        return tuple(found)

    def settle(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values of exactly the dimensions that apply, in plain Python types; values of others are dropped.

        Raises:
            InputError: an unknown path, a value that is missing or outside its domain.
        """
        if unknown := values.keys() - {dimension.path for dimension in self.dimensions}:
            raise InputError(f"The search of {self.stage} has no dimension {_listed(unknown)}.")

        def given(dimension: Dimension) -> Value:
            if dimension.path not in values:
                raise InputError(
                    f"The search of {self.stage} needs a value for '{dimension.path}'."
                )
            return values[dimension.path]

        return self.sample(given)

    def settings(self, values: Mapping[str, Value]) -> StageSpec:
        """The stage's settings: the values laid over the base.

        Raises:
            InputError: as `settle`; or settings, each possible by itself, that cannot stand together.
        """
        return self._laid_over(self.settle(values))

    def spec(self, values: Mapping[str, Value]) -> Spec:
        """The base with this stage's settings in place of its own; raises as `settings`."""
        return self.base.model_copy(update={self.stage: self.settings(values)})

    def subset(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """The modalities of a fusion: all of them where they are not searched."""
        chosen = self.settle(values).get(MODALITIES)
        return self.modalities if chosen is None else tuple(str(chosen).split(","))

    def ranks(self, values: Mapping[str, Value]) -> dict[str, int]:
        """Which of the best stages above feed this one; 1 is the best, also where it is not searched.

        Returns:
            auto_encoder: nothing. unimodal: "auto_encoder" -> rank; nothing where no difficulty is read.
            fusion: modality -> rank of its regressor, for the modalities in use.
        """
        settled = self.settle(values)
        if self.stage == "fusion":
            return {m: int(settled.get(regressor(m), 1)) for m in self.subset(settled)}
        if self.stage == "unimodal" and self._value("difficulty", settled):
            return {"auto_encoder": int(settled.get("auto_encoder", 1))}
        return {}

    def canonical(self, values: Mapping[str, Value]) -> str:
        """The same JSON text for the same configuration, whatever stands in dimensions that do not apply."""
        return json.dumps(self.settle(values), sort_keys=True, separators=(",", ":"))

    @cached_property
    def size(self) -> int | None:
        """Number of distinct configurations; None: no end of them."""
        if self._continuous:
            return None
        return sum(
            count * prod(len(_values(d)) for d in self.active(case) if d.path not in case)
            for case, count in self._cases()
        )

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every configuration once; the last dimension varies fastest.

        Raises:
            InputError: a dimension is continuous.
        """
        if self._continuous:
            raise InputError(
                f"[search.{self.stage}.space] {_listed(self._continuous)}: a grid has no end here. "
                'Use choice or int, or sampler = "random".'
            )
        return self._walk(self.dimensions, lambda dimension: dimension.domain.values or ())

    def with_dimension(self, dimension: Dimension) -> Space:
        """This space and one more dimension, proven: it can apply, and all its values are possible where it does.

        Raises:
            InputError: it cannot; without its place.
        """
        larger = Space(self.stage, self.base, self.modalities, (*self.dimensions, dimension))
        case = next((case for case, _ in larger._cases() if larger._applies(dimension, case)), None)
        if case is None:
            raise InputError(
                "the conditions in 'when' never hold together: change them, or remove the dimension."
            )
        if dimension.path in self.defaults:
            domain = dimension.domain
            for value in domain.values if isinstance(domain, Choice) else (domain.low, domain.high):
                larger._laid_over(case | {dimension.path: value})
        return larger

    @cached_property
    def defaults(self) -> dict[str, Value]:
        """Every path of a setting, and its value in the base."""
        return dict(_leaves(getattr(self.base, self.stage).model_dump()))

    def _nearest(self, dimension: Dimension) -> Value:
        domain = dimension.domain
        if isinstance(domain, Choice):
            if dimension.path == MODALITIES:
                return max(domain.values, key=lambda subset: len(str(subset).split(",")))
            own = self.defaults[dimension.path]
            return own if domain.member(own) is not None else domain.values[0]
        own = self.defaults.get(dimension.path, domain.low)
        assert not isinstance(own, str)
        return min(max(own, domain.low), domain.high)

    @property
    def _continuous(self) -> list[str]:
        return [dimension.path for dimension in self.dimensions if dimension.domain.values is None]

    def _applies(self, dimension: Dimension, values: Mapping[str, Value]) -> bool:
        return all(self._value(path, values) in allowed for path, allowed in dimension.when.items())

    def _value(self, path: str, values: Mapping[str, Value]) -> Value | None:
        return values[path] if path in values else self.defaults.get(path)

    def _laid_over(self, values: Mapping[str, Value]) -> StageSpec:
        table = getattr(self.base, self.stage).model_dump()
        for path, value in values.items():
            if path in self.defaults:
                *tables, setting = path.split(".")
                reduce(getitem, tables, table)[setting] = value
        model: type[StageSpec] = type(getattr(self.base, self.stage))
        try:
            return model.model_validate(table, strict=True)
        except ValidationError as error:
            together = f" Together: {json.dumps(values)}." if len(values) > 1 else ""
            raise InputError(f"{say(error)}{together}") from error

    def _cases(self) -> Iterator[tuple[dict[str, Value], int]]:
        """Each way in which the conditions can turn out: an example of it, and how many combinations it stands for."""
        named: dict[str, list[Value]] = {}
        for dimension in self.dimensions:
            for path, allowed in dimension.when.items():
                named.setdefault(path, []).extend(allowed)
        switches = tuple(dimension for dimension in self.dimensions if dimension.path in named)
        counts = {d.path: _counts(_values(d), named[d.path]) for d in switches}
        for case in self._walk(switches, lambda dimension: counts[dimension.path]):
            yield case, prod(counts[path][value] for path, value in case.items())

    def _walk(
        self,
        dimensions: Sequence[Dimension],
        options: Callable[[Dimension], Iterable[Value]],
        values: Mapping[str, Value] | None = None,
    ) -> Iterator[dict[str, Value]]:
        values = values or {}
        if not dimensions:
            yield dict(values)
        elif self._applies(dimensions[0], values):
            for value in options(dimensions[0]):
                yield from self._walk(
                    dimensions[1:], options, {**values, dimensions[0].path: value}
                )
        else:
            yield from self._walk(dimensions[1:], options, values)


def regressor(modality: str) -> str:
    """Path of the dimension of fusion that chooses among the best regressors of a modality."""
    return f"unimodal.{modality}"


def _member(dimension: Dimension, value: Value) -> Value:
    own = dimension.domain.member(value)
    if own is None:
        raise InputError(f"'{dimension.path}' cannot be {value!r}: it is {dimension.domain}.")
    return own


def _values(dimension: Dimension) -> Sequence[Value]:
    if dimension.domain.values is None:
        raise ValueError(f"'{dimension.path}' is continuous.")
    return dimension.domain.values


def _counts(values: Sequence[Value], named: Sequence[Value]) -> dict[Value, int]:
    """The values that conditions name, once each; all others are alike, and the first of them stands for them."""
    counts = {value: 1 for value in named if value in values}
    if rest := len(values) - len(counts):
        counts[next(value for value in values if value not in counts)] = rest
    return counts


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Value]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
