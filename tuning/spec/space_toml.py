"""From the tables of a study file to the dimensions of a search space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import TypeVar

from pipeline.errors import InputError
from tuning.spec.dimension_table import MAX_SUBSET_MODALITIES, DimensionTable
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
    regressor_path,
)

V = TypeVar("V", bound=Value)
Conditions = dict[str, tuple[Value, ...]]


def to_dimensions(
    space: Space, path: str, tables: Mapping[str, DimensionTable], available: Mapping[str, int]
) -> list[Dimension]:
    """Convert a table to the dimensions that it stands for.

    Args:
        space: the space so far.
        path: key of the table.
        tables: all tables of the space, those that come later included.
        available: path of a dimension of an upstream stage -> how many configurations there are to
            choose from, at least 1; where it is missing, as many as the table plans.

    Returns:
        One dimension; but for "unimodal" one for each modality.

    Raises:
        InputError: the path, the domain or a condition is not possible. The message does not name
            the dimension.
    """
    table = tables[path]
    when = {name: _allowed_values(space, path, name, tables) for name in table.when}

    if path == MODALITIES and space.stage == "fusion":
        return [_modalities_dimension(table, space.modalities, when)]
    if path != UPSTREAM[space.stage]:
        return [Dimension(path, _domain(path, table, space.defaults), when)]

    if table.top is None:
        raise InputError("write { top = N } to choose among the N best of an upstream stage.")
    if path == "auto_encoder":
        return [_auto_encoder_dimension(space, table.top, available, when)]
    return _regressor_dimensions(space, table.top, available, when)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the most similar known name, or "" if none is similar."""
    similar = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" Did you mean '{similar[0]}'?" if similar else ""


# Dimensions of upstream stages


def _auto_encoder_dimension(
    space: Space, top: int, available: Mapping[str, int], when: Conditions
) -> Dimension:
    path = "auto_encoder"

    if any(dimension.path == "difficulty" for dimension in space.dimensions):
        # An auto-encoder is read only for its difficulty.
        allowed = when.get("difficulty", (True,))
        when = when | {"difficulty": tuple(value for value in allowed if value)}
    elif not space.defaults["difficulty"]:
        raise InputError(
            "difficulty = false in [unimodal], so no auto-encoder is read. Remove one of the two."
        )

    return Dimension(path, _ranks(path, top, available), when)


def _regressor_dimensions(
    space: Space, top: int, available: Mapping[str, int], when: Conditions
) -> list[Dimension]:
    """Return a dimension for each modality that a fusion may read."""
    subsets = next(
        (dimension.domain.values for dimension in space.dimensions if dimension.path == MODALITIES),
        None,
    )
    dimensions = []

    for modality in space.modalities:
        path = regressor_path(modality)
        ranks = _ranks(path, top, available)
        if subsets is None:
            dimensions.append(Dimension(path, ranks, when))
            continue

        reading = tuple(subset for subset in subsets if modality in str(subset).split(","))
        if reading:
            dimensions.append(Dimension(path, ranks, when | {MODALITIES: reading}))

    return dimensions


def _ranks(path: str, top: int, available: Mapping[str, int]) -> IntRange:
    return IntRange(1, min(top, available.get(path, top)))


# Domains


def _domain(path: str, table: DimensionTable, settings: Mapping[str, Value]) -> Domain:
    """Return the domain of a setting.

    Raises:
        InputError: there is no such setting, or its table is for something else.
    """
    if path not in settings:
        inner = [name for name in settings if name.startswith(f"{path}.")]
        if inner:
            raise InputError(f"this is a table. Name a setting in it: {', '.join(inner)}.")
        raise InputError(
            f"there is no such setting.{did_you_mean(path, settings)} "
            f"There are {', '.join(settings)}."
        )

    if table.choice is not None:
        values = tuple(value for value in table.choice if not isinstance(value, tuple))
        if len(values) < len(table.choice):
            raise InputError("each choice is one value, not a list.")
        return Choice(_distinct(values))
    if table.uniform:
        return FloatRange(*table.uniform)
    if table.loguniform:
        return FloatRange(*table.loguniform, log=True)
    if table.integers:
        return IntRange(*table.integers, log=table.log)

    raise InputError(
        f"'{table.kind}' is not for a setting. Use choice, uniform, loguniform or int."
    )


