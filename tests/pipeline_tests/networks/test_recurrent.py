"""The recurrent layers give what torch.nn.GRU and LSTM give, as far as float32 can.

The reference is torch's module in float64 over packed sequences. What holds of every cell is tried
on the temporal convolution, too; its own reference is in `test_temporal_convolution.py`.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.networks.recurrent import recurrent_layers

# B = sequences, T = frames, F = features, G = gates of all units, S = states

Cell = Literal["gru", "lstm", "tcn"]
Results = dict[str, Tensor]
"""The states, under "states", and the gradient by the input ("x") and by each parameter."""

# For inputs of about unit size, and fixed shapes. States lie in [-1, 1], where float32 rounds by up
# to 6e-8; sums of a hundred products and four layers make that 3e-7. Gradients gather rounding from
# all frames, up to 2e-6 of their largest entry. A wrong formula is off by 1e-2 and more.
STATE_ERROR = 1e-5
GRADIENT_ERROR = 1e-5  # relative to the largest entry

# For any shape and any size of input no fixed figure holds. Where a gate is saturated, a factor
# such as 1 - z has few of z's digits left, and a gradient made of such factors may be wrong by a
# thousandth of itself, in torch too. So torch's own GRU computes the same in float32, and the
# fused one may be `ERROR_FACTOR` times as far from float64 as torch is, plus a floor. The floor is
# there because torch may be lucky: two float32 computations of one number have unequal errors, and
# one of them may be 0. It is derived as follows.
#
# - A sum of products that enters a gate is known to about `FLOAT32_EPSILON` times the sum of their
#   sizes: that many units are lost before the gate, whatever comes after it. Neither the sigmoid
#   nor tanh is steeper than 1, so no gate and no state is off by much more. (`_gate_rounding`)
# - The gradient by the input of a gate is the gradient by its state, times factors like 1 - z that
#   are off by as much. Roundings of different frames are independent: they add up like the norm of
#   the gradients by all states, not like their sum.
# - The gradient by a weight multiplies that with what the weight multiplies: an input or a state.
#   A state is at most 1. The columns of a weight, which make the gradient by the input, have a norm
#   of about 1.
# - That gradient is a sum over frames, each of which rounds the sum so far by `FLOAT32_EPSILON` of
#   its size; in which order, every implementation decides for itself.
#
# In 5000 random shapes with inputs of size 1, 30 and 1000 no error was above half of this bound.
FLOAT32_EPSILON = float(torch.finfo(torch.float32).eps)
ERROR_FACTOR = 4.0


def reference(layers: nn.Module, kind: type[nn.GRU] | type[nn.LSTM] = nn.GRU) -> nn.GRU | nn.LSTM:
    """Return the torch module with the same parameters, in float64."""
    names = ("input_size", "hidden_size", "num_layers", "bidirectional")
    shape = {name: getattr(layers, name) for name in names}

    copy = kind(**shape, batch_first=True).double()
    copy.load_state_dict(layers.state_dict())
    return copy


def reference_states(module: nn.GRU | nn.LSTM, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
    """Return what a torch module computes over packed sequences, padded with zeros."""
    packed = pack_padded_sequence(x_BTF, lengths_B, batch_first=True, enforce_sorted=False)
    states, _ = module(packed)

    return pad_packed_sequence(states, batch_first=True, total_length=x_BTF.shape[1])[0]


def batch(lengths: Sequence[int], num_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random sequences of these lengths, of unit size, and their lengths."""
    generator = torch.Generator().manual_seed(seed)
    x_BTF = torch.randn(len(lengths), max(lengths), num_features, generator=generator)

    return x_BTF, torch.tensor(lengths)


def loss_weights(states_BTS: Tensor) -> Tensor:
    """Return the gradient of the tests' loss by the states: every state counts differently."""
    generator = torch.Generator().manual_seed(1)

    return torch.randn(states_BTS.shape, generator=generator, dtype=torch.float64)


