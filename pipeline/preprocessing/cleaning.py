"""Which rows of a feature set say something, and what stands in their gaps: the same when reading and when serving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def clean(
    timestamps_ms: NDArray[np.int64], values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32], int]:
    """Finds missing rows and fills single gaps, in place.

    A row of zeros in a set of several columns is missing (no face, no speech), as is a row without any number. In
    the others a NaN or infinite cell is interpolated in time between the present rows; at an edge it takes the
    nearest, and a column without any number is 0.

    Args:
        timestamps_ms: shape (frames,), ascending.
        values: shape (frames, columns).

    Returns:
        The values, 0 in missing rows; which rows are present, shape (frames,); how many cells of each row were
        filled, shape (frames,); how many rows were missing because they were zero.
    """
    finite = np.isfinite(values)
    has_number: NDArray[np.bool_] = np.any(finite, axis=1)
    has_signal: NDArray[np.bool_] = (
        np.any(finite & (values != 0), axis=1) if values.shape[1] > 1 else has_number
    )
    present = has_number & has_signal
    gaps = ~finite & present[:, None]
    for column in np.flatnonzero(np.any(gaps, axis=0)):
        here, known = gaps[:, column], finite[:, column] & present
        if known.any():
            values[here, column] = np.interp(
                timestamps_ms[here], timestamps_ms[known], values[known, column]
            )
        else:
            values[here, column] = 0
    values[~present] = 0
    return values, present, gaps.sum(axis=1, dtype=np.int32), int((has_number & ~has_signal).sum())
