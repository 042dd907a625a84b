"""One entry of a search space as TOML writes it, and the dimensions it stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import Annotated, Self, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from pipeline.errors import InputError
from pipeline.spec import Count, Settings
from tuning.spec.space import (
    MODALITIES,
    UPSTREAM,
    Choice,
    Dimension,
    Domain,
    FloatRange,
    IntRange,
    Space,
    Value,
    regressor,
)

WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]
V = TypeVar("V", bound=Value)


def _plain(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """One message for a union, not one for each of its members."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError("a value is text, a finite number, true or false") from None


Plain = Annotated[Value, WrapValidator(_plain)]
PlainOrNames = Annotated[Value | tuple[str, ...], WrapValidator(_plain)]
KINDS = ("choice", "uniform", "loguniform", "int", "top", "subsets")
"""How a domain may be written."""
MOST_SUBSET_MODALITIES = 10
"""More have too many subsets to list."""


class DimensionTable(Settings):
    """One dimension, as written: exactly one kind of domain, and the conditions under which it applies."""

    model_config = ConfigDict(
        serialize_by_alias=True, strict=False
    )  # TOML has lists where a frozen table has tuples

    choice: tuple[PlainOrNames, ...] | None = None
    """One of these; for "modalities": one of these lists of names."""
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    whole: tuple[WholeNumber, WholeNumber] | None = Field(None, alias="int")
    """Both ends included."""
    log: bool = False
    """With int: equal ratios are equally likely."""
    top: Count | None = None
    """For a stage above: which of its best so many."""
    subsets: Annotated[int, Field(ge=1, le=MOST_SUBSET_MODALITIES)] | None = None
    """For "modalities": any subset of at least so many of the study's modalities."""
    when: dict[str, tuple[Plain, ...]] = Field(default_factory=dict)
    """Path of a setting that is searched further up -> values; all must hold for the dimension to apply."""

    @property
    def kind(self) -> str:
        """How its domain is written."""
        return next(name for name, value in self._kinds().items() if value is not None)

    def _kinds(self) -> dict[str, object]:
        return {kind: self.whole if kind == "int" else getattr(self, kind) for kind in KINDS}

    @model_validator(mode="after")
    def _one_possible_domain(self) -> Self:
        if sum(value is not None for value in self._kinds().values()) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        if self.choice == ():
            raise ValueError("an empty choice: list its values, or remove the dimension")
        if self.log and not self.whole:
            raise ValueError("'log' belongs to int; for real numbers write loguniform")
        for low, high in (ends for ends in (self.uniform, self.loguniform, self.whole) if ends):
            if low >= high:
                raise ValueError(
                    f"{low:g} to {high:g} is empty: the lower end comes first, and the ends differ"
                )
            if low <= 0 and (self.loguniform or self.log):
                raise ValueError(
                    f"a logarithmic range begins above 0, not at {low:g}: raise it, or use uniform or int"
                )
        return self


def dimensions(
    space: Space, path: str, tables: Mapping[str, DimensionTable], available: Mapping[str, int]
) -> list[Dimension]:
    """The dimensions that a table stands for; upstream regressors are chosen for each modality by itself."""
    table = tables[path]
    when = {name: _allowed(space, path, name, tables) for name in table.when}
    if path == MODALITIES and space.stage == "fusion":
        if when:
            raise InputError("'modalities' always apply. Remove 'when'.")
        return [Dimension(path, Choice(_subsets(table, space.modalities)), {})]
    if path != UPSTREAM[space.stage]:
        return [Dimension(path, _domain(path, table, space.defaults), when)]
    if table.top is None:
        raise InputError("which of the best stages feeds this one is written { top = N }.")
    if path == "auto_encoder":
        if not any(dimension.path == "difficulty" for dimension in space.dimensions):
            if not space.defaults["difficulty"]:
                raise InputError(
                    "difficulty = false in [unimodal], so no auto-encoder is read. Remove one of the two."
                )
        else:
            when["difficulty"] = tuple(value for value in when.get("difficulty", (True,)) if value)
        return [Dimension(path, IntRange(1, min(table.top, available.get(path, table.top))), when)]
    subsets = next(
        (dimension.domain.values for dimension in space.dimensions if dimension.path == MODALITIES),
        None,
    )
    found = []
    for modality in space.modalities:
        rank = IntRange(1, min(table.top, available.get(regressor(modality), table.top)))
        if subsets is None:
            found.append(Dimension(regressor(modality), rank, when))
        elif uses := tuple(subset for subset in subsets if modality in str(subset).split(",")):
            found.append(Dimension(regressor(modality), rank, when | {MODALITIES: uses}))
    return found


