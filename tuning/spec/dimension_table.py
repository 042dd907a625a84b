"""One dimension as a study file writes it: a domain in one of six kinds, and conditions.

Knows no stage: whether its path is a setting, and whether the setting allows its values, is not
checked here.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from pipeline.spec import Count, Settings
from tuning.spec.dimensions import Value

KINDS = ("choice", "uniform", "loguniform", "int", "top", "subsets")
"""The keys under which a domain may be written."""
MAX_SUBSET_MODALITIES = 10
"""More modalities have too many subsets to list."""


def _validate_as_one(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Raise one error for a union, in place of one for each of its members."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError("a value is text, a finite number, true or false") from None


WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]
TomlValue = Annotated[Value, WrapValidator(_validate_as_one)]
TomlValueOrNames = Annotated[Value | tuple[str, ...], WrapValidator(_validate_as_one)]


class DimensionTable(Settings):
    """One dimension, as written: exactly one kind of domain, and when the dimension applies."""

    # TOML has lists where a frozen table has tuples: strict would refuse them.
    model_config = ConfigDict(serialize_by_alias=True, strict=False)

    choice: tuple[TomlValueOrNames, ...] | None = None
    """One of these values; for "modalities", one of these lists of names."""
    uniform: tuple[float, float] | None = None
    """A real number from the first to the second."""
    loguniform: tuple[float, float] | None = None
    """The same, where equal ratios are equally likely."""
    integers: tuple[WholeNumber, WholeNumber] | None = Field(None, alias="int")
    """A whole number from the first to the second, both included."""
    log: bool = False
    """With int: equal ratios are equally likely."""
    top: Count | None = None
    """For an upstream stage: one of so many of its best."""
    subsets: Annotated[int, Field(ge=1, le=MAX_SUBSET_MODALITIES)] | None = None
    """For "modalities": any subset of at least so many of the study's modalities."""
    when: dict[str, tuple[TomlValue, ...]] = Field(default_factory=dict)
    """Path of a setting that is searched further up -> values.

    The dimension applies where all of these settings have one of their values.
    """

    @property
    def kind(self) -> str:
        """The key under which the domain is written."""
        return self._given_kinds()[0]

    def _given_kinds(self) -> list[str]:
        given = self.model_dump(by_alias=True, exclude_none=True)
        return [kind for kind in KINDS if kind in given]

    @model_validator(mode="after")
    def _raise_if_impossible(self) -> Self:
        if len(self._given_kinds()) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        if self.choice == ():
            raise ValueError("an empty choice: list its values, or remove the dimension")
        if self.log and not self.integers:
            raise ValueError("'log' belongs to int; for real numbers write loguniform")

        ends = self.uniform or self.loguniform or self.integers
        if ends is not None:
            self._raise_if_impossible_range(*ends)
        return self

    def _raise_if_impossible_range(self, low: float, high: float) -> None:
        if low >= high:
            raise ValueError(
                f"{low:g} to {high:g} is empty: the lower end comes first, and the ends differ"
            )
        if low <= 0 and (self.loguniform or self.log):
            raise ValueError(
                f"a logarithmic range begins above 0, not at {low:g}: raise it, or use uniform "
                "or int"
            )