def _modalities_dimension(
    table: DimensionTable, modalities: Sequence[str], when: Conditions
) -> Dimension:
    if when:
        raise InputError("'modalities' always applies. Remove 'when'.")

    if table.subsets:
        subsets = _all_subsets(table.subsets, modalities)
    else:
        subsets = _listed_subsets(table, modalities)
    return Dimension(MODALITIES, Choice(subsets), when)


def _all_subsets(min_size: int, modalities: Sequence[str]) -> tuple[str, ...]:
    """Return every subset of at least so many modalities, each as names with commas."""
    if not min_size <= len(modalities) <= MAX_SUBSET_MODALITIES:
        raise InputError(
            f"subsets = {min_size} needs {min_size} to {MAX_SUBSET_MODALITIES} modalities; there "
            f"are {len(modalities)}. List subsets with choice."
        )

    sizes = range(min_size, len(modalities) + 1)
    return tuple(",".join(names) for size in sizes for names in combinations(modalities, size))


def _listed_subsets(table: DimensionTable, modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the listed subsets, each as names with commas, in the order of the modalities."""
    listed = table.choice or ()
    subsets = [_distinct(names) for names in listed if isinstance(names, tuple) and names]
    if not subsets or len(subsets) < len(listed):
        raise InputError(
            'write { subsets = N } for all of at least N, or { choice = [["a", "b"], ["a"]] }.'
        )

    for names in subsets:
        _raise_if_unknown(names, modalities)

    return _distinct(
        [",".join(modality for modality in modalities if modality in names) for names in subsets]
    )


def _raise_if_unknown(names: Iterable[str], modalities: Sequence[str]) -> None:
    for name in names:
        if name not in modalities:
            raise InputError(
                f"'{name}' is not a modality of the study, which has {', '.join(modalities)}."
                f"{did_you_mean(name, modalities)}"
            )


def _distinct(values: Sequence[V]) -> tuple[V, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise InputError(f"{value!r} is listed twice. Remove one.")
    return tuple(values)


# Conditions


def _allowed_values(
    space: Space, path: str, other: str, tables: Mapping[str, DimensionTable]
) -> tuple[Value, ...]:
    """Return the values of an earlier dimension for which a dimension applies.

    Args:
        space: with the earlier dimensions.
        path: of the dimension that has the condition.
        other: path in its `when`.
        tables: all tables of the space.
    """
    domain = _searched_domain(space, path, other, tables)
    if domain.values is None:
        raise InputError(
            f"'when' refers to '{other}', which is continuous. Make that a choice or an int."
        )

    allowed = []
    for value in tables[path].when[other]:
        coerced = domain.coerce(value)
        if coerced is None:
            raise InputError(
                f"'when' needs '{other}' to be {value!r}, but it is {domain}. Correct it."
            )
        allowed.append(coerced)

    if not allowed:
        raise InputError(
            f"'when' lists no value of '{other}'. List one, or remove '{other}' there."
        )
    return tuple(allowed)


def _searched_domain(
    space: Space, path: str, other: str, tables: Mapping[str, DimensionTable]
) -> Domain:
    """Return the domain of an earlier setting that a condition refers to.

    Raises:
        InputError: no earlier dimension is this setting; the message says why.
    """
    for dimension in space.dimensions:
        if dimension.path == other and other in space.defaults:
            return dimension.domain

    if path in _references(other, tables):
        raise InputError(
            f"'when' is circular: '{other}' depends on '{path}'. Remove one of the two conditions."
        )
    if other in (MODALITIES, UPSTREAM[space.stage]):
        raise InputError(f"'when' refers to settings, not to '{other}'.")
    if other in tables:
        raise InputError(f"'when' refers to '{other}', which comes later. Move it further up.")
    if other in space.defaults:
        raise InputError(
            f"'when' refers to '{other}', which is not searched. Remove it, or search that too."
        )
    raise InputError(
        f"'when' refers to '{other}': there is no such setting.{did_you_mean(other, tables)}"
    )


def _references(
    path: str, tables: Mapping[str, DimensionTable], seen: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return every path that a dimension's conditions depend on, directly or through others."""
    if path not in tables:
        return seen

    for name in tables[path].when.keys() - seen:
        seen = _references(name, tables, seen | {name})
    return seen
