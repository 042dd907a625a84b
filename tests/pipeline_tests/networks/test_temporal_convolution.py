"""The temporal convolution gives what its formula gives.

The reference is a sum over taps in float64, sequence by sequence, without torch's convolution.
"""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pipeline.networks.recurrent import recurrent_layers
from pipeline.networks.temporal_convolution import TemporalConvolution

# B = sequences, T = frames, F = features, C = channels, S = states

# States are of about unit size: float32 rounds their sums of a few hundred products by 1e-6.
STATE_ERROR = 2e-5
RECEPTIVE_FIELDS = {1: 9, 2: 25, 3: 57, 4: 121, 5: 249}
"""Layers -> frames, as the documentation of `NetworkSpec.cell` states them."""


def tcn(
    num_features: int, hidden_size: int, num_layers: int, bidirectional: bool
) -> torch.nn.Module:
    """Return a temporal convolution with random biases and gains, as training would leave them."""
    torch.manual_seed(0)
    layers = recurrent_layers("tcn", num_features, hidden_size, num_layers, bidirectional, 0.0)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layers


def batch(lengths: Sequence[int], num_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random sequences of these lengths, of unit size, and their lengths."""
    generator = torch.Generator().manual_seed(seed)
    x_BTF = torch.randn(len(lengths), max(lengths), num_features, generator=generator)
    return x_BTF, torch.tensor(lengths)


def reference_states(
    layers: torch.nn.Module, x_BTF: Tensor, lengths_B: Tensor, *, is_centred: bool
) -> Tensor:
    """Return the states by the formula, in float64, from the parameters' names alone."""
    weights = {name: weight.double() for name, weight in layers.state_dict().items()}
    assert isinstance(layers, TemporalConvolution)
    states = []

    for x_TF, length in zip(x_BTF.double(), lengths_B.tolist(), strict=True):
        x_CT = x_TF[:length].T
        for layer in range(len(layers.blocks)):
            x_CT = _reference_block(weights, layer, is_centred, x_CT)
        states.append(functional.pad(x_CT.T, (0, 0, 0, x_BTF.shape[1] - length)))

    return torch.stack(states)


def _reference_block(
    weights: dict[str, Tensor], layer: int, is_centred: bool, x_CT: Tensor
) -> Tensor:
    prefix, change_CT = f"blocks.{layer}.", x_CT
    for number in ("1", "2"):
        direction_OIK = weights[f"{prefix}convolution{number}.direction"]
        gain_O = weights[f"{prefix}convolution{number}.gain"]
        norm_O = torch.linalg.vector_norm(direction_OIK, dim=(1, 2))
        weight_OIK = direction_OIK * (gain_O / norm_O)[:, None, None]
        bias = weights[f"{prefix}convolution{number}.bias"]
        reach = (weight_OIK.shape[2] - 1) * 2**layer
        padding = (reach // 2, reach // 2) if is_centred else (reach, 0)
        padded = functional.pad(change_CT, padding)
        change_CT = _convolve(padded, weight_OIK, 2**layer, change_CT.shape[1])
        change_CT = (change_CT + bias[:, None]).clamp_min(0)

    if f"{prefix}residual.weight" in weights:
        bias = weights[f"{prefix}residual.bias"]
        x_CT = weights[f"{prefix}residual.weight"] @ x_CT + bias[:, None]
    return (change_CT + x_CT).clamp_min(0)


def _convolve(x_CT: Tensor, weight_OIK: Tensor, dilation: int, num_frames: int) -> Tensor:
    """Return the sum over taps: each weighs the frame that lies so many dilations further on."""
    y_CT = torch.zeros(len(weight_OIK), num_frames, dtype=x_CT.dtype)
    for tap in range(weight_OIK.shape[2]):
        y_CT += weight_OIK[..., tap] @ x_CT[:, tap * dilation : tap * dilation + num_frames]
    return y_CT


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 4])
@pytest.mark.parametrize("lengths", [[1], [40], [40] * 3, [5, 40, 1, 12, 12, 39, 40, 2]])
def test_states_equal_the_formula(lengths: list[int], num_layers: int, bidirectional: bool) -> None:
    """Batches of equal and of unequal lengths, shorter and longer than the receptive field."""
    layers = tcn(6, 16, num_layers, bidirectional)
    x_BTF, lengths_B = batch(lengths, 6)

    expected = reference_states(layers, x_BTF, lengths_B, is_centred=bidirectional)
    states = layers(x_BTF, lengths_B)
    assert states.shape == (len(lengths), max(lengths), 32 if bidirectional else 16)
    torch.testing.assert_close(states.double(), expected, rtol=0, atol=STATE_ERROR)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    num_features=st.integers(1, 20),
    hidden_size=st.integers(1, 20),
    num_layers=st.integers(1, 6),
    bidirectional=st.booleans(),
)
@pytest.mark.slow
def test_any_shape_equals_the_formula(
    lengths: list[int], num_features: int, hidden_size: int, num_layers: int, bidirectional: bool
) -> None:
    """In float64, so that no rounding hides a wrong formula."""
    layers = tcn(num_features, hidden_size, num_layers, bidirectional).double()
    x_BTF, lengths_B = batch(lengths, num_features)

    expected = reference_states(layers, x_BTF, lengths_B, is_centred=bidirectional)
    torch.testing.assert_close(layers(x_BTF.double(), lengths_B), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_are_those_of_small_differences(bidirectional: bool) -> None:
    """By the input and by every parameter, in float64, with padding."""
    layers = tcn(3, 4, 2, bidirectional).double()
    x_BTF, lengths_B = batch([7, 4], 3)
    names, parameters = zip(*layers.named_parameters(), strict=True)

    def states(x_BTF: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        result: Tensor = torch.func.functional_call(layers, given, (x_BTF, lengths_B))
        return result

    inputs = (x_BTF.double().requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(states, inputs, fast_mode=True)


def test_a_later_frame_changes_nothing_earlier_where_it_is_causal() -> None:
    """What is not bidirectional can be read while it happens."""
    layers = tcn(6, 8, 3, bidirectional=False)
    x_BTF, lengths_B = batch([40], 6)
    changed_BTF = x_BTF.clone()
    changed_BTF[:, 20:] += 1

    before, after = layers(x_BTF, lengths_B), layers(changed_BTF, lengths_B)
    torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, 20:], after[:, 20:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("num_layers", RECEPTIVE_FIELDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_frame_reaches_as_far_as_is_documented(num_layers: int, bidirectional: bool) -> None:
    """The frames whose state one frame changes are as many as the receptive field."""
    layers = tcn(4, 8, num_layers, bidirectional).double()
    x_BTF, lengths_B = batch([600] * 8, 4)
    x_BTF = x_BTF.double().requires_grad_()

    # A frame far from both ends: which inputs does its state depend on? In one sequence a ReLU may
    # close the only way to one of them.
    layers(x_BTF, lengths_B)[:, 300].square().sum().backward()
    assert x_BTF.grad is not None
    frames = x_BTF.grad.abs().sum((0, 2)).nonzero()[:, 0]
    reach = RECEPTIVE_FIELDS[num_layers] - 1
    first, last = (300 - reach // 2, 300 + reach // 2) if bidirectional else (300 - reach, 300)
    assert (frames.min().item(), frames.max().item()) == (first, last)


def test_many_layers_on_short_sequences_take_no_more_memory_than_few() -> None:
    """Sixteen layers would look half a million frames far; the sequences end before."""
    layers = tcn(3, 4, 16, bidirectional=True)
    states = layers(*batch([6, 9], 3))

    assert states.shape == (2, 9, 8)
    assert states.isfinite().all()
