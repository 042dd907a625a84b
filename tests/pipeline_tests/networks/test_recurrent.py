"""The recurrent layers give what torch.nn.GRU and LSTM give, computed there in float64 over packed sequences."""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.networks.recurrent import recurrent_layers

# B = sequences, T = frames, F = features, S = states

Cell = Literal["gru", "lstm"]

# States lie in [-1, 1], where float32 rounds by up to 6e-8; sums of a hundred products and four layers make that 3e-7.
# Gradients gather rounding from all frames, up to 2e-6 of their largest entry. A wrong formula is off by 1e-2 and more.
STATE_ERROR = 1e-5
GRADIENT_ERROR = 1e-5  # relative to the largest entry


def reference(layers: nn.Module, kind: type[nn.GRU] | type[nn.LSTM] = nn.GRU) -> nn.GRU | nn.LSTM:
    """The torch module with the same parameters, in float64."""
    given = {
        name: getattr(layers, name)
        for name in ("input_size", "hidden_size", "num_layers", "bidirectional")
    }
    copy = kind(**given, batch_first=True).double()
    copy.load_state_dict(layers.state_dict())
    return copy


def reference_states(module: nn.GRU | nn.LSTM, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
    packed = pack_padded_sequence(x_BTF, lengths_B, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(module(packed)[0], batch_first=True, total_length=x_BTF.shape[1])[0]


def batch(lengths: Sequence[int], num_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(lengths), max(lengths), num_features, generator=generator), torch.tensor(
        lengths
    )


def gradients(states_BTS: Tensor, module: nn.Module, x_BTF: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss that weighs every state differently, by the input and by each parameter."""
    weights = torch.randn(
        states_BTS.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    loss = (states_BTS * weights.to(states_BTS.dtype)).sum()
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(("x", *names), torch.autograd.grad(loss, (x_BTF, *parameters)), strict=True))


def assert_equals_torch(
    layers: nn.Module, x_BTF: Tensor, lengths_B: Tensor, gradient_error: float = GRADIENT_ERROR
) -> None:
    expected_module = reference(layers)
    x_BTF = x_BTF.clone().requires_grad_()
    expected_x_BTF = x_BTF.detach().double().requires_grad_()
    states = layers(x_BTF, lengths_B)
    expected_states = reference_states(expected_module, expected_x_BTF, lengths_B)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states.double(), expected_states, rtol=0, atol=STATE_ERROR)
    expected = gradients(expected_states, expected_module, expected_x_BTF)
    for name, gradient in gradients(states, layers, x_BTF).items():
        bound = gradient_error * expected[name].abs().max().item() + 1e-12
        torch.testing.assert_close(
            gradient.double(),
            expected[name],
            rtol=0,
            atol=bound,
            msg=partial("{}: {}".format, name),
        )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 4])
@pytest.mark.parametrize(
    "lengths", [[40], [40] * 3, [7, 40, 23], [40] * 8, [5, 40, 1, 12, 12, 39, 40, 2]]
)
def test_states_and_gradients_equal_torch(
    lengths: list[int], num_layers: int, bidirectional: bool
) -> None:
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
)
def test_any_shape_equals_torch(
    lengths: list[int], num_features: int, hidden_size: int, num_layers: int, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", num_features, hidden_size, num_layers, bidirectional, 0.0)
    # Where a whole gradient is small because frames cancel, as happens with one unit, rounding shows more.
    assert_equals_torch(layers, *batch(lengths, num_features), gradient_error=10 * GRADIENT_ERROR)


@pytest.mark.parametrize("lengths", [[1], [300], [150, 400], [3] * 130, list(range(1, 131))])
def test_few_long_and_many_short_sequences_equal_torch(lengths: list[int]) -> None:
    torch.manual_seed(0)
    assert_equals_torch(recurrent_layers("gru", 5, 16, 2, True, 0.0), *batch(lengths, 5))


def test_saturated_gates_equal_torch() -> None:
    torch.manual_seed(0)
    x_BTF, lengths_B = batch([20, 9], 6)
    assert_equals_torch(recurrent_layers("gru", 6, 16, 2, True, 0.0), 1e3 * x_BTF, lengths_B)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("content", [float("nan"), float("inf"), 1e30])
def test_padding_content_changes_neither_states_nor_gradients(cell: Cell, content: float) -> None:
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 6, 16, 2, True, 0.0)
    x_BTF, lengths_B = batch([4, 11, 8], 6)
    is_padding_BT = torch.arange(11) >= lengths_B[:, None]
    found = []
    for value in (0.0, content):
        filled = x_BTF.masked_fill(is_padding_BT[:, :, None], value).requires_grad_()
        states = layers(filled, lengths_B)
        found.append({"states": states, **gradients(states, layers, filled)})
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name
    assert not found[1]["states"][is_padding_BT].any()
    assert not found[1]["x"][is_padding_BT].any()


def test_a_sequence_alone_equals_itself_in_a_batch() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 32, 3, True, 0.0)
    x_BTF, lengths_B = batch([17, 30, 1, 30, 22], 6)
    together = layers(x_BTF, lengths_B)
    for b, length in enumerate(lengths_B.tolist()):
        alone = layers(x_BTF[b : b + 1, :length], lengths_B[b : b + 1])
        torch.testing.assert_close(together[b : b + 1, :length], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("cell", "kind"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_parameters_are_those_of_torch(cell: Cell, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
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
    torch.manual_seed(0)
    layers = recurrent_layers("lstm", 6, 16, 2, True, 0.0)
    x_BTF, lengths_B = batch([4, 11, 8], 6)
    expected = reference_states(reference(layers, nn.LSTM), x_BTF.double(), lengths_B)
    torch.testing.assert_close(
        layers(x_BTF, lengths_B).double(), expected, rtol=0, atol=STATE_ERROR
    )


def test_gru_in_float64_equals_torch() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 16, 2, True, 0.0).double()
    x_BTF, lengths_B = batch([4, 11, 8], 6)
    expected = reference_states(reference(layers), x_BTF.double(), lengths_B)
    assert torch.equal(layers(x_BTF.double(), lengths_B), expected)


def test_nan_in_one_sequence_shows_from_there_on_and_only_there() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 1, False, 0.0)
    x_BTF, lengths_B = batch([9, 12], 6)
    x_BTF[1, 5, 2] = float("nan")
    states = layers(x_BTF, lengths_B)
    assert states[0].isfinite().all()
    assert states[1, :5].isfinite().all()
    assert states[1, 5:].isnan().all()


@pytest.mark.parametrize(
    "name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l1", "bias_hh_l1_reverse"]
)
def test_a_nan_parameter_shows_in_states_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12], 6)
    with torch.no_grad():
        layers.get_parameter(name).view(-1)[-1] = float("nan")
    states = layers(x_BTF, lengths_B)
    assert states.isnan().any()
    (gradient,) = torch.autograd.grad(states.sum(), layers.get_parameter(name))
    assert gradient.isnan().any()


def test_the_same_input_gives_the_same_bytes() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    x_BTF.requires_grad_()
    first, second = (layers(x_BTF, lengths_B) for _ in range(2))
    assert torch.equal(first, second)
    for one, other in zip(
        gradients(first, layers, x_BTF).values(),
        gradients(second, layers, x_BTF).values(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_without_gradients_the_states_are_the_same() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    states = layers(x_BTF, lengths_B)
    with torch.no_grad():
        assert torch.equal(layers(x_BTF, lengths_B), states)
    with torch.inference_mode():
        assert torch.equal(layers(x_BTF, lengths_B), states)


def test_gradients_can_be_asked_for_twice() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    loss = layers(x_BTF, lengths_B).square().sum()
    first, second = (
        torch.autograd.grad(loss, list(layers.parameters()), retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_frozen_layers_pass_the_gradient_through() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, True, 0.0).requires_grad_(False)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    ours, theirs = x_BTF.clone().requires_grad_(), x_BTF.double().requires_grad_()
    (found,) = torch.autograd.grad(layers(ours, lengths_B).square().sum(), ours)
    (expected,) = torch.autograd.grad(
        reference_states(reference(layers), theirs, lengths_B).square().sum(), theirs
    )
    torch.testing.assert_close(
        found.double(), expected, rtol=0, atol=GRADIENT_ERROR * expected.abs().max().item()
    )


def test_a_seed_fixes_the_dropout() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 3, True, 0.5)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(layers(x_BTF, lengths_B))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_evaluation_drops_nothing() -> None:
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 3, True, 0.5).eval()
    assert_equals_torch(layers, *batch([9, 12, 3], 6))


def test_dropout_acts_between_layers_and_not_after_the_last() -> None:
    # With a dropout of 1 the second layer sees zeros, whatever the first one gives.
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 6, 20, 2, False, 1.0)
    x_BTF, lengths_B = batch([9, 12, 3], 6)
    second = nn.GRU(20, 20, batch_first=True).double()
    second.load_state_dict(
        {name.replace("l1", "l0"): p for name, p in layers.state_dict().items() if "l1" in name}
    )
    expected = reference_states(second, torch.zeros(3, 12, 20, dtype=torch.float64), lengths_B)
    torch.testing.assert_close(
        layers(x_BTF, lengths_B).double(), expected, rtol=0, atol=STATE_ERROR
    )


def test_dropout_doubles_what_it_leaves_and_spares_the_input() -> None:
    # One unit, one frame, the same in every sequence: the second layer sees 0 or twice the state, and nothing else.
    torch.manual_seed(0)
    layers = recurrent_layers("gru", 1, 1, 2, False, 0.5)
    states = layers(torch.ones(64, 1, 1), torch.ones(64, dtype=torch.int64))
    first, second = (nn.GRU(1, 1, batch_first=True) for _ in range(2))
    for name, parameter in layers.state_dict().items():
        (first if "l0" in name else second).get_parameter(name.replace("l1", "l0")).data.copy_(
            parameter
        )
    state = first(torch.ones(1, 1, 1))[0]
    expected = (
        torch.cat([second(seen)[0] for seen in (0 * state, 2 * state)]).flatten().sort().values
    )
    torch.testing.assert_close(states.unique(), expected, rtol=0, atol=STATE_ERROR)


def test_a_single_layer_drops_nothing() -> None:
    torch.manual_seed(0)
    assert_equals_torch(recurrent_layers("gru", 6, 20, 1, True, 0.5), *batch([9, 12, 3], 6))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
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
    layers = recurrent_layers(cell, 6, 20, 1, False, 0.0)
    with pytest.raises(ValueError, match="length"):
        layers(torch.zeros(2, 5, 6), lengths_B)


@pytest.mark.parametrize("shape", [(5, 6), (0, 5, 6), (2, 0, 6), (2, 5, 7), (2, 5, 5)])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_wrong_input_is_refused(cell: Cell, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="x has shape"):
        recurrent_layers(cell, 6, 20, 1, False, 0.0)(
            torch.zeros(shape), torch.ones(shape[0], dtype=torch.int64)
        )


def test_importing_compiles_nothing() -> None:
    code = "import sys, pipeline.networks.recurrent; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
