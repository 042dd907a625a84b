"""The recurrent layers over padded sequences: GRU, LSTM, or convolutions in their place.

Knows no task: what goes in, and what becomes of the states, is the business of `SequenceRegressor`.

torch has a fused GRU on a GPU only. On a CPU, in float32, the GRU here hands each layer to
`gru_kernels`, for training and for inference; the LSTM is torch's own. The temporal convolution is
`temporal_convolution`'s: it has no state that walks through time, but is called alike.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from pipeline.networks.temporal_convolution import TemporalConvolution
from pipeline.spec import Cell

# B = sequences, T = time (frames, with padding), F = features
# D = directions, H = hidden units, S = D * H states
# N = frames of all sequences without padding, packed as `gru_kernels` wants them
# G = 3H gates, Q = 4H values that `gru_kernels` keeps


def recurrent_layers(
    cell: Cell,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
) -> nn.Module:
    """Return recurrent layers over padded sequences.

    The parameters of a GRU or an LSTM (names, shapes, initial values) are those of torch.nn.GRU or
    torch.nn.LSTM.

    The module is called with padded sequences `x_BTF` and their lengths `lengths_B`. It returns the
    states of the last layer, shape (B, T, directions * hidden_size), zero at padding. What the
    padding contains changes nothing. Every sequence starts from a state of zero, backwards at its
    own end; a convolution sees zeros outside of it. The module raises a ValueError where `x_BTF`
    has another shape, or where the lengths are not int64 on the CPU, one per sequence, each from 1
    to T.

    Args:
        cell: how a unit carries its state; "tcn" has convolutions over frames in its place.
        input_size: features per frame, F.
        hidden_size: units per layer and direction, H.
        num_layers: layers, each on the states of the one before.
        bidirectional: whether every layer also reads backwards: what comes after a frame.
        dropout: share of a layer's states that the next layer does not see, in training only.
    """
    return CELLS[cell](
        input_size,
        hidden_size,
        num_layers,
        bidirectional=bidirectional,
        # With one layer there is nothing to drop, and torch warns.
        dropout=dropout if num_layers > 1 else 0.0,
    )


class LSTM(nn.LSTM):
    """torch's LSTM, called as `recurrent_layers` says."""

    # Takes lengths, and neither takes nor returns the states that a sequence begins and ends with.
    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return the states of the last layer, shape (B, T, S)."""
        _raise_if_wrong_shape(x_BTF, lengths_B, self.input_size)

        states, _ = super().forward(_pack(x_BTF, lengths_B))
        return _pad(states, x_BTF.shape[1])


class GRU(nn.GRU):
    """torch's GRU, called as `recurrent_layers` says; in float32 on a CPU it is compiled."""

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return the states of the last layer, shape (B, T, S)."""
        _raise_if_wrong_shape(x_BTF, lengths_B, self.input_size)
        if x_BTF.device.type == "cpu" and x_BTF.dtype == self.weight_ih_l0.dtype == torch.float32:
            return self._forward_fused(x_BTF, lengths_B)

        states, _ = super().forward(_pack(x_BTF, lengths_B))
        return _pad(states, x_BTF.shape[1])

    def _forward_fused(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        packing = _FramePacking(lengths_B.numpy(), x_BTF.shape[1])
        states_NS = packing.pack(x_BTF)
        weights = self.all_weights
        num_directions = len(weights) // self.num_layers

        for layer in range(self.num_layers):
            if layer:
                states_NS = nn.functional.dropout(states_NS, self.dropout, self.training)
            directions = weights[layer * num_directions : (layer + 1) * num_directions]
            parameters = [parameter for direction in directions for parameter in direction]
            arguments = (packing.starts, torch.is_grad_enabled(), states_NS, *parameters)
            states_NS = _GruLayer.apply(*arguments)  # type: ignore[no-untyped-call]

        return packing.pad(states_NS)


class TCN(TemporalConvolution):
    """The temporal convolution, called as `recurrent_layers` says."""

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the states of the last block, shape (B, T, S)."""
        _raise_if_wrong_shape(x_BTF, lengths_B, self.input_size)

        return super().forward(x_BTF, lengths_B)


CELLS: dict[Cell, Callable[..., nn.Module]] = {
    "gru": partial(GRU, batch_first=True),
    "lstm": partial(LSTM, batch_first=True),
    "tcn": TCN,
}
"""A cell's name in `NetworkSpec.cell` -> its layers."""


def _raise_if_wrong_shape(x_BTF: Tensor, lengths_B: Tensor, input_size: int) -> None:
    # Compiled code checks no bounds: with a wrong shape it would read the memory of others.
    if x_BTF.ndim != 3 or 0 in x_BTF.shape or x_BTF.shape[2] != input_size:
        raise ValueError(
            f"x has shape {tuple(x_BTF.shape)}; it must be (sequences, frames, {input_size}), "
            "without zeros."
        )

    num_sequences, num_frames, _ = x_BTF.shape
    is_int64_on_cpu = lengths_B.dtype == torch.int64 and lengths_B.device.type == "cpu"
    if lengths_B.shape != (num_sequences,) or not is_int64_on_cpu:
        raise ValueError(
            f"lengths is {lengths_B.dtype} of shape {tuple(lengths_B.shape)} on {lengths_B.device};"
            " it must hold one length per sequence of x:"
            f" torch.int64 of shape ({num_sequences},) on the CPU."
        )

    if lengths_B.min() < 1 or lengths_B.max() > num_frames:
        raise ValueError(
            f"lengths are {lengths_B.tolist()}; each must be from 1 to {num_frames}, "
            "the frames of x. Leave empty sequences out."
        )


