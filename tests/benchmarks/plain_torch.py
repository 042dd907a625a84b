"""Recurrent layers as plain torch has them: what our fused GRU is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# B = sequences, T = time (frames, with padding), F = features, S = states


class PlainGRU(nn.GRU):
    """torch.nn.GRU on padded sequences, called as our own layers are."""

    # Unlike torch's layer it takes lengths, and returns the states of the last layer only.
    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return the states of the last layer, shape (B, T, S)."""
        # Packing is slow on a CPU, so sequences of one length are not packed.
        if (lengths_B == x_BTF.shape[1]).all():
            states_BTS: Tensor = super().forward(x_BTF)[0]
            return states_BTS

        packed = pack_padded_sequence(x_BTF, lengths_B, batch_first=True, enforce_sorted=False)
        states, _ = super().forward(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=x_BTF.shape[1])[0]


def plain_layers(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
) -> nn.Module:
    """Return recurrent layers of torch; called with the arguments of `recurrent_layers`."""
    assert cell == "gru"
    return PlainGRU(
        input_size,
        hidden_size,
        num_layers,
        batch_first=True,
        bidirectional=bidirectional,
        dropout=dropout if num_layers > 1 else 0.0,
    )


@contextmanager
def networks_in_plain_torch() -> Iterator[None]:
    """Build networks from plain layers within the block; those that are built already stay."""
    with mock.patch("pipeline.networks.sequence_regressor.recurrent_layers", plain_layers):
        yield
