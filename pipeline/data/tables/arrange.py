"""Gives the tables of one feature set common columns, in one order. Knows no folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.data.input_errors import raise_if_any
from pipeline.data.tables.parse import FeatureTable
from pipeline.preprocessing.columns import ColumnMistake, column_order, usual_columns


def arrange(
    tables: Mapping[str, FeatureTable], expected: Sequence[str] = ()
) -> dict[str, FeatureTable]:
    """Return the tables with the same columns, by the rule of `preprocessing.columns`.

    Args:
        tables: how messages name a file -> its table; at least one.
        expected: the columns that a model reads; empty for those that most files have.

    Returns:
        As `tables`. A table whose columns are in order shares its values with the one given.

    Raises:
        InputError: files have other columns. The message names the first few, and what differs.
    """
    columns = tuple(expected) or usual_columns([table.columns for table in tables.values()])
    whose = "the model reads others" if expected else "most files of its set have others"

    arranged, mistakes = {}, []
    for name, table in tables.items():
        try:
            order = column_order(columns, table.columns)
        except ColumnMistake as mistake:
            mistakes.append(f"{name}: {mistake}")
            continue

        if order == list(range(len(order))):
            arranged[name] = replace(table, columns=columns)
        else:
            values = np.ascontiguousarray(table.values[:, order])
            arranged[name] = replace(table, columns=columns, values=values)

    raise_if_any(mistakes, f"These columns do not fit, {whose}: export these files again.")
    return arranged
