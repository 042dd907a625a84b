"""Findings about the columns of feature sets: what is no feature, and headers that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.corpus import Finding
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.input_errors import quoted_list
from pipeline.data.tables.arrange import ArrangedFile
from pipeline.data.tables.parse import FeatureTable
from pipeline.preprocessing.bookkeeping import (
    LOWEST_CONFIDENCE,
    Kind,
    may_mark_rows,
    timed_columns,
)
from pipeline.preprocessing.columns import describe_set_aside, second_columns

Files = Mapping[str, ArrangedFile]
"""Session -> file of one feature set."""

SET_ASIDE = "columns set aside"
"""The kind of the finding about what is no feature."""
MAX_LEFT, MAX_LEFT_SHARE, MIN_ZERO = 3, 0.25, 3
"""A row may be missing where so many columns, and such a share, are not 0, and so many are."""
MIN_ROWS = 3
USUAL_SHARE = 0.75
"""Where usual rows have fewer cells that are not 0, a set has zeros by nature."""


def column_findings(feature_set: str, files: Files) -> list[Finding]:
    """Return the findings about the columns of one feature set."""
    tables = [file.table for file in files.values()]
    columns = tables[0].columns
    candidates = [
        _set_aside_finding(feature_set, files),
        _order_finding(feature_set, files),
        _number_finding(feature_set, files),
        _timed_finding(feature_set, files),
        _marker_finding(feature_set, columns),
        _doubled_finding(feature_set, columns),
        _nearly_zero_finding(feature_set, tables),
    ]
    return [finding for finding in candidates if finding is not None]


def columns_set_aside(files: Files) -> dict[str, Kind]:
    """Return the columns that are no features, and what they are."""
    set_aside: dict[str, Kind] = {}
    for file in files.values():
        set_aside |= file.table.set_aside
    return set_aside


def columns_record(features: Mapping[str, Files]) -> dict[str, object]:
    """Return what decides the arrays beside the files' contents, as JSON; {} where nothing does.

    Args:
        features: feature set -> its files.
    """
    record: dict[str, object] = {}
    for feature_set, files in features.items():
        set_aside = columns_set_aside(files)
        rearranged = any(file.is_rearranged for file in files.values())
        if set_aside or rearranged:
            columns = next(iter(files.values())).table.columns
            record[feature_set] = {"order": columns, "set_aside": sorted(set_aside.items())}
    return record


def _set_aside_finding(feature_set: str, files: Files) -> Finding | None:
    set_aside = columns_set_aside(files)
    if not set_aside:
        return None

    columns = next(iter(files.values())).table.columns
    message = (
        f"They are no features, so they are not read as such: {describe_set_aside(set_aside)}."
    )
    if "marks missing rows" in set_aside.values():
        message += (
            " A row with success 0 or a confidence below "
            f"{LOWEST_CONFIDENCE:g} counts as missing, as OpenFace means it."
        )
    count, total = len(set_aside), len(columns) + len(set_aside)
    return corpus_finding("warning", SET_ASIDE, feature_set, count, total, message)


def _order_finding(feature_set: str, files: Files) -> Finding | None:
    num_other = sum(file.is_rearranged for file in files.values())
    if not num_other:
        return None

    message = "They have the columns in another order than most files: read by name."
    return corpus_finding("note", "other order", feature_set, num_other, len(files), message)


def _number_finding(feature_set: str, files: Files) -> Finding | None:
    num_other = sum(set(file.header) != set(file.table.columns) for file in files.values())
    if not num_other:
        return None

    message = "Their columns are numbered from another start than most files': read by position."
    return corpus_finding("note", "other headers", feature_set, num_other, len(files), message)


def _timed_finding(feature_set: str, files: Files) -> Finding | None:
    """Return a warning of columns that count or repeat the time, and were kept all the same."""
    tables = [file.table for file in files.values()]
    columns = tables[0].columns
    kept = timed_columns([table.file_columns for table in tables], set(columns_set_aside(files)))
    if not kept:
        return None

    message = (
        f"In every file {quoted_list(list(kept))} counts the rows or repeats the time. It is read "
        "all the same, for the set has nothing else: leave the set out if it is no feature."
    )
    return corpus_finding(
        "warning", "time as feature", feature_set, len(kept), len(columns), message
    )


def _marker_finding(feature_set: str, columns: tuple[str, ...]) -> Finding | None:
    kept = [name for name in columns if may_mark_rows(name)]
    if not kept:
        return None

    message = (
        f"{quoted_list(kept)} is read as a feature. Only a 'success' that is 0 or 1, and a "
        "'confidence' from 0 to 1, mark rows as missing."
    )
    return corpus_finding(
        "note", "marker as feature", feature_set, len(kept), len(columns), message
    )


def _doubled_finding(feature_set: str, columns: tuple[str, ...]) -> Finding | None:
    """Return a note of names as pandas makes them of doubled ones, such as "a" and "a.1"."""
    second = second_columns(columns)
    if not second:
        return None

    message = (
        f"{quoted_list(second)}: pandas names the second of two columns of one name so. Are they "
        "what their names say?"
    )
    return corpus_finding("note", "doubled names", feature_set, len(second), len(columns), message)


def _nearly_zero_finding(feature_set: str, tables: Sequence[FeatureTable]) -> Finding | None:
    """Return a warning of rows where all is 0 but the same few columns, which may hide a gap."""
    columns = tables[0].columns
    most_left = max(1, min(MAX_LEFT, int(MAX_LEFT_SHARE * len(columns))))
    counts = [np.count_nonzero(table.values, axis=1) for table in tables]
    written = np.concatenate(
        [count[table.present] for count, table in zip(counts, tables, strict=True)]
    )
    is_wide = len(columns) >= most_left + MIN_ZERO
    if not is_wide or not len(written) or np.median(written) < USUAL_SHARE * len(columns):
        return None

    rows_of: Counter[tuple[int, ...]] = Counter()
    for count, table in zip(counts, tables, strict=True):
        is_nearly_zero = table.present & (count > 0) & (count <= most_left)
        rows_of.update(tuple(np.flatnonzero(row)) for row in table.values[is_nearly_zero])
    [(left, num_rows)] = rows_of.most_common(1) or [((), 0)]
    if num_rows < MIN_ROWS:
        return None

    message = (
        f"Every column but {quoted_list([columns[place] for place in left])} is 0 there. Rows of "
        "zeros are missing, and these are not: remove what is no feature, or empty their cells."
    )
    return corpus_finding(
        "warning", "nearly zero rows", feature_set, num_rows, sum(map(len, counts)), message
    )
