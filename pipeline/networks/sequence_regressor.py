"""SequenceRegressor: the one network that all three stages train."""

# B = batch, T = time (frames), F = input columns, H = hidden, O = outputs

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.networks.recurrent import recurrent_layers
from pipeline.spec import NetworkSpec


class SequenceRegressor(nn.Module):
    """Recurrent layers, then a linear head, frame by frame.

    Args:
        spec: its shape.
        input_size: number of input columns, F.
        output_size: number of outputs, O.
        side_size: how many of the last input columns are difficulties: they pass by the projection and the input
            dropout, so that a wide set cannot drown them.
    """

    def __init__(
        self, spec: NetworkSpec, input_size: int, output_size: int, difficulty_size: int = 0
    ) -> None:
        super().__init__()
        self.difficulty_size = difficulty_size
        self.input_dropout = spec.input_dropout
        feature_size = input_size - difficulty_size
        self.projection = (
            nn.Linear(feature_size, spec.projection_size) if spec.projection_size else None
        )
        self.recurrent = recurrent_layers(
            spec.cell,
            (spec.projection_size or feature_size) + difficulty_size,
            spec.hidden_size,
            num_layers=spec.num_layers,
            bidirectional=spec.bidirectional,
            dropout=spec.dropout,
        )
        states_size = spec.hidden_size * (2 if spec.bidirectional else 1)
        self.bottleneck = (
            nn.Linear(states_size, spec.bottleneck_size) if spec.bottleneck_size else None
        )
        self.head = nn.Linear(spec.bottleneck_size or states_size, output_size)
        self.skip = nn.Linear(feature_size, output_size) if spec.skip else None

    def start_from(self, weight_F: Tensor, bias: float) -> None:
        """Begin as a weighted sum of the feature columns; the recurrent layers then learn what to add to it."""
        if self.skip is None:
            raise ValueError("This network has no path beside its recurrent layers.")
        with torch.no_grad():
            self.skip.weight.copy_(weight_F.expand_as(self.skip.weight))
            self.skip.bias.fill_(bias)
            self.head.weight.zero_()
            self.head.bias.zero_()

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Predict every frame.

        Args:
            x_BTF: normalised inputs, padded at the end.
            lengths_B: frames of each sequence, int64, on the CPU.

        Returns:
            y_BTO; what stands in the padding has no meaning.
        """
        features_BTF, side_BTF = (
            x_BTF[..., : x_BTF.shape[2] - self.difficulty_size],
            x_BTF[..., x_BTF.shape[2] - self.difficulty_size :],
        )
        skipped_BTO = self.skip(features_BTF) if self.skip is not None else 0.0
        if self.training and self.input_dropout:
            keep_B1F = torch.rand_like(features_BTF[:, :1]) >= self.input_dropout
            features_BTF = features_BTF * keep_B1F / (1 - self.input_dropout)
        if self.projection is not None:
            features_BTF = self.projection(features_BTF)
        states_BTH = self.recurrent(torch.cat([features_BTF, side_BTF], dim=2), lengths_B)
        if self.bottleneck is not None:
            states_BTH = self.bottleneck(states_BTH)
        y_BTO: Tensor = self.head(states_BTH) + skipped_BTO
        return y_BTO
