"""The gate of a fusion: how much each modality's prediction is trusted at each frame.

Knows no stage: what its columns and outputs mean is the business of who builds it.
"""

# B = batch, T = time (frames), F = input columns, M = modalities, H = hidden
# C = what the gate reads of one modality, K = columns that belong to no modality

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.networks.recurrent import recurrent_layers
from pipeline.spec import FusionNetworkSpec

NO_PREDICTION = -1.0
"""Presence of a modality that has no prediction for the session: its weight is 0."""
PREFERENCE_PACE = 2.0
"""How much faster than the network a modality's constant is learned: it is but one number."""


class ModalityGate(nn.Module):
    """A weighted mean of predictions; the weights of a frame are a softmax over its modalities.

    One network scores all modalities, each from what is known of it and of their mean; only a
    constant is learned for each modality. So it learns what difficulty and disagreement mean, and
    not to follow the modality that happened to suit the people it learned from.

    It begins as the plain mean of the modalities that have a prediction. A scale and a bias, which
    begin as 1 and 0, correct that means vary less than labels do.

    Args:
        spec: the shape of the network, of the kind "gate" or "gated_recurrent".
        input_size: number of input columns, F: the predictions of M modalities (z-scores), their
            presence (1 at a frame where the modality is there, 0 where it is not, `NO_PREDICTION`
            where it has none), K columns that belong to no modality, then difficulties, if any.
        num_modalities: M.
        difficulty_size: M, or 0 without difficulties.
    """

    std_M: Tensor
    mean_M: Tensor

    def __init__(
        self, spec: FusionNetworkSpec, input_size: int, num_modalities: int, difficulty_size: int
    ) -> None:
        super().__init__()
        self.num_modalities, self.difficulty_size = num_modalities, difficulty_size
        self.input_dropout = spec.input_dropout
        num_shared = input_size - 2 * num_modalities - difficulty_size
        size_of_modality = 4 + num_shared + (2 if difficulty_size else 0)

        self.recurrent: nn.Module | None = None
        self.layers: nn.Module | None = None
        if spec.kind == "gated_recurrent":
            self.recurrent = recurrent_layers(
                spec.cell,
                size_of_modality,
                spec.hidden_size,
                num_layers=spec.num_layers,
                bidirectional=spec.bidirectional,
                dropout=spec.dropout,
            )
            states_size = spec.hidden_size * (2 if spec.bidirectional else 1)
        else:
            self.layers = _feed_forward(spec, size_of_modality)
            states_size = spec.hidden_size

        self.head = nn.Linear(states_size, 1)
        self.preference_M = nn.Parameter(torch.zeros(num_modalities))
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
        presence_BTM = x_BTF[..., num_modalities : 2 * num_modalities]
        has_prediction_BTM = presence_BTM > NO_PREDICTION / 2
        prediction_BTM = x_BTF[..., :num_modalities] * self.std_M + self.mean_M
        prediction_BTM = prediction_BTM * has_prediction_BTM

        x_BTMC = self._columns_of_modalities(x_BTF, prediction_BTM, has_prediction_BTM)
        if self.training and self.input_dropout:
            is_kept_B11C = torch.rand_like(x_BTMC[:, :1, :1]) >= self.input_dropout
            x_BTMC = x_BTMC * is_kept_B11C / (1 - self.input_dropout)

        # A finite number, because a softmax of nothing but minus infinities is NaN.
        score_BTM = self.head(self._states(x_BTMC, lengths_B))[..., 0]
        score_BTM = score_BTM + PREFERENCE_PACE * self.preference_M
        score_BTM = score_BTM.masked_fill(~has_prediction_BTM, -1e4)
        weights_BTM = torch.softmax(score_BTM, dim=2) * has_prediction_BTM

        y_BT1 = (weights_BTM * prediction_BTM).sum(dim=2, keepdim=True) * self.scale + self.bias
        y_BT1 = y_BT1 * has_prediction_BTM.any(dim=2, keepdim=True)
        return torch.cat([y_BT1, weights_BTM], dim=2)

    def _columns_of_modalities(
        self, x_BTF: Tensor, prediction_BTM: Tensor, has_prediction_BTM: Tensor
    ) -> Tensor:
        """Return what the gate reads of each modality, shape (B, T, M, C)."""
        num_modalities = self.num_modalities
        count_BT1 = has_prediction_BTM.sum(dim=2, keepdim=True)
        mean_BT1 = prediction_BTM.sum(dim=2, keepdim=True) / count_BT1.clamp_min(1)
        columns = [
            prediction_BTM,
            prediction_BTM - mean_BT1,
            x_BTF[..., num_modalities : 2 * num_modalities],
            (count_BT1 / num_modalities).expand_as(prediction_BTM),
        ]

        if self.difficulty_size:
            difficulty_BTM = x_BTF[..., -self.difficulty_size :]
            columns += [difficulty_BTM, difficulty_BTM - difficulty_BTM.mean(dim=2, keepdim=True)]

        num_shared = x_BTF.shape[2] - 2 * num_modalities - self.difficulty_size
        shared_BTK = x_BTF[..., 2 * num_modalities : 2 * num_modalities + num_shared]
        columns += [column[..., None].expand_as(prediction_BTM) for column in shared_BTK.unbind(2)]
        return torch.stack(columns, dim=3)

    def _states(self, x_BTMC: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the states that scores are made of, shape (B, T, M, H)."""
        states: Tensor
        if self.recurrent is None:
            assert self.layers is not None
            states = self.layers(x_BTMC)
            return states

        # Each modality is a sequence of its own.
        num_sequences, num_frames, num_modalities, size = x_BTMC.shape
        sequences = x_BTMC.transpose(1, 2).reshape(-1, num_frames, size)
        states = self.recurrent(sequences, lengths_B.repeat_interleave(num_modalities))
        return states.view(num_sequences, num_modalities, num_frames, -1).transpose(1, 2)


def _feed_forward(spec: FusionNetworkSpec, input_size: int) -> nn.Module:
    layers: list[nn.Module] = []
    for layer in range(spec.num_layers):
        layers += [nn.Linear(spec.hidden_size if layer else input_size, spec.hidden_size)]
        layers += [nn.ReLU(), nn.Dropout(spec.dropout)]
    return nn.Sequential(*layers)
