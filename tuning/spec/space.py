"""Search spaces: the configurations of one stage, and the settings that each of them stands for.

Knows no sampler. Dimensions, domains and configurations are imported from here, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.spec import (
    AutoEncoderSpec,
    FusionSpec,
    Spec,
    StageName,
    UnimodalSpec,
    validation_message,
)
from tuning.spec import enumeration
from tuning.spec.dimensions import (
    Choice,
    Configuration,
    Dimension,
    Domain,
    FloatRange,
    IntRange,
    Value,
    active_dimensions,
)

__all__ = [
    "MODALITIES",
    "STAGES",
    "UPSTREAM",
    "Choice",
    "Configuration",
    "Dimension",
    "Domain",
    "FloatRange",
    "IntRange",
    "Space",
    "StageSpec",
    "Value",
    "active_dimensions",
    "regressor_path",
]

StageSpec = AutoEncoderSpec | UnimodalSpec | FusionSpec
STAGES: tuple[StageName, ...] = get_args(StageName)
"""In the order in which they are trained."""
UPSTREAM: dict[StageName, StageName | None] = {
    "auto_encoder": None,
    "unimodal": "auto_encoder",
    "fusion": "unimodal",
}
"""The stage that each one reads; also the path of the dimension that chooses among its best."""
MODALITIES = "modalities"
"""Path of fusion's dimension that chooses a subset of modalities: their names with commas."""


