"""The GRU on one CPU thread against torch.nn.GRU: 4 layers, bidirectional, 64 units, 88 features, 300 frames."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.networks.recurrent import recurrent_layers

# B = sequences, T = frames, F = features, S = states

NUM_LAYERS, HIDDEN_SIZE, NUM_FEATURES, NUM_FRAMES = 4, 64, 88, 300
ERROR_BOUND = 1e-5
Row = dict[str, str | float]


def gru_rows() -> list[Row]:
    """Times of a training step and of inference, and how far the gradients are from torch's in float64."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            _train_row(batch_size=8, pairs=25),
            _train_row(batch_size=32, pairs=15),
            _infer_row(batch_size=1, pairs=60),
            _infer_row(batch_size=8, pairs=30),
            _infer_row(batch_size=32, pairs=15),
            _error_row("grad_error_equal", [NUM_FRAMES] * 8),
            _error_row("grad_error_unequal", [300, 41, 187, 1, 300, 96, 240, 223]),
        ]
    finally:
        torch.set_num_threads(threads)


def _train_row(batch_size: int, pairs: int) -> Row:
    """One step: states, a linear head, mean squared error, gradients, Adam."""
    x_BTF, lengths_B = _batch([NUM_FRAMES] * batch_size)
    y_BT = torch.randn(batch_size, NUM_FRAMES)

    def step_of(layers: nn.Module, states_of: Callable[[], Tensor]) -> Callable[[], None]:
        head = nn.Linear(2 * HIDDEN_SIZE, 1)
        optimizer = torch.optim.Adam([*layers.parameters(), *head.parameters()])

        def step() -> None:
            optimizer.zero_grad()
            torch.autograd.backward((head(states_of())[:, :, 0] - y_BT).square().mean())
            optimizer.step()

        return step

    ours, other = _ours(), _other()
    our_step = step_of(ours, lambda: ours(x_BTF, lengths_B))
    return _time_row(
        f"train_b{batch_size}", our_step, step_of(other, lambda: other(x_BTF)[0]), pairs
    )


def _infer_row(batch_size: int, pairs: int) -> Row:
    x_BTF, lengths_B = _batch([NUM_FRAMES] * batch_size)
    ours, other = _ours().eval(), _other().eval()
    with torch.no_grad():
        return _time_row(
            f"infer_b{batch_size}", lambda: ours(x_BTF, lengths_B), lambda: other(x_BTF), pairs
        )


def _time_row(
    name: str, ours: Callable[[], object], other: Callable[[], object], pairs: int
) -> Row:
    """Medians of pairs run in turn, so that what else the machine does meets both."""
    for _ in range(2):  # the first calls compile and reserve memory
        ours()
        other()
    times = [(_milliseconds(ours), _milliseconds(other)) for _ in range(pairs)]
    our_ms, other_ms = (median(column) for column in zip(*times, strict=True))
    ratio = median(theirs / own for own, theirs in times)
    return {
        "name": name,
        "ours": round(our_ms, 2),
        "other": round(other_ms, 2),
        "unit": "ms",
        "ratio": round(ratio, 2),
    }


def _milliseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begin)


def _error_row(name: str, lengths: list[int]) -> Row:
    """The largest error in any gradient, relative to that gradient's largest entry."""
    x_BTF, lengths_B = _batch(lengths)
    ours = _ours()
    other = _other().double()
    other.load_state_dict(ours.state_dict())
    weights_BTS = torch.randn(len(lengths), max(lengths), 2 * HIDDEN_SIZE)
    inputs = (x_BTF.requires_grad_(), x_BTF.detach().double().requires_grad_())
    packed = pack_padded_sequence(inputs[1], lengths_B, batch_first=True, enforce_sorted=False)
    states = (
        ours(inputs[0], lengths_B),
        pad_packed_sequence(other(packed)[0], batch_first=True)[0],
    )
    found, expected = (
        torch.autograd.grad((states_BTS * weights_BTS).sum(), [x, *module.parameters()])
        for states_BTS, x, module in zip(states, inputs, (ours, other), strict=True)
    )
    error = max(
        ((f - e).abs().max() / e.abs().max()).item() for f, e in zip(found, expected, strict=True)
    )
    return {
        "name": name,
        "ours": float(f"{error:.2e}"),
        "other": ERROR_BOUND,
        "unit": "relative",
        "ratio": round(ERROR_BOUND / error, 2),
    }


def _batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(len(lengths), max(lengths), NUM_FEATURES), torch.tensor(lengths)


def _ours() -> nn.Module:
    return recurrent_layers(
        "gru", NUM_FEATURES, HIDDEN_SIZE, NUM_LAYERS, bidirectional=True, dropout=0.0
    )


def _other() -> nn.GRU:
    return nn.GRU(NUM_FEATURES, HIDDEN_SIZE, NUM_LAYERS, bidirectional=True, batch_first=True)
