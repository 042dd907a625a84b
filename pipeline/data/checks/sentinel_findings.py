"""Findings about numbers that stand for a missing value, in features and in labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Finding
from pipeline.data.checks.findings import LABEL_SCALE, Level
from pipeline.data.input_errors import quoted_list
from pipeline.data.tables.parse import FeatureTable, LabelTable
from pipeline.data.tables.sentinels import (
    Sentinel,
    find_sentinels,
    rows_of_one_number,
    sentinel_rows,
    sentinels_by_column,
)

KIND = "sentinel values"
ROW_KIND = "sentinel rows"
NUM_VALUES = 3
"""So many values of a feature set are named, with the columns that have them."""


def feature_sentinel_findings(
    feature_set: str,
    tables: Mapping[str, FeatureTable],
    files: Mapping[str, str],
    columns: Sequence[str],
) -> list[Finding]:
    """Return a warning for each session of a feature set that has sentinels in cells or in rows.

    Args:
        feature_set: its name.
        tables: session -> its rows.
        files: session -> how messages name its file.
        columns: names of the columns.
    """
    parts = [_as_written(table) for table in tables.values()]
    by_column = sentinels_by_column(parts)
    values = {sentinel.value for sentinels in by_column.values() for sentinel in sentinels}
    row_values = [value for value in sentinel_rows(parts) if value not in values]
    return [
        *_cell_findings(feature_set, tables, files, columns, by_column),
        *_row_findings(feature_set, tables, files, row_values),
    ]


def _cell_findings(
    feature_set: str,
    tables: Mapping[str, FeatureTable],
    files: Mapping[str, str],
    columns: Sequence[str],
    by_column: Mapping[int, Sequence[Sentinel]],
) -> list[Finding]:
    if not by_column:
        return []

    counts = {session: _count_cells(table, by_column) for session, table in tables.items()}
    first = next(session for session, count in counts.items() if count)
    message = (
        f"{_describe(by_column, columns)}: far from all other values, again and again, so it "
        "likely stands for a missing value, and is read as a number. Leave such cells empty "
        f"(first in {files[first]})."
    )
    return [
        Finding("warning", KIND, feature_set, session, count, total, message)
        for session, count in counts.items()
        if count and (total := tables[session].num_rows * len(by_column))
    ]


def _row_findings(
    feature_set: str,
    tables: Mapping[str, FeatureTable],
    files: Mapping[str, str],
    values: Sequence[float],
) -> list[Finding]:
    if not values:
        return []

    counts = {
        session: _count(table.values[rows_of_one_number(table.values), 0], values)
        for session, table in tables.items()
    }
    first = next(session for session, count in counts.items() if count)
    message = (
        f"{_numbers(values)} in every column of a row, again and again, so it likely stands for a "
        "missing row, and is read as numbers. Leave such rows out, or their cells empty (first in "
        f"{files[first]})."
    )
    return [
        Finding("warning", ROW_KIND, feature_set, session, count, tables[session].num_rows, message)
        for session, count in counts.items()
        if count
    ]


def label_sentinel_findings(
    target: str, tables: Mapping[str, LabelTable], files: Mapping[str, str]
) -> list[Finding]:
    """Return one error or warning per session of a target whose labels have sentinels.

    It is an error where the number cannot be a label: it would be learned, and scored, as one.

    Args:
        target: its name.
        tables: session -> its rows.
        files: session -> how messages name its file.
    """
    if not tables:
        return []
    labels = np.concatenate([table.values for table in tables.values()])
    sentinels = find_sentinels(labels, is_label=True)
    if not sentinels:
        return []

    values = [sentinel.value for sentinel in sentinels]
    level: Level = "error" if any(each.is_certain for each in sentinels) else "warning"
    counts = {session: _count(table.values, values) for session, table in tables.items()}
    first = next(session for session, count in counts.items() if count)
    others = labels[np.isfinite(labels) & ~np.isin(labels, values)]
    message = (
        f"{_numbers(values)} {'stands' if level == 'error' else 'likely stands'} for an unknown "
        f"label: all others are in {others.min():g} .. {others.max():g}. Leave such cells empty "
        f"(first in {files[first]})."
    )
    return [
        Finding(level, KIND, target, session, count, len(tables[session].values), message)
        for session, count in counts.items()
        if count
    ]


def without_explained(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without those about the scale of labels that are all sentinels."""
    explained = {
        (finding.where, finding.session_id, finding.count)
        for finding in findings
        if finding.kind == KIND
    }
    return [
        finding
        for finding in findings
        if finding.kind != LABEL_SCALE
        or (finding.where, finding.session_id, finding.count) not in explained
    ]


def _as_written(table: FeatureTable) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the values, and which rows were neither missing nor interpolated."""
    return table.values, table.present & (table.imputed == 0)


def _count_cells(table: FeatureTable, by_column: Mapping[int, Sequence[Sentinel]]) -> int:
    return sum(
        _count(table.values[:, column], [sentinel.value for sentinel in sentinels])
        for column, sentinels in by_column.items()
    )


def _count(cells: NDArray[np.floating], values: Sequence[float]) -> int:
    return int(np.isin(cells, np.asarray(values, cells.dtype)).sum())


def _describe(by_column: Mapping[int, Sequence[Sentinel]], columns: Sequence[str]) -> str:
    """Return such as `-999 (columns 'f0', 'hnr') and 9999 (column 'hr')`."""
    columns_by_value: dict[float, list[str]] = {}
    for column, sentinels in by_column.items():
        for sentinel in sentinels:
            columns_by_value.setdefault(sentinel.value, []).append(columns[column])

    parts = [
        f"{value:g} ({'column' if len(names) == 1 else 'columns'} {quoted_list(names)})"
        for value, names in columns_by_value.items()
    ]
    hidden = len(parts) - NUM_VALUES
    shown = " and ".join(parts[:NUM_VALUES])
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _numbers(values: Sequence[float]) -> str:
    return " and ".join(f"{value:g}" for value in values)
