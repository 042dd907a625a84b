"""Gives the files of one feature set common columns, in one order. Knows no folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.data.input_errors import raise_if_any
from pipeline.data.tables.cache import FeatureFile
from pipeline.preprocessing.columns import ColumnMistake, column_order, usual_columns


@dataclass(frozen=True)
class ArrangedFile(FeatureFile):
    """A feature file whose table has the columns of its set, in the set's order.

    Attributes:
        header: the same columns as the file has them.
        is_rearranged: whether it has them in another order.
    """

    header: tuple[str, ...]
    is_rearranged: bool


def arrange(
    files: Mapping[str, FeatureFile], names: Mapping[str, str], expected: Sequence[str] = ()
) -> dict[str, ArrangedFile]:
    """Give files the same columns, by the rule of `preprocessing.columns`.

    Args:
        files: session -> file; at least one.
        names: session -> how messages name its file.
        expected: the columns that a model reads; empty for those that most files have.

    Returns:
        As `files`. A table whose columns are in order already keeps its values.

    Raises:
        InputError: files have other columns. The message names the first few, and what differs.
    """
    columns = tuple(expected) or usual_columns([file.table.columns for file in files.values()])
    whose = "the model reads" if expected else "most files of its set have"

    arranged, mistakes = {}, []
    for session, file in files.items():
        try:
            arranged[session] = _arrange_file(file, columns)
        except ColumnMistake as mistake:
            num_columns = len(file.table.columns)
            is_number_other = num_columns != len(columns)
            count = f" has {num_columns} feature columns, {whose} {len(columns)}"
            mistakes.append(f"{names[session]}{count if is_number_other else ''}: {mistake}")

    raise_if_any(mistakes, f"Give these files the columns that {whose}, by name, in any order.")
    return arranged


def _arrange_file(file: FeatureFile, columns: tuple[str, ...]) -> ArrangedFile:
    table, header = file.table, file.table.columns
    order = column_order(columns, header)
    if order == list(range(len(order))):
        return ArrangedFile(file.sha256, replace(table, columns=columns), header, False)

    values = np.ascontiguousarray(table.values[:, order])
    rearranged = replace(table, columns=columns, values=values)
    return ArrangedFile(file.sha256, rearranged, header, True)
