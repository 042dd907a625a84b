"""Concordance correlation (Lin 1989): the metric in numpy, and the training loss in torch.

Knows arrays only: no session, no model.

Lin, L. I.-K. (1989): A concordance correlation coefficient to evaluate reproducibility.
Biometrics 45(1), 255-268.
"""

# B = batch, T = time (frames)

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

EPSILON = 1e-6
"""Keeps the loss finite where both series are constant; small beside labels of unit scale."""


def ccc(truth: ArrayLike, prediction: ArrayLike) -> float:
    r"""Concordance correlation coefficient (Lin 1989).

    .. math::

        \rho_c = \frac{2 \sigma_{ab}}{\sigma_a^2 + \sigma_b^2 + (\mu_a - \mu_b)^2}

    with truth a, prediction b, and population moments (divided by n). It is 1 only where both are
    equal: unlike Pearson's correlation it counts another mean or another scale as disagreement.

    Args:
        truth: labels, shape (frames,), finite.
        prediction: same shape and unit, finite.

    Returns:
        Agreement in [-1, 1]. 0 where one series is constant and the other is not; NaN where it is
        undefined: without frames, or where both series are constant. A NaN in an input gives NaN.

    Raises:
        ValueError: the shapes differ, or an input is not one-dimensional.

    Example:
        >>> ccc([1, 2, 3], [1, 2, 3])
        1.0
    """
    return float(ccc_from_moments(moments(truth, prediction)))


def moments(
    truth: ArrayLike, prediction: ArrayLike, centre: float | None = None
) -> NDArray[np.float64]:
    """Return the six sums that decide a CCC.

    The sums of several series add up to those of the series put end to end, if all share a centre.

    Args:
        truth: labels a, shape (frames,), finite.
        prediction: predictions b, same shape and unit, finite.
        centre: subtracted from both, so that a large offset costs no precision; the mean of the
            truth by default. A CCC is the same for every centre.

    Returns:
        Shape (6,), float64: n, sum a, sum b, sum aa, sum bb, sum ab; all 0 without frames.

    Raises:
        ValueError: the shapes differ, or an input is not one-dimensional.
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
    """Return the CCC of every six sums, as `ccc` defines it.

    Args:
        sums: from `moments`, or added up from several of them, shape (..., 6).

    Returns:
        Shape (...); NaN where there is no frame, or where both series are constant.
    """
    n, a, b, aa, bb, ab = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)

    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (aa - a * a / n) + (bb - b * b / n)
        denominator = spread + (a - b) ** 2 / n
        # Sums of squares lose about n * 2**-52 of their size to rounding: a spread below that is
        # no variation, and a CCC of it would be noise.
        is_defined = (n > 0) & (spread > 1e-13 * (aa + bb))
        coefficients: NDArray[np.float64] = np.where(
            is_defined, 2 * (ab - a * b / n) / denominator, np.nan
        )

    return coefficients


def ccc_loss(
    truth_BT: Tensor,
    prediction_BT: Tensor,
    mask_BT: Tensor,
    *,
    over: Literal["batch", "window"] = "batch",
) -> Tensor:
    """Return 1 - CCC over the frames that count.

    The CCC is that of `ccc`, with `EPSILON` added to its denominator.

    Args:
        truth_BT: labels of about unit scale; may be anything where masked, even NaN.
        prediction_BT: same shape and unit; likewise.
        mask_BT: same shape, True where a frame counts.
        over: "batch" takes one CCC over all frames of the batch; "window" takes the mean of one per
            sequence, without sequences of which no frame counts.

    Returns:
        A scalar in [0, 2], finite also for constant series; 0 where no frame counts. The gradient
        is 0 where the truth is constant (its covariance with any prediction is 0) and at masked
        frames.
    """
    # Padding has label 0, a legal arousal: without the mask the loss of a sequence would change
    # with the length of the others.
    weight_BT = mask_BT.to(prediction_BT.dtype)
    dims: tuple[int, ...] = (0, 1) if over == "batch" else (1,)
    n = weight_BT.sum(dims, keepdim=True).clamp_min(1.0)

    a_BT = torch.where(mask_BT, truth_BT, 0.0)
    b_BT = torch.where(mask_BT, prediction_BT, 0.0)
    mean_a, mean_b = a_BT.sum(dims, keepdim=True) / n, b_BT.sum(dims, keepdim=True) / n
    a_BT, b_BT = (a_BT - mean_a) * weight_BT, (b_BT - mean_b) * weight_BT

    covariance = (a_BT * b_BT).sum(dims, keepdim=True) / n
    variances = (a_BT.square() + b_BT.square()).sum(dims, keepdim=True) / n
    spread = variances + (mean_a - mean_b).square()
    loss = 1.0 - 2.0 * covariance / (spread + EPSILON)

    is_used = mask_BT.any(dims, keepdim=True)
    return (loss * is_used).sum() / is_used.sum().clamp_min(1)
