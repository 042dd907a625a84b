"""The temporal convolution: residual blocks of dilated convolutions over padded sequences.

Knows no task. Bai, S., Kolter, J. Z., Koltun, V. (2018): An empirical evaluation of generic
convolutional and recurrent networks for sequence modeling. arXiv 1803.01271. What is normalised are
weights (Salimans and Kingma 2016, arXiv 1602.07868) and no batch: no sequence depends on another.

It is written as products of matrices. All sequences of a batch lie in one matrix, one frame per
row, with so many rows of zeros between them that no tap of a convolution reaches from one into the
next. A tap is then a product of some rows in a row with a small matrix: nothing is copied, and on
one thread of a CPU this takes less time than torch's convolution.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# B = sequences, T = time (frames, with padding), F = features, H = hidden units
# S = states: directions * H, K = taps of a convolution, I and O = its input and output channels
# N = rows: the frames of all sequences, and the zeros between them; M = rows that are no frame

KERNEL_SIZE = 5
"""Taps of every convolution: odd, so that a centred one looks as far back as ahead."""


class TemporalConvolution(nn.Module):
    """Residual blocks over padded sequences, one per layer.

    A block is two convolutions with the same dilation, 2 to the power of the layer's number, which
    begins at 0. Each is followed by a ReLU. What goes into the block is added to what comes out,
    through a linear layer where their sizes differ; the sum has a ReLU, too. The first convolution
    has `hidden_size` channels, the second as many as a recurrent layer has states.

    A state depends on 9 frames with 1 layer, on 25, 57, 121, 249 and 505 with 2 to 6: 1 more than
    2 * (KERNEL_SIZE - 1) * (2**num_layers - 1).

    Args:
        input_size: features per frame, F.
        hidden_size: units per layer and direction, H.
        num_layers: blocks.
        bidirectional: whether a convolution is centred on its frame, with 2 H states; otherwise it
            sees only frames that have passed, and there are H.
        dropout: share of a block's states that the next block does not see, in training only.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.bidirectional = bidirectional
        self.dropout = dropout

        states_size = hidden_size * (2 if bidirectional else 1)
        block_inputs = [input_size] + [states_size] * (num_layers - 1)
        self.blocks = nn.ModuleList(
            _Block(block_input, hidden_size, states_size) for block_input in block_inputs
        )

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the states of the last block.

        Args:
            x_BTF: sequences, padded at the end; what the padding contains changes nothing.
            lengths_B: frames of each sequence, from 1 to T, int64, on the CPU.

        Returns:
            Shape (B, T, S), zero at padding.
        """
        num_sequences, num_frames, _ = x_BTF.shape
        layers_shifts = [self._shifts(layer, num_frames) for layer in range(len(self.blocks))]
        gap = max(abs(shift) for shifts in layers_shifts for _, shift in shifts)

        is_frame_BT = torch.arange(num_frames + gap) < lengths_B[:, None]
        outside_M = (~is_frame_BT).flatten().nonzero()[:, 0].to(x_BTF.device)
        rows_NF = nn.functional.pad(x_BTF, (0, 0, 0, gap)).flatten(0, 1)
        states_NS = rows_NF.index_fill(0, outside_M, 0.0)

        for layer, (block, shifts) in enumerate(zip(self.blocks, layers_shifts, strict=True)):
            if layer:
                states_NS = nn.functional.dropout(states_NS, self.dropout, self.training)
            states_NS = block(states_NS, shifts, outside_M)

        return states_NS.view(num_sequences, num_frames + gap, -1)[:, :num_frames]

    def _shifts(self, layer: int, num_frames: int) -> list[tuple[int, int]]:
        """Return each tap of a layer, and how many rows later the row is that it reads.

        Taps that would reach beyond the longest sequence see zeros only, and are left out.
        """
        first = -(KERNEL_SIZE // 2) if self.bidirectional else 1 - KERNEL_SIZE
        shifts = ((tap, (first + tap) * 2**layer) for tap in range(KERNEL_SIZE))
        return [(tap, shift) for tap, shift in shifts if abs(shift) < num_frames]


class _Block(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.convolution1 = _Convolution(input_size, hidden_size)
        self.convolution2 = _Convolution(hidden_size, output_size)
        self.residual = nn.Linear(input_size, output_size) if input_size != output_size else None

    def forward(self, x_NI: Tensor, shifts: Sequence[tuple[int, int]], outside_M: Tensor) -> Tensor:
        hidden_NH: Tensor = self.convolution1(x_NI, shifts).relu()
        hidden_NH = hidden_NH.index_fill(0, outside_M, 0.0)
        change_NO: Tensor = self.convolution2(hidden_NH, shifts).relu()

        residual_NO: Tensor = x_NI if self.residual is None else self.residual(x_NI)
        return (change_NO + residual_NO).relu().index_fill(0, outside_M, 0.0)


class _Convolution(nn.Module):
    """A convolution whose weights have a direction and, for each output channel, a gain.

    They begin as the weights of torch.nn.Conv1d do.
    """

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        limit = (KERNEL_SIZE * input_size) ** -0.5
        weight_KOI = torch.empty(KERNEL_SIZE, output_size, input_size).uniform_(-limit, limit)
        self.direction = nn.Parameter(weight_KOI)
        self.gain = nn.Parameter(_norm(weight_KOI))
        self.bias = nn.Parameter(torch.empty(output_size).uniform_(-limit, limit))

    def forward(self, x_NI: Tensor, shifts: Sequence[tuple[int, int]]) -> Tensor:
        scale_O = self.gain / _norm(self.direction)
        arguments = (shifts, x_NI, self.direction * scale_O[:, None], self.bias)
        y_NO: Tensor = _ShiftedProducts.apply(*arguments)  # type: ignore[no-untyped-call]
        return y_NO


def _norm(weight_KOI: Tensor) -> Tensor:
    """Return the norm of each output channel's weights, shape (O,)."""
    return weight_KOI.square().sum((0, 2)).sqrt()


class _ShiftedProducts(torch.autograd.Function):
    """A convolution as one product per tap, of the rows it reads with its weights."""

    @staticmethod
    def forward(
        ctx: Any,
        shifts: Sequence[tuple[int, int]],
        x_NI: Tensor,
        weight_KOI: Tensor,
        bias_O: Tensor,
    ) -> Tensor:
        y_NO = bias_O.repeat(len(x_NI), 1)
        for tap, written, read in _rows(shifts, len(x_NI)):
            y_NO[written].addmm_(x_NI[read], weight_KOI[tap].t())

        ctx.shifts = shifts
        ctx.save_for_backward(x_NI, weight_KOI)
        return y_NO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_grad_NO: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, weight_KOI = ctx.saved_tensors
        y_grad_NO = y_grad_NO.contiguous()
        x_grad_NI = torch.zeros_like(x_NI) if ctx.needs_input_grad[1] else None
        weight_grad_KOI = torch.zeros_like(weight_KOI)

        for tap, written, read in _rows(ctx.shifts, len(x_NI)):
            torch.mm(y_grad_NO[written].t(), x_NI[read], out=weight_grad_KOI[tap])
            if x_grad_NI is not None:
                x_grad_NI[read].addmm_(y_grad_NO[written], weight_KOI[tap])

        return None, x_grad_NI, weight_grad_KOI, y_grad_NO.sum(0)


def _rows(shifts: Sequence[tuple[int, int]], num_rows: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each tap with the rows that it adds to, and those that it reads."""
    for tap, shift in shifts:
        begin, end = max(0, -shift), num_rows - max(0, shift)
        yield tap, slice(begin, end), slice(begin + shift, end + shift)
