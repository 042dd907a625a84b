"""The temporal convolution: residual blocks of dilated convolutions over padded sequences.

Knows no task. Bai, S., Kolter, J. Z., Koltun, V. (2018): An empirical evaluation of generic
convolutional and recurrent networks for sequence modeling. arXiv 1803.01271. What is normalised are
weights (Salimans and Kingma 2016, arXiv 1602.07868) and no batch: no sequence depends on another.
"""

import torch
from torch import Tensor, nn

# B = sequences, T = time (frames, with padding), F = features, H = hidden units
# S = states: directions * H, K = taps of a convolution, I and O = its input and output channels

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
        self.dropout = dropout

        states_size = hidden_size * (2 if bidirectional else 1)
        block_inputs = [input_size] + [states_size] * (num_layers - 1)
        self.blocks = nn.ModuleList(
            _Block(block_input, hidden_size, states_size, 2**layer, bidirectional)
            for layer, block_input in enumerate(block_inputs)
        )

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the states of the last block.

        Args:
            x_BTF: sequences, padded at the end; what the padding contains changes nothing.
            lengths_B: frames of each sequence, from 1 to T, int64, on the CPU.

        Returns:
            Shape (B, T, S), zero at padding.
        """
        is_padding_BT = torch.arange(x_BTF.shape[1]) >= lengths_B[:, None]
        is_padding_B1T = is_padding_BT[:, None].to(x_BTF.device)
        is_frame_B1T = (~is_padding_B1T).to(x_BTF.dtype)
        # In the padding there may be a NaN, which a product with 0 would keep.
        states_BST = x_BTF.transpose(1, 2).masked_fill(is_padding_B1T, 0.0)

        for layer, block in enumerate(self.blocks):
            if layer:
                states_BST = nn.functional.dropout(states_BST, self.dropout, self.training)
            states_BST = block(states_BST, is_frame_B1T)

        return states_BST.masked_fill(is_padding_B1T, 0.0).transpose(1, 2).contiguous()


class _Block(nn.Module):
    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, dilation: int, is_centred: bool
    ) -> None:
        super().__init__()
        self.convolution1 = _Convolution(input_size, hidden_size, dilation, is_centred)
        self.convolution2 = _Convolution(hidden_size, output_size, dilation, is_centred)
        self.residual = nn.Linear(input_size, output_size) if input_size != output_size else None

    def forward(self, x_BIT: Tensor, is_frame_B1T: Tensor) -> Tensor:
        hidden_BHT = self.convolution1(x_BIT).relu() * is_frame_B1T
        change_BOT = self.convolution2(hidden_BHT).relu()

        residual_BOT = x_BIT
        if self.residual is not None:
            residual_BOT = self.residual(x_BIT.transpose(1, 2)).transpose(1, 2)
        states_BOT: Tensor = (change_BOT + residual_BOT).relu() * is_frame_B1T
        return states_BOT


class _Convolution(nn.Module):
    """A convolution whose weights have a direction and, for each output channel, a gain.

    They begin as the weights of torch.nn.Conv1d do.
    """

    def __init__(self, input_size: int, output_size: int, dilation: int, is_centred: bool) -> None:
        super().__init__()
        self.dilation, self.is_centred = dilation, is_centred
        limit = (KERNEL_SIZE * input_size) ** -0.5

        weight_OIK = torch.empty(output_size, input_size, KERNEL_SIZE).uniform_(-limit, limit)
        self.direction = nn.Parameter(weight_OIK)
        self.gain = nn.Parameter(_norm(weight_OIK))
        self.bias = nn.Parameter(torch.empty(output_size).uniform_(-limit, limit))

    def forward(self, x_BIT: Tensor) -> Tensor:
        scale_O = self.gain / _norm(self.direction)
        weight_OIK = self.direction * scale_O[:, None, None]

        # Taps that lie beyond the longest sequence see zeros only. Leaving them out bounds the
        # padding, which would double with every layer.
        num_reached = (x_BIT.shape[2] - 1) // self.dilation
        if self.is_centred:
            num_taps = min(KERNEL_SIZE // 2, num_reached)
            first, last = KERNEL_SIZE // 2 - num_taps, KERNEL_SIZE // 2 + num_taps
            padding = num_taps * self.dilation
            weight_OIK = weight_OIK[..., first : last + 1]
        else:
            num_taps = min(KERNEL_SIZE - 1, num_reached)
            padding = 0
            weight_OIK = weight_OIK[..., KERNEL_SIZE - 1 - num_taps :]
            x_BIT = nn.functional.pad(x_BIT, (num_taps * self.dilation, 0))

        return nn.functional.conv1d(
            x_BIT, weight_OIK, self.bias, padding=padding, dilation=self.dilation
        )


def _norm(weight_OIK: Tensor) -> Tensor:
    """Return the norm of each output channel's weights, shape (O,)."""
    return weight_OIK.square().sum((1, 2)).sqrt()
