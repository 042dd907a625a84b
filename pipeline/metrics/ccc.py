"""Concordance correlation (Lin, 1989): the metric in numpy and the training loss in torch."""

# B = batch, T = time (frames), O = outputs

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

EPSILON = 1e-6  # keeps the loss finite when labels and predictions are both constant; for labels of unit scale


def ccc(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Concordance correlation coefficient, with population moments (1/n).

    Args:
        truth: gold standard, shape (frames,), in the label's own unit, finite.
        prediction: same shape and unit.

    Returns:
        Agreement in [-1, 1]; NaN where it is undefined (no frames, or both constant).

    Raises:
        ValueError: the lengths differ, or an input is not one-dimensional.

    Example:
        >>> ccc([1, 2, 3], [1, 2, 3])
        1.0
    """
    return float(ccc_from_moments(moments(truth, prediction)))


def moments(
    truth: ArrayLike, prediction: ArrayLike, centre: float | None = None
) -> NDArray[np.float64]:
    """The sums a CCC is made of; those of several stretches add up when they share a centre.

    Args:
        truth: shape (frames,).
        prediction: shape (frames,).
        centre: subtracted from both, so that a large offset costs no precision; default: the mean truth.

    Returns:
        Shape (6,): n, sum a, sum b, sum aa, sum bb, sum ab, of truth a and prediction b.
    """
    a = np.asarray(truth, dtype=np.float64)
    b = np.asarray(prediction, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"truth and prediction must be one-dimensional and alike, not {a.shape} and {b.shape}."
        )
    if centre is None:
        centre = float(a.mean()) if a.size else 0.0
    a, b = a - centre, b - centre
    return np.array([a.size, a.sum(), b.sum(), a @ a, b @ b, a @ b])


def ccc_from_moments(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """CCC of summed `moments`.

    Args:
        sums: shape (..., 6).

    Returns:
        Shape (...); NaN where undefined.
    """
    n, a, b, aa, bb, ab = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (aa - a * a / n) + (bb - b * b / n)
        denominator = spread + (a - b) ** 2 / n
        # Sums of squares lose about n * 2**-52 of their size: below that a spread is rounding, not agreement.
        defined = (n > 0) & (spread > 1e-13 * (aa + bb))
        result: NDArray[np.float64] = np.where(defined, 2 * (ab - a * b / n) / denominator, np.nan)
    return result


def ccc_loss(
    truth_BT: Tensor, prediction_BT: Tensor, mask_BT: Tensor, *, over: str = "batch"
) -> Tensor:
    """1 - CCC over the unmasked frames.

    Args:
        truth_BT: labels; anything where masked, even NaN.
        prediction_BT: same shape.
        mask_BT: True where the frame counts.
        over: "batch" takes one CCC over all frames of the batch, "window" the mean of one per sequence.

    Returns:
        A scalar in [0, 2]. A constant truth has gradient 0: it teaches nothing.
    """
    # Padding has label 0, a legal arousal: mask it, or the loss would change with the length of the others.
    weight_BT = mask_BT.to(prediction_BT.dtype)
    dims: Any = (0, 1) if over == "batch" else (1,)
    n = weight_BT.sum(dims, keepdim=True).clamp_min(1.0)
    a_BT = torch.where(mask_BT, truth_BT, 0.0)
    b_BT = torch.where(mask_BT, prediction_BT, 0.0)
    mean_a, mean_b = a_BT.sum(dims, keepdim=True) / n, b_BT.sum(dims, keepdim=True) / n
    a_BT, b_BT = (a_BT - mean_a) * weight_BT, (b_BT - mean_b) * weight_BT
    covariance = (a_BT * b_BT).sum(dims, keepdim=True) / n
    spread = (a_BT.square() + b_BT.square()).sum(dims, keepdim=True) / n + (
        mean_a - mean_b
    ).square()
    loss = 1.0 - 2.0 * covariance / (spread + EPSILON)
    used = mask_BT.any(dim=1, keepdim=True) if over == "window" else mask_BT.any().reshape(1, 1)
    return (loss * used).sum() / used.sum().clamp_min(1)