def gradients(states_BTS: Tensor, module: nn.Module, x_BTF: Tensor) -> Results:
    """Return the gradients of the tests' loss by the input and by each parameter."""
    loss = (states_BTS * loss_weights(states_BTS).to(states_BTS.dtype)).sum()
    names, parameters = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, (x_BTF, *parameters))

    return dict(zip(("x", *names), grads, strict=True))


def fused_results(layers: nn.Module, x_BTF: Tensor, lengths_B: Tensor) -> Results:
    """Return the states and gradients of our layers."""
    x_BTF = x_BTF.clone().requires_grad_()
    states = layers(x_BTF, lengths_B)

    return {"states": states, **gradients(states, layers, x_BTF)}


def torch_results(
    layers: nn.Module, x_BTF: Tensor, lengths_B: Tensor, dtype: torch.dtype
) -> Results:
    """Return the states and gradients of torch's GRU with the same parameters, in a precision."""
    module = reference(layers).to(dtype)
    x_BTF = x_BTF.to(dtype, copy=True).requires_grad_()
    states = reference_states(module, x_BTF, lengths_B)

    return {"states": states, **gradients(states, module, x_BTF)}


def float32_floors(
    layers: nn.Module, x_BTF: Tensor, lengths_B: Tensor, exact: Results
) -> dict[str, float]:
    """Return by how much float32 may be off even where torch's is not; derived above."""
    rounding = _gate_rounding(layers, x_BTF)
    is_frame_BT = torch.arange(x_BTF.shape[1]) < lengths_B[:, None]
    gradient_norm = loss_weights(exact["states"])[is_frame_BT].norm().item()
    largest_input = max(1.0, x_BTF.abs().max().item())
    sum_rounding = FLOAT32_EPSILON * lengths_B.sum().sqrt().item()

    floors = {"states": rounding, "x": rounding * gradient_norm}
    for name, _ in layers.named_parameters():
        largest_factor = largest_input if name.startswith("weight_ih_l0") else 1.0
        gate_part = rounding * gradient_norm * largest_factor
        floors[name] = gate_part + sum_rounding * exact[name].abs().max().item()

    return floors


def _gate_rounding(layers: nn.Module, x_BTF: Tensor) -> float:
    """Return the absolute error of float32 in the largest sum that enters a gate."""
    sizes = [1.0]
    for name, weight in layers.named_parameters():
        if name.startswith("weight_ih_l0"):
            sizes.append((x_BTF.abs() @ weight.abs().T).max().item())
        elif name.startswith("weight"):
            sizes.append(weight.abs().sum(dim=1).max().item())  # it multiplies states, at most 1

    return FLOAT32_EPSILON * max(sizes)


def assert_as_exact_as_torch(layers: nn.Module, x_BTF: Tensor, lengths_B: Tensor) -> None:
    """Check that our layers are about as close to float64 as torch's float32 is."""
    ours = fused_results(layers, x_BTF, lengths_B)
    theirs = torch_results(layers, x_BTF, lengths_B, torch.float32)
    expected = torch_results(layers, x_BTF, lengths_B, torch.float64)
    floors = float32_floors(layers, x_BTF, lengths_B, expected)

    assert ours["states"].dtype == torch.float32
    for name, exact in expected.items():
        error = (ours[name].double() - exact).abs().max().item()
        torch_error = (theirs[name].double() - exact).abs().max().item()
        bound = ERROR_FACTOR * torch_error + floors[name]
        assert error <= bound, f"{name}: off by {error:.3g}, torch by {torch_error:.3g}"


