"""The gate of a fusion: how much each modality's prediction is trusted at each frame.

Knows no stage: what its columns and outputs mean is the business of who builds it.
"""

# B = batch, T = time (frames), F = input columns, M = modalities, H = hidden

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.networks.recurrent import recurrent_layers
from pipeline.spec import FusionNetworkSpec

NO_PREDICTION = -1.0
"""Presence of a modality that has no prediction for the session: its weight is 0."""


class ModalityGate(nn.Module):
    """A weighted mean of predictions; the weights of a frame are a softmax over its modalities.

    It begins as the plain mean of the modalities that have a prediction. A scale and a bias, which
    begin as 1 and 0, correct that means vary less than labels do.

    Args:
        spec: the shape of the network, of the kind "gate" or "gated_recurrent".
        input_size: number of input columns, F: the predictions of M modalities (z-scores), their
            presence (1 at a frame where the modality is there, 0 where it is not, `NO_PREDICTION`
            where it has none), then whatever else helps to decide.
        num_modalities: M.
    """

    std_M: Tensor
    mean_M: Tensor

    def __init__(self, spec: FusionNetworkSpec, input_size: int, num_modalities: int) -> None:
        super().__init__()
        self.num_modalities = num_modalities
        self.input_dropout = spec.input_dropout

        self.recurrent: nn.Module | None = None
        self.layers: nn.Module | None = None
        if spec.kind == "gated_recurrent":
            self.recurrent = recurrent_layers(
                spec.cell,
                input_size,
                spec.hidden_size,
                num_layers=spec.num_layers,
                bidirectional=spec.bidirectional,
                dropout=spec.dropout,
            )
            states_size = spec.hidden_size * (2 if spec.bidirectional else 1)
        else:
            self.layers = _feed_forward(spec, input_size)
            states_size = spec.hidden_size

        self.head = nn.Linear(states_size, num_modalities)
        self.scale = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(()))
        # From z-scores of the predictions to z-scores of the label.
        self.register_buffer("std_M", torch.ones(num_modalities))
        self.register_buffer("mean_M", torch.zeros(num_modalities))

    def start_from_mean(self, std_M: Tensor, mean_M: Tensor) -> None:
        """Begin as the mean of the predictions.

        Args:
            std_M: standard deviation of each modality's prediction, in those of the label.
            mean_M: its mean, likewise, with the label's mean as 0.
        """
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()
            self.std_M.copy_(std_M)
            self.mean_M.copy_(mean_M)

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Join the predictions of every frame.

        Args:
            x_BTF: normalised inputs, padded at the end.
            lengths_B: frames of each sequence, int64, on the CPU.

        Returns:
            Shape (B, T, 1 + M): the output in z-scores of the label, then the weight of each
            modality. The weights sum to 1, or are 0 where no modality has a prediction; the output
            is then the label's mean. Those of the padding have no meaning.
        """
        num_modalities = self.num_modalities
        prediction_BTM = x_BTF[..., :num_modalities] * self.std_M + self.mean_M
        has_prediction_BTM = x_BTF[..., num_modalities : 2 * num_modalities] > NO_PREDICTION / 2

        if self.training and self.input_dropout:
            is_kept_B1F = torch.rand_like(x_BTF[:, :1]) >= self.input_dropout
            x_BTF = x_BTF * is_kept_B1F / (1 - self.input_dropout)
        states_BTH = self._states(x_BTF, lengths_B)

        # A finite number, because a softmax of nothing but minus infinities is NaN.
        logits_BTM = self.head(states_BTH).masked_fill(~has_prediction_BTM, -1e4)
        weights_BTM = torch.softmax(logits_BTM, dim=2) * has_prediction_BTM

        y_BT1 = (weights_BTM * prediction_BTM).sum(dim=2, keepdim=True) * self.scale + self.bias
        y_BT1 = y_BT1 * has_prediction_BTM.any(dim=2, keepdim=True)
        return torch.cat([y_BT1, weights_BTM], dim=2)

    def _states(self, x_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        states_BTH: Tensor
        if self.recurrent is not None:
            states_BTH = self.recurrent(x_BTF, lengths_B)
        else:
            assert self.layers is not None
            states_BTH = self.layers(x_BTF)
        return states_BTH


def _feed_forward(spec: FusionNetworkSpec, input_size: int) -> nn.Module:
    layers: list[nn.Module] = []
    for layer in range(spec.num_layers):
        layers += [nn.Linear(spec.hidden_size if layer else input_size, spec.hidden_size)]
        layers += [nn.ReLU(), nn.Dropout(spec.dropout)]
    return nn.Sequential(*layers)
