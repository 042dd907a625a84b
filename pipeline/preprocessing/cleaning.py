"""Missing rows and imputed cells of a feature set, the same for files and for requests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Times


class CleanedRows(NamedTuple):
    """The rows of a feature set after cleaning.

    Attributes:
        values: shape (rows, columns), finite; 0 in rows that are not present.
        present: shape (rows,); False in missing rows.
        num_imputed: shape (rows,); the number of cells of each row that were imputed.
        num_zero_rows: the number of rows that are missing because they are zero.
    """

    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    num_imputed: NDArray[np.int32]
    num_zero_rows: int


def clean(timestamps: Times, values: NDArray[np.float32]) -> CleanedRows:
    """Mark missing rows and impute single cells, in place.

    A row of zeros in a set of several columns is missing: that is how extractors write "no face"
    or "no speech". So is a row without any number. In a present row, a NaN or infinite cell is
    interpolated in time between the nearest present rows that have the value. Before the first and
    after the last of them it takes the nearest value; in a column without any number it is 0.

    Args:
        timestamps: shape (rows,), ascending, in any unit.
        values: shape (rows, columns); changed in place.
    """
    is_finite = np.isfinite(values)
    has_number: NDArray[np.bool_] = np.any(is_finite, axis=1)
    has_signal = has_number
    if values.shape[1] > 1:
        has_signal = np.any(is_finite & (values != 0), axis=1)
    present = has_number & has_signal

    is_gap = ~is_finite & present[:, None]
    elapsed = timestamps - timestamps[0]  # nanoseconds since 1970 are too long for a float
    for column in np.flatnonzero(np.any(is_gap, axis=0)):
        gaps = is_gap[:, column]
        known = is_finite[:, column] & present
        if known.any():
            values[gaps, column] = np.interp(elapsed[gaps], elapsed[known], values[known, column])
        else:
            values[gaps, column] = 0
    values[~present] = 0

    num_imputed = is_gap.sum(axis=1, dtype=np.int32)
    num_zero_rows = int((has_number & ~has_signal).sum())
    return CleanedRows(values, present, num_imputed, num_zero_rows)
