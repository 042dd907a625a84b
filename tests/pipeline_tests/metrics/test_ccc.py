"""CCC against audmetric, closed forms and finite differences."""

from __future__ import annotations

from typing import Literal

import audmetric
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.ccc import ccc, ccc_from_moments, ccc_loss, moments

Over = Literal["batch", "window"]


@given(st.integers(0, 10_000), st.integers(2, 400), st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_ccc_equals_audmetric_on_random_series(
    seed: int, frames: int, offset: float, scale: float
) -> None:
    """audmetric computes the CCC another way."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=frames) * scale + offset
    prediction = 0.5 * truth + scale * random.normal(size=frames)

    expected = audmetric.concordance_cc(truth, prediction)
    assert ccc(truth, prediction) == pytest.approx(expected, abs=1e-9)


def test_ccc_closed_forms() -> None:
    """Equal, reversed and shifted series have a CCC that can be computed by hand."""
    assert ccc([1, 2, 3], [1, 2, 3]) == 1.0
    assert ccc([1, 2, 3], [3, 2, 1]) == -1.0
    # Same shape, shifted by d: 2 s^2 / (2 s^2 + d^2), with s^2 = 2/3.
    assert ccc([1, 2, 3], [2, 3, 4]) == pytest.approx((4 / 3) / (4 / 3 + 1))


def test_a_large_offset_costs_no_precision() -> None:
    """Sums are taken around the mean."""
    random = np.random.default_rng(0)
    truth, prediction = random.normal(size=500), random.normal(size=500)

    assert ccc(truth + 1e6, prediction + 1e6) == pytest.approx(ccc(truth, prediction), abs=1e-8)


@pytest.mark.parametrize(("truth", "prediction"), [([], []), ([1, 1, 1], [1, 1, 1]), ([5], [5])])
def test_ccc_is_nan_where_it_is_undefined(truth: list[float], prediction: list[float]) -> None:
    """Nothing can be said of no frame, or of two constant series."""
    assert np.isnan(ccc(truth, prediction))


def test_a_constant_label_with_another_prediction_is_zero_not_undefined() -> None:
    """A prediction that varies where the label does not has no agreement."""
    assert ccc([1, 1, 1], [1, 2, 3]) == 0.0


def test_ccc_refuses_different_lengths() -> None:
    """The message has both shapes."""
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        ccc([1, 2, 3], [1, 2])


def test_moments_of_stretches_add_up() -> None:
    """The CCC of two stretches is that of the whole series."""
    random = np.random.default_rng(1)
    truth, prediction = random.normal(size=100) + 3, random.normal(size=100)

    parts = moments(truth[:30], prediction[:30], 3.0) + moments(truth[30:], prediction[30:], 3.0)
    assert ccc_from_moments(parts) == pytest.approx(ccc(truth, prediction), abs=1e-12)


@pytest.mark.parametrize("over", ["batch", "window"])
def test_the_loss_has_correct_gradients(over: Over) -> None:
    """Gradients are those of finite differences."""
    torch.manual_seed(0)
    truth_BT = torch.randn(3, 7, dtype=torch.float64)
    mask_BT = torch.arange(7)[None] < torch.tensor([7, 4, 2])[:, None]
    prediction_BT = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda y_BT: ccc_loss(truth_BT, y_BT, mask_BT, over=over), (prediction_BT,)
    )


def test_the_loss_is_one_minus_the_metric() -> None:
    """Loss and metric differ by `EPSILON` only."""
    torch.manual_seed(0)
    truth_BT = torch.randn(4, 50, dtype=torch.float64)
    prediction_BT = torch.randn(4, 50, dtype=torch.float64)
    mask_BT = torch.arange(50)[None] < torch.tensor([50, 30, 12, 1])[:, None]

    expected = 1 - ccc(truth_BT[mask_BT].numpy(), prediction_BT[mask_BT].numpy())
    loss = ccc_loss(truth_BT, prediction_BT, mask_BT)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("over", ["batch", "window"])
@pytest.mark.parametrize("garbage", [0.0, 1e6, float("nan")])
def test_padding_does_not_change_the_loss_or_its_gradient(over: Over, garbage: float) -> None:
    """Longer padding, and whatever it contains, has no effect."""
    torch.manual_seed(0)
    truth_BT, y_BT = torch.randn(3, 9), torch.randn(3, 9)
    mask_BT = torch.arange(9)[None] < torch.tensor([9, 5, 3])[:, None]

    results = []
    for num_further in (0, 6):
        further = torch.full((3, num_further), garbage)
        padded_y_BT = torch.cat([torch.where(mask_BT, y_BT, garbage), further], dim=1)
        padded_truth_BT = torch.cat([torch.where(mask_BT, truth_BT, garbage), further], dim=1)
        is_further = torch.zeros(3, num_further, dtype=torch.bool)
        padded_mask_BT = torch.cat([mask_BT, is_further], dim=1)

        prediction_BT = padded_y_BT.requires_grad_()
        loss = ccc_loss(padded_truth_BT, prediction_BT, padded_mask_BT, over=over)
        loss.backward()  # type: ignore[no-untyped-call]
        assert prediction_BT.grad is not None
        assert not prediction_BT.grad[~padded_mask_BT].any()
        results.append((loss.item(), prediction_BT.grad[:, :9][mask_BT]))

    (loss_value, gradient), (padded_loss, padded_gradient) = results
    assert loss_value == pytest.approx(padded_loss, rel=1e-6)
    torch.testing.assert_close(gradient, padded_gradient)


def test_constant_series_give_a_finite_loss_and_gradient() -> None:
    """A loss of NaN would end a fit."""
    prediction_BT = torch.zeros(2, 5, requires_grad=True)
    loss = ccc_loss(torch.zeros(2, 5), prediction_BT, torch.ones(2, 5, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]

    assert torch.isfinite(loss)
    assert prediction_BT.grad is not None
    assert torch.isfinite(prediction_BT.grad).all()
