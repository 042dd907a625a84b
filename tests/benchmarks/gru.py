"""The GRU against torch.nn.GRU on one CPU thread.

It has 4 layers, in both directions, of 64 units, and reads 88 features of 300 frames.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.networks.recurrent import recurrent_layers
from tests.benchmarks.rows import Row, compare_times, less_is_better

# B = sequences, T = frames, F = features, S = states

NUM_LAYERS, HIDDEN_SIZE, NUM_FEATURES, NUM_FRAMES = 4, 64, 88, 300
MAX_RELATIVE_ERROR = 1e-5


def gru_rows() -> list[Row]:
    """Return times of training and inference, and the gradients' distance to torch's in float64."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            _training_row(batch_size=8, num_pairs=25),
            _training_row(batch_size=32, num_pairs=15),
            _inference_row(batch_size=1, num_pairs=60),
            _inference_row(batch_size=8, num_pairs=30),
            _inference_row(batch_size=32, num_pairs=15),
            _error_row("grad_error_equal", [NUM_FRAMES] * 8),
            _error_row("grad_error_unequal", [300, 41, 187, 1, 300, 96, 240, 223]),
        ]
    finally:
        torch.set_num_threads(num_threads)


def _training_row(batch_size: int, num_pairs: int) -> Row:
    x_BTF, lengths_B = _batch([NUM_FRAMES] * batch_size)
    y_BT = torch.randn(batch_size, NUM_FRAMES)

    our_layers, torch_layers = _our_layers(), _torch_layers()
    our_step = _training_step(our_layers, lambda: our_layers(x_BTF, lengths_B), y_BT)
    torch_step = _training_step(torch_layers, lambda: torch_layers(x_BTF)[0], y_BT)

    return compare_times(f"train_b{batch_size}", our_step, torch_step, num_pairs)


def _training_step(
    layers: nn.Module, compute_states: Callable[[], Tensor], y_BT: Tensor
) -> Callable[[], None]:
    """Return a step: states, a linear head, mean squared error, gradients, Adam."""
    head = nn.Linear(2 * HIDDEN_SIZE, 1)
    optimizer = torch.optim.Adam([*layers.parameters(), *head.parameters()])

    def step() -> None:
        optimizer.zero_grad()
        loss = (head(compute_states())[:, :, 0] - y_BT).square().mean()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _inference_row(batch_size: int, num_pairs: int) -> Row:
    x_BTF, lengths_B = _batch([NUM_FRAMES] * batch_size)
    our_layers, torch_layers = _our_layers().eval(), _torch_layers().eval()

    with torch.no_grad():
        return compare_times(
            f"infer_b{batch_size}",
            lambda: our_layers(x_BTF, lengths_B),
            lambda: torch_layers(x_BTF),
            num_pairs,
        )


def _error_row(name: str, lengths: list[int]) -> Row:
    """Return the largest error in any gradient, relative to that gradient's largest entry."""
    x_BTF, lengths_B = _batch(lengths)
    our_layers = _our_layers()
    exact_layers = _torch_layers().double()
    exact_layers.load_state_dict(our_layers.state_dict())

    our_x = x_BTF.clone().requires_grad_()
    our_states_BTS = our_layers(our_x, lengths_B)

    exact_x = x_BTF.double().requires_grad_()
    packed = pack_padded_sequence(exact_x, lengths_B, batch_first=True, enforce_sorted=False)
    exact_states_BTS, _ = pad_packed_sequence(exact_layers(packed)[0], batch_first=True)

    weights_BTS = torch.randn(len(lengths), max(lengths), 2 * HIDDEN_SIZE)
    our_gradients = torch.autograd.grad(
        (our_states_BTS * weights_BTS).sum(), [our_x, *our_layers.parameters()]
    )
    exact_gradients = torch.autograd.grad(
        (exact_states_BTS * weights_BTS).sum(), [exact_x, *exact_layers.parameters()]
    )

    pairs = zip(our_gradients, exact_gradients, strict=True)
    error = max(_relative_error(gradient, exact) for gradient, exact in pairs)
    return less_is_better(name, error, MAX_RELATIVE_ERROR, "relative")


def _relative_error(gradient: Tensor, exact: Tensor) -> float:
    return ((gradient - exact).abs().max() / exact.abs().max()).item()


def _batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(len(lengths), max(lengths), NUM_FEATURES), torch.tensor(lengths)


def _our_layers() -> nn.Module:
    return recurrent_layers(
        "gru", NUM_FEATURES, HIDDEN_SIZE, NUM_LAYERS, bidirectional=True, dropout=0.0
    )


def _torch_layers() -> nn.GRU:
    return nn.GRU(NUM_FEATURES, HIDDEN_SIZE, NUM_LAYERS, bidirectional=True, batch_first=True)