def assert_equals_torch(layers: nn.Module, x_BTF: Tensor, lengths_B: Tensor) -> None:
    """Check that our layers are as exact as torch's, and within fixed figures of float64."""
    assert_as_exact_as_torch(layers, x_BTF, lengths_B)

    ours = fused_results(layers, x_BTF, lengths_B)
    for name, exact in torch_results(layers, x_BTF, lengths_B, torch.float64).items():
        error = (ours[name].double() - exact).abs().max().item()
        bound = GRADIENT_ERROR * exact.abs().max().item() + 1e-12
        assert error <= (STATE_ERROR if name == "states" else bound), name


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 4])
@pytest.mark.parametrize(
    "lengths", [[40], [40] * 3, [7, 40, 23], [40] * 8, [5, 40, 1, 12, 12, 39, 40, 2]]
)
def test_states_and_gradients_equal_torch(
    lengths: list[int], num_layers: int, bidirectional: bool
) -> None:
    """Batches of equal and of unequal lengths, one layer and four."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 24, 64, num_layers, bidirectional, 0.0)
    assert_equals_torch(layers, *batch(lengths, 24))


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9),
    num_features=st.integers(1, 70),
    hidden_size=st.integers(1, 70),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    input_size=st.sampled_from([1.0, 30.0, 1e3]),
    seed=st.integers(0, 1000),
)
# One unit, one frame, a gate near saturation: float32 is 2.6e-4 of the gradient away from float64.
@example([1], 55, 1, 1, False, 1.0, 0)
@example([1], 55, 1, 2, False, 1.0, 0)
@example([1], 67, 1, 2, True, 1.0, 0)
# One unit, two frames: almost nothing, or nothing, is left of a gradient that float32 cancels.
@example([1, 1], 66, 1, 2, True, 1.0, 0)
@example([2], 70, 1, 1, False, 1.0, 0)
# Gates that are all saturated.
@example([3], 64, 1, 1, False, 30.0, 0)
@example([3, 3], 51, 1, 1, True, 1e3, 0)
@pytest.mark.slow
def test_any_shape_and_size_of_input_is_as_exact_as_torch(
    lengths: list[int],
    num_features: int,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool,
    input_size: float,
    seed: int,
) -> None:
    """Gates may be saturated: the bound is what torch's float32 reaches on the same input."""
    torch.manual_seed(seed)
    layers = recurrent_layers("gru", num_features, hidden_size, num_layers, bidirectional, 0.0)
    x_BTF, lengths_B = batch(lengths, num_features, seed)

    assert_as_exact_as_torch(layers, input_size * x_BTF, lengths_B)


@pytest.mark.parametrize("lengths", [[1], [300], [150, 400], [3] * 130, list(range(1, 131))])
@pytest.mark.slow
def test_few_long_and_many_short_sequences_equal_torch(lengths: list[int]) -> None:
    """Chunks of steps may hold one sequence or a hundred."""
    torch.manual_seed(0)
    assert_equals_torch(recurrent_layers("gru", 5, 16, 2, True, 0.0), *batch(lengths, 5))


def test_saturated_gates_equal_torch() -> None:
    """Inputs of a thousand leave nothing between 0 and 1."""
    torch.manual_seed(0)
    x_BTF, lengths_B = batch([20, 9], 6)
    assert_equals_torch(recurrent_layers("gru", 6, 16, 2, True, 0.0), 1e3 * x_BTF, lengths_B)


@pytest.mark.parametrize("cell", ["gru", "lstm", "tcn"])
@pytest.mark.parametrize("content", [float("nan"), float("inf"), 1e30])
def test_padding_content_changes_neither_states_nor_gradients(cell: Cell, content: float) -> None:
    """Even NaN in the padding has no effect."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 16, 2, True, 0.0)
    x_BTF, lengths_B = batch([4, 11, 8], 6)
    is_padding_BT = torch.arange(11) >= lengths_B[:, None]

    zeros, filled = (
        fused_results(layers, x_BTF.masked_fill(is_padding_BT[:, :, None], value), lengths_B)
        for value in (0.0, content)
    )
    for name, tensor in zeros.items():
        assert torch.equal(tensor, filled[name]), name
    assert not filled["states"][is_padding_BT].any()
    assert not filled["x"][is_padding_BT].any()


@pytest.mark.parametrize("cell", ["gru", "tcn"])
@pytest.mark.slow
def test_a_sequence_alone_equals_itself_in_a_batch(cell: Cell) -> None:
    """No sequence sees another one."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 32, 3, True, 0.0)
    x_BTF, lengths_B = batch([17, 30, 1, 30, 22], 6)
    together = layers(x_BTF, lengths_B)

    for b, length in enumerate(lengths_B.tolist()):
        alone = layers(x_BTF[b : b + 1, :length], lengths_B[b : b + 1])
        torch.testing.assert_close(together[b : b + 1, :length], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("cell", "kind"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_parameters_are_those_of_torch(cell: Cell, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
    """Names, shapes and initial values are the same, and weights can be exchanged."""
    torch.manual_seed(3)
    ours = recurrent_layers(cell, 6, 16, 3, True, 0.2)
    torch.manual_seed(3)
    theirs = kind(6, 16, 3, bidirectional=True, dropout=0.2, batch_first=True)

    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, parameter in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], parameter), name
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())