def _pack(x_BTF: Tensor, lengths_B: Tensor) -> PackedSequence:
    return pack_padded_sequence(x_BTF, lengths_B, batch_first=True, enforce_sorted=False)


def _pad(states: PackedSequence, num_frames: int) -> Tensor:
    states_BTS, _ = pad_packed_sequence(states, batch_first=True, total_length=num_frames)
    return states_BTS


class _FramePacking:
    """Where the frames of a padded batch lie once they are packed as `gru_kernels` wants them.

    Attributes:
        starts: first packed frame of each time step, and N.
    """

    def __init__(self, lengths_B: NDArray[np.int64], num_frames: int) -> None:
        order_B = np.argsort(-lengths_B, kind="stable")
        is_present_TB = np.arange(lengths_B.max())[:, None] < lengths_B[order_B]
        self.starts: NDArray[np.int64] = np.concatenate([[0], is_present_TB.sum(1).cumsum()])

        # Of each packed frame its row in the padded batch, laid out flat, and the other way round;
        # all padding has the row after the last packed frame.
        step_N, rank_N = is_present_TB.nonzero()
        padded_row_N = order_B[rank_N] * num_frames + step_N
        packed_row_BT = np.full((len(lengths_B), num_frames), len(padded_row_N))
        packed_row_BT.flat[padded_row_N] = np.arange(len(padded_row_N))
        self._padded_row_N = torch.from_numpy(padded_row_N)
        self._packed_row_BT = torch.from_numpy(packed_row_BT)

    def pack(self, x_BTF: Tensor) -> Tensor:
        """Return the frames that are no padding, shape (N, F)."""
        return x_BTF.flatten(0, 1).index_select(0, self._padded_row_N)

    def pad(self, states_NS: Tensor) -> Tensor:
        """Return packed states as padded sequences, shape (B, T, S), zero at padding."""
        padding_1S = states_NS.new_zeros(1, states_NS.shape[1])
        rows = torch.cat([states_NS, padding_1S])

        states = rows.index_select(0, self._packed_row_BT.flatten())
        return states.view(*self._packed_row_BT.shape, -1)


class _GruLayer(torch.autograd.Function):
    """One layer of the GRU over packed frames: all directions, each with four parameters."""

    @staticmethod
    def forward(
        ctx: Any, starts: NDArray[np.int64], grad_enabled: bool, x_NF: Tensor, *parameters: Tensor
    ) -> Tensor:
        # Imported only here, because importing numba takes half a second.
        from pipeline.networks import gru_kernels

        num_frames, num_directions = len(x_NF), len(parameters) // 4
        num_hidden = parameters[1].shape[1]
        num_kept = num_frames if grad_enabled and any(ctx.needs_input_grad) else 0
        states_NDH = x_NF.new_empty(num_frames, num_directions, num_hidden)
        kept_NDQ = x_NF.new_empty(num_kept, num_directions, 4 * num_hidden)

        for d in range(num_directions):
            input_weight_GF, weight_GH, input_bias_G, bias_G = parameters[4 * d : 4 * d + 4]
            transposed = (weight.t().contiguous() for weight in (input_weight_GF, weight_GH))
            inputs = (x_NF, *transposed, input_bias_G, bias_G)
            gru_kernels.forward(starts, d, *_to_arrays(*inputs, states_NDH, kept_NDQ))

        ctx.starts = starts
        ctx.save_for_backward(x_NF, states_NDH, kept_NDQ, *parameters)
        return states_NDH.view(num_frames, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, states_grad_NS: Tensor) -> tuple[Tensor | None, ...]:
        from pipeline.networks import gru_kernels

        x_NF, states_NDH, kept_NDQ, *parameters = ctx.saved_tensors
        states_grad_NDH = states_grad_NS.contiguous().view_as(states_NDH)
        needs_x_grad = ctx.needs_input_grad[2]
        x_grad_NF = torch.zeros_like(x_NF) if needs_x_grad else x_NF.new_empty(0, x_NF.shape[1])
        gradients = [
            torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            for parameter in parameters
        ]

        for d in range(states_NDH.shape[1]):
            weights = (weight.contiguous() for weight in parameters[4 * d : 4 * d + 2])
            inputs = (states_grad_NDH, x_NF, *weights, states_NDH, kept_NDQ)
            outputs = (x_grad_NF, *gradients[4 * d : 4 * d + 4])
            gru_kernels.backward(ctx.starts, d, *_to_arrays(*inputs, *outputs))

        return None, None, x_grad_NF if needs_x_grad else None, *gradients


def _to_arrays(*tensors: Tensor) -> list[NDArray[np.float32]]:
    return [tensor.numpy() for tensor in tensors]
