"""The one network that all three stages train.

Knows no stage: what its columns and outputs mean is the business of who builds it.
"""

# B = batch, T = time (frames), F = input columns, H = hidden, O = outputs

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.networks.recurrent import recurrent_layers
from pipeline.spec import NetworkSpec

OUTPUT_LAYERS = ("head", "skip")
"""The layers of a `SequenceRegressor` that give its outputs: one row of weights for each."""


class SequenceRegressor(nn.Module):
    """Recurrent layers, then a linear head, frame by frame.

    Beside them a spec may ask for a projection of the features before the recurrent layers, for a
    bottleneck after them, and for a linear path from the features to the outputs.

    Args:
        spec: the shape of the network.
        input_size: number of input columns, F: features, then difficulties.
        output_size: number of outputs, O.
        difficulty_size: how many of the last input columns are difficulties. Neither the projection
            nor the input dropout touches them, so that a wide feature set cannot drown them.
    """

    def __init__(
        self, spec: NetworkSpec, input_size: int, output_size: int, difficulty_size: int = 0
    ) -> None:
        super().__init__()
        self.difficulty_size = difficulty_size
        self.input_dropout = spec.input_dropout
        feature_size = input_size - difficulty_size
        states_size = spec.hidden_size * (2 if spec.bidirectional else 1)

        # The order of these layers is that in which they draw their initial values.
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
        self.bottleneck = (
            nn.Linear(states_size, spec.bottleneck_size) if spec.bottleneck_size else None
        )
        self.head = nn.Linear(spec.bottleneck_size or states_size, output_size)
        self.skip = nn.Linear(feature_size, output_size) if spec.skip else None

    def start_from(self, weight_F: Tensor, bias: float) -> None:
        """Begin as a weighted sum of the features; the recurrent layers learn what to add to it.

        Args:
            weight_F: weight of each feature column, difficulties left out.
            bias: added to the sum.

        Raises:
            ValueError: the network has no path beside its recurrent layers.
        """
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
            Outputs of shape (B, T, O); those of the padding have no meaning.
        """
        feature_size = x_BTF.shape[2] - self.difficulty_size
        features_BTF = x_BTF[..., :feature_size]
        difficulty_BTF = x_BTF[..., feature_size:]
        skipped_BTO = self.skip(features_BTF) if self.skip is not None else 0.0

        if self.training and self.input_dropout:
            is_kept_B1F = torch.rand_like(features_BTF[:, :1]) >= self.input_dropout
            features_BTF = features_BTF * is_kept_B1F / (1 - self.input_dropout)
        if self.projection is not None:
            features_BTF = self.projection(features_BTF)

        states_BTH = self.recurrent(torch.cat([features_BTF, difficulty_BTF], dim=2), lengths_B)
        if self.bottleneck is not None:
            states_BTH = self.bottleneck(states_BTH)

        y_BTO: Tensor = self.head(states_BTH) + skipped_BTO
        return y_BTO


def keep_outputs(weights: Mapping[str, Tensor], output_size: int) -> dict[str, Tensor]:
    """Return a network's weights without those of its last outputs.

    Args:
        weights: the state of a `SequenceRegressor`.
        output_size: how many outputs, the first ones, are kept.
    """
    return {
        name: tensor[:output_size].clone() if name.split(".")[0] in OUTPUT_LAYERS else tensor
        for name, tensor in weights.items()
    }