def test_lstm_equals_torch() -> None:
    """The LSTM is torch's over packed sequences."""
    torch.manual_seed(0)
    layers = recurrent_layers("lstm", 6, 16, 2, True, 0.0)
    x_BTF, lengths_B = batch([4, 11, 8], 6)

    expected = reference_states(reference(layers, nn.LSTM), x_BTF.double(), lengths_B)
    torch.testing.assert_close(
        layers(x_BTF, lengths_B).double(), expected, rtol=0, atol=STATE_ERROR
    )


def test_gru_in_float64_equals_torch() -> None:
    """In float64 the GRU is torch's, bit for bit."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 16, 2, True, 0.0).double()
    x_BTF, lengths_B = batch([4, 11, 8], 6)

    expected = reference_states(reference(layers), x_BTF.double(), lengths_B)
    assert torch.equal(layers(x_BTF.double(), lengths_B), expected)


@pytest.mark.parametrize("cell", ["gru", "tcn"])
def test_nan_in_one_sequence_is_seen_from_there_on_and_only_there(cell: Cell) -> None:
    """Compiled arithmetic must not lose NaN."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 20, 1, False, 0.0)
    x_BTF, lengths_B = batch([9, 12], 6)
    x_BTF[1, 5, 2] = float("nan")

    states = layers(x_BTF, lengths_B)
    assert states[0].isfinite().all()
    assert states[1, :5].isfinite().all()
    assert states[1, 5:].isnan().all()