def _domain(path: str, table: DimensionTable, settings: Mapping[str, Value]) -> Domain:
    """The values of a setting.

    Raises:
        InputError: there is no such setting, or it cannot be searched so.
    """
    if path not in settings:
        inner = [name for name in settings if name.startswith(f"{path}.")]
        if inner:
            raise InputError(f"this is a table. Name a setting in it: {', '.join(inner)}.")
        raise InputError(
            f"there is no such setting.{guess(path, settings)} There are {', '.join(settings)}."
        )
    if table.choice is not None:
        values = tuple(value for value in table.choice if not isinstance(value, tuple))
        if len(values) < len(table.choice):
            raise InputError("each choice is one value, not a list.")
        return Choice(_different(values))
    if table.uniform:
        return FloatRange(*table.uniform)
    if table.loguniform:
        return FloatRange(*table.loguniform, log=True)
    if table.whole:
        return IntRange(*table.whole, log=table.log)
    raise InputError(
        f"'{table.kind}' is not for a setting. Use choice, uniform, loguniform or int."
    )


def _subsets(table: DimensionTable, modalities: Sequence[str]) -> tuple[str, ...]:
    """The subsets of modalities, each as names with commas, in the order of the modalities."""
    if table.subsets:
        if not table.subsets <= len(modalities) <= MOST_SUBSET_MODALITIES:
            raise InputError(
                f"subsets = {table.subsets} needs {table.subsets} to {MOST_SUBSET_MODALITIES} modalities; there are "
                f"{len(modalities)}. List subsets with choice."
            )
        sizes = range(table.subsets, len(modalities) + 1)
        return tuple(",".join(names) for size in sizes for names in combinations(modalities, size))
    if table.choice is None or not all(
        isinstance(subset, tuple) and subset for subset in table.choice
    ):
        raise InputError(
            'write { subsets = N } for all of at least N, or { choice = [["a", "b"], ["a"]] }.'
        )
    subsets = [_different(subset) for subset in table.choice if isinstance(subset, tuple)]
    for name in (name for names in subsets for name in names):
        if name not in modalities:
            raise InputError(
                f"'{name}' is not a modality of the study, which has {', '.join(modalities)}.{guess(name, modalities)}"
            )
    return _different([",".join(name for name in modalities if name in names) for names in subsets])


def _allowed(
    space: Space, path: str, other: str, tables: Mapping[str, DimensionTable]
) -> tuple[Value, ...]:
    """The values in `when` that let the dimension at `path` look at the one at `other`."""
    dimension = next((dimension for dimension in space.dimensions if dimension.path == other), None)
    if dimension is None or other not in space.defaults:
        if other in tables and path in _looks_at(other, tables):
            raise InputError(
                f"'when' is circular: '{other}' looks back at '{path}'. Remove one of the two."
            )
        if other in (MODALITIES, UPSTREAM[space.stage]):
            raise InputError(f"'when' looks at settings, not at '{other}'.")
        if other in tables:
            raise InputError(f"'when' looks at '{other}', which comes later. Move it further up.")
        if other in space.defaults:
            raise InputError(
                f"'when' looks at '{other}', which is not searched. Remove it, or search that too."
            )
        raise InputError(
            f"'when' looks at '{other}': there is no such setting.{guess(other, tables)}"
        )
    if dimension.domain.values is None:
        raise InputError(
            f"'when' looks at '{other}', which is continuous. Make that a choice or an int."
        )
    allowed = []
    for value in tables[path].when[other]:
        own = dimension.domain.member(value)
        if own is None:
            raise InputError(
                f"'when' waits until '{other}' is {value!r}, but it is {dimension.domain}. Correct it."
            )
        allowed.append(own)
    if not allowed:
        raise InputError(
            f"'when' lists no value of '{other}'. List one, or remove '{other}' there."
        )
    return tuple(allowed)


def _looks_at(
    path: str, tables: Mapping[str, DimensionTable], seen: frozenset[str] = frozenset()
) -> frozenset[str]:
    """All that a dimension's conditions depend on, at any distance."""
    for name in tables[path].when.keys() - seen if path in tables else ():
        seen = _looks_at(name, tables, seen | {name})
    return seen


def _different(values: Sequence[V]) -> tuple[V, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise InputError(f"{value!r} stands there twice. Remove one.")
    return tuple(values)


def guess(name: str, known: Iterable[str]) -> str:
    """A question that names the known one that looks like this one; empty where none does."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" Did you mean '{close[0]}'?" if close else ""