@dataclass(frozen=True)
class Space:
    """All configurations of one stage; `tuning.spec.study_spec` reads it.

    A configuration has values of exactly the dimensions that apply. They are chosen dimension by
    dimension (see `sample`), because whether one applies depends on the values of earlier ones. A
    setting without a dimension that applies has its value from the base.

    Attributes:
        stage: whose settings vary.
        base: the spec that holds all other settings.
        modalities: of the study, in order.
        dimensions: what varies; a condition refers only to earlier ones.
    """

    stage: StageName
    base: Spec
    modalities: tuple[str, ...]
    dimensions: tuple[Dimension, ...]

    def sample(self, suggest: Callable[[Dimension], Value]) -> Configuration:
        """Build a configuration.

        Args:
            suggest: called once for each dimension that applies, in order; returns its value.

        Raises:
            InputError: a suggested value is outside its domain.
        """
        configuration: Configuration = {}

        for dimension in self.dimensions:
            if dimension.is_active(configuration, self.defaults):
                configuration[dimension.path] = dimension.coerce(suggest(dimension))

        return configuration

    def base_configuration(self) -> Configuration:
        """Return the configuration that is nearest to the base.

        It has the base's settings, or the nearest that the space holds, the best of each upstream
        task, and as many modalities as possible.
        """
        return self.sample(self._nearest_to_base)

    def validate(self, configuration: Mapping[str, Value]) -> Configuration:
        """Return the values of exactly the dimensions that apply, in plain Python types.

        Raises:
            InputError: a path is unknown, or a value is missing or outside its domain.
        """
        if unknown := configuration.keys() - {dimension.path for dimension in self.dimensions}:
            raise InputError(f"The search of {self.stage} has no dimension {_quoted(unknown)}.")

        def suggest(dimension: Dimension) -> Value:
            if dimension.path not in configuration:
                raise InputError(
                    f"The search of {self.stage} needs a value for '{dimension.path}'."
                )
            return configuration[dimension.path]

        return self.sample(suggest)

    def settings(self, configuration: Mapping[str, Value]) -> StageSpec:
        """Return the stage's settings: those of the base, with a configuration's in their place.

        Raises:
            InputError: as `validate`; or settings that are each possible contradict each other.
        """
        return self._replace_settings(self.validate(configuration))

    def spec(self, configuration: Mapping[str, Value]) -> Spec:
        """Return the base with a configuration's settings of this stage; raises as `settings`."""
        return self.base.model_copy(update={self.stage: self.settings(configuration)})

    def used_modalities(self, configuration: Mapping[str, Value]) -> tuple[str, ...]:
        """Return the modalities that a fusion reads: all of them where they are not searched."""
        subset = self.validate(configuration).get(MODALITIES)
        return self.modalities if subset is None else tuple(str(subset).split(","))

    def ranks(self, configuration: Mapping[str, Value]) -> dict[str, int]:
        """Return which of the best upstream stages a configuration reads.

        Returns:
            Ranks, where 1 is the best, also of what is not searched. For an auto-encoder there are
            none. For a unimodal stage: "auto_encoder" -> rank, or none if it reads no difficulty.
            For fusion: modality -> rank of its regressor, for the modalities that it reads.
        """
        values = self.validate(configuration)

        if self.stage == "fusion":
            modalities = self.used_modalities(values)
            return {
                modality: int(values.get(regressor_path(modality), 1)) for modality in modalities
            }

        if self.stage == "unimodal" and values.get("difficulty", self.defaults["difficulty"]):
            return {"auto_encoder": int(values.get("auto_encoder", 1))}

        return {}

    def canonical_json(self, configuration: Mapping[str, Value]) -> str:
        """Return a configuration as JSON; the same text for the same configuration.

        The order of the paths does not matter, nor do values of dimensions that do not apply.
        """
        return json.dumps(self.validate(configuration), sort_keys=True, separators=(",", ":"))

    @cached_property
    def size(self) -> int | None:
        """Number of distinct configurations; None if a dimension is continuous."""
        return None if self._continuous else enumeration.count(self.dimensions, self.defaults)

    def grid(self) -> Iterator[Configuration]:
        """Yield every configuration once; the last dimension varies fastest.

        Raises:
            InputError: a dimension is continuous.
        """
        if self._continuous:
            raise InputError(
                f"[search.{self.stage}.space] {_quoted(self._continuous)}: a grid has no end here. "
                'Use choice or int, or sampler = "random".'
            )
        return enumeration.grid(self.dimensions, self.defaults)

    def with_dimension(self, dimension: Dimension) -> Space:
        """Return this space with one more dimension, if that is possible.

        Raises:
            InputError: its conditions never hold, or the settings do not allow one of its values.
                The message does not name the dimension.
        """
        larger = replace(self, dimensions=(*self.dimensions, dimension))
        example = larger._example_with(dimension)

        if dimension.path in self.defaults:
            for value in dimension.domain.extremes:
                larger._replace_settings({**example, dimension.path: value})

        return larger

    def extreme_specs(self, path: str) -> Iterator[Spec]:
        """Yield the base with each extreme value of a setting that is searched.

        Args:
            path: of the setting, or of the table that holds it.
        """
        for dimension in self.dimensions:
            if dimension.path == path or dimension.path.startswith(f"{path}."):
                for value in dimension.domain.extremes:
                    settings = self._replace_settings({dimension.path: value})
                    yield self.base.model_copy(update={self.stage: settings})

    @cached_property
    def defaults(self) -> dict[str, Value]:
        """Path of every setting of the stage -> its value in the base."""
        return dict(_flatten(self._base_settings.model_dump()))

    @property
    def _base_settings(self) -> StageSpec:
        settings: StageSpec = getattr(self.base, self.stage)
        return settings

    @property
    def _continuous(self) -> list[str]:
        return [dimension.path for dimension in self.dimensions if dimension.domain.values is None]

    def _example_with(self, dimension: Dimension) -> Configuration:
        """Return values for which a dimension applies."""
        for case in enumeration.cases(self.dimensions, self.defaults):
            if dimension.is_active(case.example, self.defaults):
                return case.example

        raise InputError(
            "the conditions in 'when' never hold together: change them, or remove the dimension."
        )

    def _nearest_to_base(self, dimension: Dimension) -> Value:
        path, domain = dimension.path, dimension.domain

        if isinstance(domain, Choice):
            if path == MODALITIES:
                return max(domain.values, key=lambda subset: len(str(subset).split(",")))
            default = self.defaults[path]
            return default if domain.coerce(default) is not None else domain.values[0]

        default = self.defaults.get(path, domain.low)
        assert not isinstance(default, str)
        return min(max(default, domain.low), domain.high)

    def _replace_settings(self, configuration: Configuration) -> StageSpec:
        table = self._base_settings.model_dump()
        for path, value in configuration.items():
            if path in self.defaults:
                _replace_value(table, path, value)

        try:
            return type(self._base_settings).model_validate(table, strict=True)
        except ValidationError as error:
            together = f" Together: {json.dumps(configuration)}." if len(configuration) > 1 else ""
            raise InputError(f"{validation_message(error)}{together}") from error


def regressor_path(modality: str) -> str:
    """Return the path of fusion's dimension that chooses among a modality's best regressors."""
    return f"unimodal.{modality}"


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield the path and the value of every setting in nested tables."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _replace_value(table: dict[str, Any], path: str, value: Value) -> None:
    *outer, name = path.split(".")
    for key in outer:
        table = table[key]
    table[name] = value


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