@pytest.mark.parametrize(
    "name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l1", "bias_hh_l1_reverse"]
)
def test_a_nan_parameter_is_seen_in_states_and_gradients(name: str) -> None:
    """A fit that diverged must not look healthy."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12], 6)
    with torch.no_grad():
        layers.get_parameter(name).view(-1)[-1] = float("nan")

    states = layers(x_BTF, lengths_B)
    assert states.isnan().any()
    (gradient,) = torch.autograd.grad(states.sum(), layers.get_parameter(name))
    assert gradient.isnan().any()


@pytest.mark.parametrize("cell", ["gru", "tcn"])
def test_the_same_input_gives_the_same_bytes(cell: Cell) -> None:
    """States and gradients are deterministic."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)

    first, second = (fused_results(layers, x_BTF, lengths_B) for _ in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("cell", ["gru", "tcn"])
def test_without_gradients_the_states_are_the_same(cell: Cell) -> None:
    """Inference keeps nothing for a way back."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    states = layers(x_BTF, lengths_B)

    with torch.no_grad():
        assert torch.equal(layers(x_BTF, lengths_B), states)
    with torch.inference_mode():
        assert torch.equal(layers(x_BTF, lengths_B), states)


@pytest.mark.parametrize("cell", ["gru", "tcn"])
def test_gradients_can_be_computed_twice(cell: Cell) -> None:
    """The way back changes nothing that was kept."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    loss = layers(x_BTF, lengths_B).square().sum()
    parameters = list(layers.parameters())

    first, second = (torch.autograd.grad(loss, parameters, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_frozen_layers_pass_the_gradient_through() -> None:
    """The input has a gradient where no parameter has one."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0).requires_grad_(False)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    exact_x_BTF = x_BTF.double().requires_grad_()
    x_BTF.requires_grad_()

    states = layers(x_BTF, lengths_B)
    exact_states = reference_states(reference(layers), exact_x_BTF, lengths_B)
    (gradient,) = torch.autograd.grad(states.square().sum(), x_BTF)
    (expected,) = torch.autograd.grad(exact_states.square().sum(), exact_x_BTF)
    bound = GRADIENT_ERROR * expected.abs().max().item()
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("cell", ["gru", "tcn"])
def test_a_seed_fixes_the_dropout(cell: Cell) -> None:
    """The random numbers are torch's."""
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 20, 3, True, 0.5)
    x_BTF, lengths_B = batch([9, 12, 3], 6)

    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(layers(x_BTF, lengths_B))

    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_evaluation_drops_nothing() -> None:
    """Dropout acts in training only."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 3, True, 0.5).eval()
    assert_equals_torch(layers, *batch([9, 12, 3], 6))


def test_dropout_acts_between_layers_and_not_after_the_last() -> None:
    """With a dropout of 1 the second layer sees zeros, whatever the first one gives."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, False, 1.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    weights = layers.state_dict()
    second = nn.GRU(20, 20, batch_first=True).double()
    second.load_state_dict(
        {name: weights[name.replace("l0", "l1")] for name in second.state_dict()}
    )

    expected = reference_states(second, torch.zeros(3, 12, 20, dtype=torch.float64), lengths_B)
    torch.testing.assert_close(
        layers(x_BTF, lengths_B).double(), expected, rtol=0, atol=STATE_ERROR
    )


def test_dropout_doubles_what_it_leaves_and_spares_the_input() -> None:
    """The second layer sees 0 or twice the state of the first one, and nothing else."""
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 1, 1, 2, False, 0.5)
    # One unit, one frame, the same in every sequence: only the dropout differs.
    states = layers(torch.ones(64, 1, 1), torch.ones(64, dtype=torch.int64))

    weights = layers.state_dict()
    first, second = (nn.GRU(1, 1, batch_first=True) for _ in range(2))
    first.load_state_dict({name: weights[name] for name in first.state_dict()})
    second.load_state_dict(
        {name: weights[name.replace("l0", "l1")] for name in second.state_dict()}
    )

    state = first(torch.ones(1, 1, 1))[0]
    possible = [second(multiple * state)[0] for multiple in (0, 2)]
    expected = torch.cat(possible).flatten().sort().values
    torch.testing.assert_close(states.unique(), expected, rtol=0, atol=STATE_ERROR)


def test_a_single_layer_drops_nothing() -> None:
    """There is no next layer that could miss a state."""
    torch.manual_seed(0)
    assert_equals_torch(recurrent_layers("gru", 6, 20, 1, True, 0.5), *batch([9, 12, 3], 6))


@pytest.mark.parametrize("cell", ["gru", "lstm", "tcn"])
@pytest.mark.parametrize(
    "lengths_B",
    [
        torch.tensor([0, 5]),
        torch.tensor([5, 6]),
        torch.tensor([5]),
        torch.tensor([[5, 5]]),
        torch.tensor([5, 5], dtype=torch.int32),
        torch.tensor([5.0, 5.0]),
    ],
)
def test_wrong_lengths_are_refused(cell: Cell, lengths_B: Tensor) -> None:
    """Lengths must be int64 on the CPU, one per sequence, from 1 to the number of frames."""
    layers = recurrent_layers(cell, 6, 20, 1, False, 0.0)

    with pytest.raises(ValueError, match="length"):
        layers(torch.zeros(2, 5, 6), lengths_B)


@pytest.mark.parametrize("shape", [(5, 6), (0, 5, 6), (2, 0, 6), (2, 5, 7), (2, 5, 5)])
@pytest.mark.parametrize("cell", ["gru", "lstm", "tcn"])
def test_wrong_input_is_refused(cell: Cell, shape: tuple[int, ...]) -> None:
    """An input must be sequences of frames of the right number of features."""
    layers = recurrent_layers(cell, 6, 20, 1, False, 0.0)
    lengths_B = torch.ones(shape[0], dtype=torch.int64)

    with pytest.raises(ValueError, match="x has shape"):
        layers(torch.zeros(shape), lengths_B)


@pytest.mark.slow
def test_importing_compiles_nothing() -> None:
    """Who needs no GRU does not wait for numba."""
    code = "import sys, pipeline.networks.recurrent; sys.exit('numba' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], check=False)

    assert process.returncode == 0
